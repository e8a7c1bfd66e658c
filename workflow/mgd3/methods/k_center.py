"""K-center: real images that leave none of their class far away (Sener and Savarese, ICLR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Job, MethodSettings, Teacher

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Chosen by a teacher's features."""

    label: ClassVar = "k-center"
    mirrors: ClassVar = False
    needs: ClassVar = ("teacher",)
    teacher: Teacher = "resnet18"


def distil(job: Job) -> dict[str, Tensor]:
    """`ipc` real images a class, the first drawn by class and generation seed, in greedy order."""
    from .selection.k_center import spread

    return spread(job)
