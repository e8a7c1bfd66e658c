"""A generator from its folder, whatever its family."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ..base import artifacts
from ..base.errors import UserError
from .base import Generator
from .families import FAMILIES
from .registry import PIPELINES


def family_of(folder: Path) -> str:
    """ "dit", "ldm" or "sd", by the pipeline class in the folder's model_index.json.

    Raises:
        UserError: the file is missing, or names another kind of pipeline.
    """
    pipeline = artifacts.load_json(folder / "model_index.json", {"_class_name?": str}).get(
        "_class_name"
    )
    if pipeline not in PIPELINES:
        raise UserError(
            f"{folder} holds a {pipeline}", f"give a folder of one of {', '.join(PIPELINES)}"
        )
    return PIPELINES[pipeline]


def load_generator(
    folder: Path,
    *,
    prompts: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Generator:
    """The generator in a folder.

    Args:
        prompts: for a text-to-image generator, what its label rows are to mean; see
            `conditions.conditions_of`.
        dtype: of the network's weights. The sampler stays in float32.

    Raises:
        UserError: a part is missing or damaged.
    """
    family = importlib.import_module(FAMILIES[family_of(folder)].__module__)
    return family.load(folder, prompts, device, dtype)
