"""Class-conditional diffusion transformers (Peebles and Xie, ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import COMMON_FILES, WEIGHTS, FamilySettings

if TYPE_CHECKING:
    import torch

    from ..base import Generator


class Settings(FamilySettings):
    """DiT, and the small ones that are trained here."""

    files: ClassVar = (*COMMON_FILES, "transformer/config.json", f"transformer/{WEIGHTS}")
    pipelines: ClassVar = ("DiTPipeline", "ModeGuidedDiTPipeline")
    network: ClassVar = "transformer"
    image_size: ClassVar = 256


def load(
    folder: Path, prompts: Sequence[str] | None, device: torch.device | str, dtype: torch.dtype
) -> Generator:
    """The generator in a folder. Raises UserError for a part that is missing or damaged."""
    from ..dit import DiTGenerator

    return DiTGenerator.load(folder, device=device, dtype=dtype)
