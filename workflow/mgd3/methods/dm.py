"""DM: mean features of random networks are matched (Zhao and Bilen, WACV 2023, 2110.04181).

Facts from `main_DM.py` of VICO-UoE/DatasetCondensation. There images are floats without bounds;
here they are clipped to black and white when they are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Iterations, Job, MatchedPixels

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MatchedPixels):
    """Mean features are matched."""

    label: ClassVar = "DM"
    iterations: Iterations = 20_000


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
    from .matching.pixels import distribution_matching

    return distribution_matching(job)
