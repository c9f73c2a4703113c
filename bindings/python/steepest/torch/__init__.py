# SPDX-License-Identifier: Apache-2.0
"""Optimizers for PyTorch on a CPU, drop-in for those of torch.optim.

optimizer = steepest.torch.AdamW(model.parameters(), lr=3e-4)      # torch.optim.AdamW
optimizer = steepest.torch.Muon(matrices, lr=0.02)                 # torch.optim.Muon
optimizer = steepest.torch.MuonAdamW(model, lr=3e-4)               # Muon where it belongs
scheduler = steepest.torch.ScheduleLR(optimizer, 1000, "cosine", warmup_steps=50)
"""

from ._bitsandbytes import to_bitsandbytes
from ._optimizer import Optimizer
from .adamw import AdamW
from .muon import Muon
from .muon_adamw import MuonAdamW, split_parameters
from .schedule import ArrayLR, ScheduleLR

__all__ = [
    "AdamW",
    "ArrayLR",
    "Muon",
    "MuonAdamW",
    "Optimizer",
    "ScheduleLR",
    "split_parameters",
    "to_bitsandbytes",
]
