"""DC: gradients of the loss are matched (Zhao, Mopuri and Bilen, ICLR 2021, arXiv 2006.05929).

Facts from `main.py` of VICO-UoE/DatasetCondensation. The defaults are those of the rows that later
tables print of it, made with `distill_dc.py` of GeorgeCazenavette/glad in pixel space: one step for
each network, which is never trained, and DSA. As in the original, there images are floats without
bounds; here they are clipped to black and white when they are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from ..base.settings import Count, Setting
from .base import EVERY, Init, Job, MatchedPixels

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MatchedPixels):
    """Gradients of the loss are matched."""

    label: ClassVar = "DC"
    together: ClassVar = EVERY
    init: Init = "noise"
    outer_loop: Annotated[
        Count | None, Setting("steps with one network; null for DC's own number by IPC")
    ] = 1
    inner_loop: Annotated[
        Count | None,
        Setting(
            "epochs on the synthetic images between two steps; null for DC's own number by IPC"
        ),
    ] = 1
    dsa: Annotated[bool, Setting("differentiable siamese augmentation in the steps")] = True


def distil(job: Job) -> dict[str, Tensor]:
    """Images of all classes at once: networks are trained on the images of all.

    With the default `outer_loop` of 1 they are not trained, and a class depends on no other.
    """
    from .matching.pixels import gradient_matching

    return gradient_matching(job)
