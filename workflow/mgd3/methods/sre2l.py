"""SRe2L's images: a teacher's batch statistics inverted (Yin, Xing and Shen, NeurIPS 2023).

Facts from `recover/data_synthesis.py` of VILA-Lab/SRe2L (arXiv 2306.13092). Its soft labels are the
protocol `soft-fkd`. The original writes JPEG files; here there is no such step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from ..base.settings import NonNegative, Setting
from .base import Iterations, Job, LearningRate, MethodSettings, Teacher

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Noise is optimised until a teacher's batch statistics on it are those of real images."""

    label: ClassVar = "SRe2L"
    needs: ClassVar = ("teacher",)
    asks_for_classes: ClassVar = True
    together: ClassVar = 100
    teacher: Teacher = "resnet18"
    iterations: Iterations = 4_000
    learning_rate: LearningRate = 0.25
    bn_weight: Annotated[NonNegative, Setting("weight of the distance of batch statistics")] = 0.01


def distil(job: Job) -> dict[str, Tensor]:
    """Images at the size of the teacher's input: image k of up to 100 classes is one batch.

    The batch's statistics are compared with the teacher's, so the classes of a batch depend on each
    other. They are 100 in sequence of all classes of the data set, sorted by name, whichever are
    asked for.

    Raises:
        UserError: the teacher does not know a class.
    """
    from .matching.inversion import invert

    return invert(job, Settings.together)
