"""Class-conditional latent diffusion (Rombach et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import COMMON_FILES, UNET_FILES, WEIGHTS, FamilySettings

if TYPE_CHECKING:
    import torch

    from ..base import Generator


class Settings(FamilySettings):
    """A U-Net with a class embedder."""

    files: ClassVar = (
        *COMMON_FILES,
        *UNET_FILES,
        "class_embedder/config.json",
        f"class_embedder/{WEIGHTS}",
    )
    pipelines: ClassVar = ("ModeGuidedLDMPipeline",)


def load(
    folder: Path, prompts: Sequence[str] | None, device: torch.device | str, dtype: torch.dtype
) -> Generator:
    """The generator in a folder. Raises UserError for a part that is missing or damaged."""
    from ..unet import load_ldm

    return load_ldm(folder, device=device, dtype=dtype)
