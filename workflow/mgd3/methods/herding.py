"""Herding: the real images whose mean feature follows that of their class (Welling, ICML 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Job, MethodSettings, Teacher

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Chosen by a teacher's features."""

    label: ClassVar = "herding"
    mirrors: ClassVar = False
    needs: ClassVar = ("teacher",)
    deterministic: ClassVar = True
    teacher: Teacher = "resnet18"


def distil(job: Job) -> dict[str, Tensor]:
    """`ipc` real images a class, greedily; IPC 10 is the start of IPC 20."""
    from .selection.herding import herded

    return herded(job)
