"""The real images nearest to the modes in latent space: selection without a generator."""

from __future__ import annotations

import torch

from ..base import artifacts
from ..data.images import read_images
from . import Job


def distil(job: Job) -> dict[str, torch.Tensor]:
    """The real image behind each mode of discovery `nearest`."""
    images = artifacts.tensor_metadata(job.modes)["images"]
    for name in job.classes:
        job.index.require_unchanged(job.dataset.source, images[name])
    return {
        name: read_images(job.dataset.source, images[name], job.dataset.size)
        for name in job.classes
    }
