"""ManifoldGD (Roy et al., CVPR 2026, arXiv 2602.23295): see `mgd3.diffusion.manifold`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..diffusion.manifold import ManifoldSettings
from ..diffusion.sampling import Item
from . import Job
from .mgd3 import sample_classes

if TYPE_CHECKING:
    from torch import Tensor


def distil(job: Job) -> dict[str, Tensor]:
    """MGD3 with a tangent plane at each guided step; image k of a class has its mode k."""
    settings = dict(job.settings)
    manifold = ManifoldSettings(
        rule=settings.pop("manifold_rule"),
        scale=settings.pop("manifold_scale"),
        radius=settings.pop("manifold_radius"),
        tangent_dim=settings.pop("tangent_dim"),
    )
    return sample_classes(replace(job, settings=settings), Item, manifold)
