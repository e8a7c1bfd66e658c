"""The modes through the decoder, without diffusion: what mode discovery alone is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Flips, Job, MethodSettings, Modes, Pca

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Image k of a class is its mode k, decoded."""

    label: ClassVar = "decoded modes"
    mirrors: ClassVar = False
    needs: ClassVar = ("modes", "generator")
    deterministic: ClassVar = True
    modes: Modes = "kmeans"
    pca: Pca = None
    flips: Flips = False

    @classmethod
    def label_parts(cls, settings: Mapping[str, Any]) -> list[str]:
        return []


def distil(job: Job) -> dict[str, Tensor]:
    """No draw enters."""
    from ..base import artifacts
    from ..generators.vae import load_vae, to_size

    vae = load_vae(job.generator, device=job.device)
    modes = artifacts.load_tensors(job.modes, job.classes)
    size = job.dataset.size
    return {
        name: to_size(vae.decode(modes[name].to(job.device)), size).cpu() for name in job.classes
    }
