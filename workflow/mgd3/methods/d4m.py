"""D4M's disentangled diffusion (Su et al., CVPR 2024, arXiv 2407.15138): noised prototypes.

What MGD3's tables call D4M under hard labels is this stage alone; D4M's other one, matching soft
labels in training, is the evaluation protocol `soft-fkd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..base.settings import Setting, Sweep
from .base import Flips, Job, Modes, Pca, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.sampling import Item


class Settings(Sampling):
    """Prototypes are noised and denoised."""

    label: ClassVar = "D4M"
    needs: ClassVar = ("modes", "generator")
    modes: Modes = "d4m"
    pca: Pca = None
    flips: Flips = False
    strength: Annotated[
        Sweep[Annotated[float, Field(gt=0, le=1)]],
        Setting(
            "share of the steps by which a prototype is noised and denoised; 1 is pure noise",
            place=90,
            label="strength {:g}",
            always=True,
        ),
    ] = 0.7


def distil(job: Job) -> dict[str, Tensor]:
    """Image k of a class begins from its prototype k, noised to `strength` of the schedule."""
    from .sampling.classes import sample_classes

    return sample_classes(job, _begin)


def _begin(name: str, row: int, prototype: Tensor | None, k: int) -> Item:
    from ..diffusion.sampling import Item

    return Item(name, row, mode=None, k=k, start=prototype)
