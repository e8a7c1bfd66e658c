"""The sampler without modes, which guided methods are compared with: the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..generators.registry import get_generator
from .base import Job, Sampling

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Sampling):
    """What the generator makes of a class by itself."""

    label: ClassVar = "unguided"
    needs: ClassVar = ("generator",)

    @classmethod
    def title(cls, settings: Mapping[str, Any], generator: str | None) -> str:
        """Images of a generator whose making is a method of its own are called after that."""
        return (generator and get_generator(generator).method) or cls.label


def distil(job: Job) -> dict[str, Tensor]:
    """`ipc` images a class, image k from the noise that guided methods begin its image k with."""
    from ..diffusion.sampling import Item
    from .sampling.classes import sample_classes

    return sample_classes(job, Item)
