# SPDX-License-Identifier: Apache-2.0
"""Optimizers for PyTorch on a CPU, drop-in for those of torch.optim.

optimizer = steepest.torch.AdamW(model.parameters(), lr=3e-4)      # torch.optim.AdamW
optimizer = steepest.torch.Muon(matrices, lr=0.02)                 # torch.optim.Muon
optimizer = steepest.torch.MuonAdamW(model, lr=3e-4)               # Muon where it belongs
"""

from ._optimizer import Optimizer
from .adamw import AdamW
from .muon import Muon
from .muon_adamw import MuonAdamW, split_parameters

__all__ = ["AdamW", "Muon", "MuonAdamW", "Optimizer", "split_parameters"]
