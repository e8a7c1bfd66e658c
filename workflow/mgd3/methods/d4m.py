"""D4M's disentangled diffusion (Su et al., CVPR 2024, arXiv 2407.15138): noised prototypes.

What MGD3's tables call D4M under hard labels is this stage alone; D4M's other one, matching soft
labels in training, is the evaluation protocol `soft-fkd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..diffusion.sampling import Item
from . import Job
from .mgd3 import sample_classes

if TYPE_CHECKING:
    from torch import Tensor


def distil(job: Job) -> dict[str, Tensor]:
    """Image k of a class begins from its prototype k, noised to `strength` of the schedule."""
    return sample_classes(job, _begin)


def _begin(name: str, row: int, prototype: Tensor | None, k: int) -> Item:
    return Item(name, row, mode=None, k=k, start=prototype)
