"""Latents of random real images: a control."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


class Settings(DiscoverySettings):
    """Latents of random real images: a control."""

    seeded: ClassVar = True


def discover(x: np.ndarray, k: int, name: str, generation_seed: int) -> Found:
    """Latents of k random real images, drawn anew for each generation seed: a control."""
    import torch

    from ..base.seeding import Draw, torch_generator
    from .clustering import Found

    draws = torch_generator(Draw.RANDOM_MODES, generation_seed, name)
    rows = torch.randperm(len(x), generator=draws)[:k].numpy()
    return Found(x[rows], rows)
