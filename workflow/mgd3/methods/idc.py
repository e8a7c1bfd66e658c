"""IDC-1: gradients of networks in training on real data are matched (Kim et al., ICML 2022).

Facts from `condense.py`, `condense_mp.py`, `argument.py` and `misc/reproduce.py` of
snu-mllab/Efficient-Dataset-Condensation (arXiv 2205.14959), with factor 1: one image is one image.
Networks learn from real images only, of all classes, so a class's images depend on no other's.

What differs from the code: real batches are drawn anew in each step instead of one pass after
another; momentum is of a class's own steps, where there the images of all classes move with each
class's step; all synthetic images of a class are in a step, where there it is at most 128.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from ..base.settings import Count, Natural, Positive, Setting
from .base import Init, Iterations, Job, MethodSettings, OwnNetwork, Size

if TYPE_CHECKING:
    from torch import Tensor

_OWN = "null for IDC's own by the number of classes"


class Settings(MethodSettings):
    """Gradients of networks in training are matched."""

    label: ClassVar = "IDC-1"
    network: OwnNetwork = "resnetap10"
    size: Size = 224
    real_batch: Annotated[
        Count | None, Setting(f"real images of a class in a step of matching; {_OWN}")
    ] = None
    init: Init = "real"
    iterations: Iterations = 500
    learning_rate: Annotated[Positive | None, Setting(f"of what is optimised; {_OWN}")] = None
    inner_loop: Annotated[
        Count, Setting("steps with one network, each followed by some of its training")
    ] = 100
    warmup_epochs: Annotated[
        Natural | None,
        Setting(f"epochs on the real images before a network is matched; {_OWN}"),
    ] = None


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name, the generation seed and the real images of all."""
    from .matching.idc import condense

    return condense(job)
