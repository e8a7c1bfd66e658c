"""Real images of the train split, drawn by class and generation seed, or the first files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...base.errors import UserError
from ...base.seeding import Draw, torch_generator
from ...data.images import decode_images, settle_undecodable

if TYPE_CHECKING:
    from ..base import Job


def first_images(job: Job, *, seeded: bool = True) -> dict[str, torch.Tensor]:
    """uint8 [ipc, 3, S, S] of each class of a job: the first images of a shuffled order, or, not
    `seeded`, of the lexicographic one.

    Raises:
        UserError: a class has fewer, or an image changed or cannot be decoded.
    """
    chosen = {}
    for name in job.classes:
        keys = job.training_images(name, job.ipc)
        if seeded:
            draws = torch_generator(Draw.RANDOM_REAL, job.generation_seed, name)
            keys = [keys[k] for k in torch.randperm(len(keys), generator=draws).tolist()]
        job.index.require_unchanged(job.dataset.source, keys[: job.ipc])
        chosen[name] = _first_decodable(job, keys)
    return chosen


def _first_decodable(job: Job, keys: list[str]) -> torch.Tensor:
    """The first `ipc` images, those after them standing in where the data set says `skip`."""
    found: list[torch.Tensor] = []
    errors: list[UserError] = []
    while len(found) < job.ipc and keys:
        wanted = job.ipc - len(found)
        read = decode_images(job.dataset.source, keys[:wanted], job.dataset.size)
        keys = keys[wanted:]
        found += list(read.pixels)
        errors += read.errors
    whose, enough = f"images drawn of {job.dataset.name}", len(found) >= job.ipc
    total = len(found) + len(errors)
    settle_undecodable(errors, job.dataset.undecodable, whose, total, enough=enough)
    return torch.stack(found)
