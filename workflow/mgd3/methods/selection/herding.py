"""Herding: the real images whose mean feature follows that of their class (Welling, ICML 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data.images import read_images
from ...teachers.features import Features

if TYPE_CHECKING:
    from ..base import Job


def herded(job: Job) -> dict[str, Tensor]:
    """`ipc` real images a class, greedily; IPC 10 is the start of IPC 20."""
    features = Features(job.settings["teacher"], job.teacher, job.dataset, job.index, job.device)
    chosen = {}
    for name in job.classes:
        found, keys = features.of(job.training_images(name, at_least=job.ipc), at_least=job.ipc)
        rows = herding(found, job.ipc).tolist()
        chosen[name] = read_images(
            job.dataset.source, [keys[row] for row in rows], job.dataset.size
        )
    return chosen


def herding(features: Tensor, count: int) -> Tensor:
    """Rows int64 [count] of `features` [N, D], in the order in which they are chosen.

    The k-th (from 0) is the unused row nearest (L2) to (k + 1) * mean - sum of the chosen ones, as
    in the coresets of IDC (snu-mllab/Efficient-Dataset-Condensation).
    """
    x = features.double()
    mean, total = x.mean(0), torch.zeros_like(x[0])
    used = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    chosen = []
    for k in range(count):
        distance = (x - ((k + 1) * mean - total)).square().sum(1)
        row = distance.masked_fill(used, torch.inf).argmin()
        used[row] = True
        total = total + x[row]
        chosen.append(row)
    return torch.stack(chosen)
