"""Means of real images: what a class looks like on average."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Job, MethodSettings

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Image k of a class is the mean of every `ipc`-th of its training images, from k on."""

    label: ClassVar = "class means"
    deterministic: ClassVar = True


def distil(job: Job) -> dict[str, Tensor]:
    """No draw enters."""
    import torch

    from ..data.images import read_images

    made = {}
    for name in job.classes:
        keys = job.training_images(name, job.ipc)
        parts = [
            read_images(job.dataset.source, keys[k :: job.ipc], job.dataset.size).float().mean(0)
            for k in range(job.ipc)
        ]
        made[name] = torch.stack(parts).round().to(torch.uint8)
    return made
