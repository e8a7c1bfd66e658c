"""The real images nearest to the modes in latent space: selection without a generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Job, MethodSettings, Modes, Pca

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Modes that are real images."""

    label: ClassVar = "nearest real images"
    mirrors: ClassVar = False
    needs: ClassVar = ("modes",)
    deterministic: ClassVar = True
    modes: Modes = "nearest"
    pca: Pca = None

    @classmethod
    def label_parts(cls, settings: Mapping[str, Any]) -> list[str]:
        return []


def distil(job: Job) -> dict[str, Tensor]:
    """The real image behind each mode of discovery `nearest`."""
    from ..base import artifacts
    from ..data.images import read_images

    images = artifacts.tensor_metadata(job.modes)["images"]
    for name in job.classes:
        job.index.require_unchanged(job.dataset.source, images[name])
    return {
        name: read_images(job.dataset.source, images[name], job.dataset.size)
        for name in job.classes
    }
