"""MGD3 (Chan-Santiago et al., ICML 2025): images are guided to the modes of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import GuidedSampling, Job

if TYPE_CHECKING:
    from torch import Tensor


class Settings(GuidedSampling):
    """Image k of a class is guided to its mode k (paper, section 3)."""

    label: ClassVar = "MGD3"
    needs: ClassVar = ("modes", "generator")


def distil(job: Job) -> dict[str, Tensor]:
    """One image a mode."""
    from ..diffusion.sampling import Item
    from .sampling.classes import sample_classes

    return sample_classes(job, Item)
