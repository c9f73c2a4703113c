# SPDX-License-Identifier: Apache-2.0
"""Muon on several processes: each computes its share of the matrices and sends the results.

    torchrun --nproc-per-node 2 examples/python/ddp_muon.py
    torchrun --nproc-per-node 2 examples/python/ddp_muon.py --fsdp --checkpoint run

A small network learns the digits of a sum. With --fsdp its parameters are sharded too. With
--checkpoint it is saved at the end, and goes on from there if it exists, on any number of
processes. Needs torch and steepest.
"""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

import steepest.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict


def batch(generator: torch.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.randint(10, (count, 2), generator=generator)
    return nn.functional.one_hot(numbers, 10).flatten(1).float(), numbers.sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--fsdp", action="store_true", help="shard the parameters")
    parser.add_argument("--checkpoint", type=Path, help="directory")
    options = parser.parse_args()

    # A rank that is lost is an error for the others after this time.
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=2))
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // size))
    torch.manual_seed(0)
    hidden = [nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    model: nn.Module = nn.Sequential(*hidden, nn.Linear(128, 19))
    if options.fsdp:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
        optimizer = steepest.torch.MuonAdamW(model, lr=1e-2)  # the mesh tells which ranks
    else:
        model = nn.parallel.DistributedDataParallel(model)
        optimizer = steepest.torch.MuonAdamW(model, lr=1e-2, process_group=model.process_group)

    if options.checkpoint and options.checkpoint.exists():
        states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
        dcp.load(states, checkpoint_id=options.checkpoint)
        set_state_dict(
            model,
            optimizer,
            model_state_dict=states["model"],
            optim_state_dict=states["optimizer"],
        )

    generator = torch.Generator().manual_seed(1000 + rank)  # each rank has its own data
    for step in range(options.steps):
        inputs, sums = batch(generator, 64)
        loss = nn.functional.cross_entropy(model(inputs), sums)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and (step + 1) % 20 == 0:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)

    if options.checkpoint:
        states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
        dcp.save(states, storage_writer=dcp.FileSystemWriter(options.checkpoint, overwrite=True))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
