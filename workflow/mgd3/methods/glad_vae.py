"""GLaD on a VAE's decoder: latents are optimised, not pixels.

GLaD (Cazenavette et al., CVPR 2023, arXiv 2305.01649) optimises the inputs and inner features of
StyleGAN-XL, begun from random ones; facts from `distill_dc.py`, `distill_dm.py` and `glad_utils.py`
of GeorgeCazenavette/glad. Here they are scaled latents of any generator's VAE, which has no samples
of its own to begin with: they begin as those of random real images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Job, Prior

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Prior):
    """Latents are optimised through the decoder."""

    label: ClassVar = "GLaD on the VAE's decoder"
    needs: ClassVar = ("vae",)
    by_objective: ClassVar = {"dm": {"learning_rate": 10.0}}


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
    from .matching.glad import optimise_latents

    return optimise_latents(job)
