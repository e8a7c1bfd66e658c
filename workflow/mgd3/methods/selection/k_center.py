"""K-center: real images that leave none of their class far away (Sener and Savarese, ICLR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...base.seeding import Draw, torch_generator
from ...data.images import read_images
from ...teachers.features import Features

if TYPE_CHECKING:
    from ..base import Job


def spread(job: Job) -> dict[str, Tensor]:
    """`ipc` real images a class, the first drawn by class and generation seed, in greedy order."""
    features = Features(job.settings["teacher"], job.teacher, job.dataset, job.index, job.device)
    chosen = {}
    for name in job.classes:
        found, keys = features.of(job.training_images(name, at_least=job.ipc), at_least=job.ipc)
        draws = torch_generator(Draw.K_CENTER, job.generation_seed, name)
        first = int(torch.randint(len(keys), (), generator=draws))
        rows = k_center(found, job.ipc, first).tolist()
        chosen[name] = read_images(
            job.dataset.source, [keys[row] for row in rows], job.dataset.size
        )
    return chosen


def k_center(features: Tensor, count: int, first: int) -> Tensor:
    """Rows int64 [count] of `features` [N, D]: after `first`, always the one farthest (L2) from its
    nearest chosen row (DeepCore's k-Center Greedy, within one class).
    """
    x = features.double()
    row = torch.tensor(first, device=x.device)
    chosen = [row]
    nearest = (x - x[row]).square().sum(1)
    for _ in range(count - 1):
        # A duplicate of a chosen row is as near as that itself: used rows are never farthest.
        nearest[row] = -1
        row = nearest.argmax()
        nearest = torch.minimum(nearest, (x - x[row]).square().sum(1))
        chosen.append(row)
    return torch.stack(chosen)
