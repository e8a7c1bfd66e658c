"""Stable Diffusion, from prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .base import COMMON_FILES, UNET_FILES, FamilySettings

if TYPE_CHECKING:
    import torch

    from ..base import Generator


class Settings(FamilySettings):
    """A U-Net that attends to the tokens of a prompt."""

    files: ClassVar = (
        *COMMON_FILES,
        *UNET_FILES,
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
    )
    pipelines: ClassVar = ("StableDiffusionPipeline", "ModeGuidedStableDiffusionPipeline")
    # As in the released code.
    draw: ClassVar = "sample"
    # Stop guidance is a training timestep there, and the grid that of its own scheduler.
    sampling: ClassVar = {
        "precision": "bfloat16",
        "cfg": 8.0,
        "cfg_channels": "all",
        "spacing": "leading",
        "stop_unit": "timestep",
        "t_sg": 500,
    }
    image_size: ClassVar = 512


def load(
    folder: Path, prompts: Sequence[str] | None, device: torch.device | str, dtype: torch.dtype
) -> Generator:
    """The generator in a folder. Raises UserError for a part that is missing or damaged."""
    from ..unet import load_stable_diffusion

    return load_stable_diffusion(folder, prompts or [], device=device, dtype=dtype)
