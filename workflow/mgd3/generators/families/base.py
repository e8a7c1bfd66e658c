"""What every generator family declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ...base.settings import Settings

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_FILES = ("vae/config.json", f"vae/{WEIGHTS}")
COMMON_FILES = ("model_index.json", "scheduler/scheduler_config.json", *VAE_FILES)
UNET_FILES = ("unet/config.json", f"unet/{WEIGHTS}")


class FamilySettings(Settings):
    """A family of generators: the class is `Settings` of its own module.

    Beside it stands `load(folder, prompts, device, dtype) -> generators.base.Generator`.

    Attributes:
        files: of a pipeline folder, those that the workflow declares.
        pipelines: `_class_name` in the model_index.json of its folders.
        network: the folder of the network that predicts noise.
        draw: what of an image's posterior its modes are found in.
        sampling: settings that suit it, where neither a run nor a generator's entry names any.
        image_size: side of its images where the Hub alone knows it, pixels; None: none is fetched.
    """

    files: ClassVar[tuple[str, ...]]
    pipelines: ClassVar[tuple[str, ...]]
    network: ClassVar[str] = "unet"
    draw: ClassVar[Literal["mean", "sample"]] = "mean"
    sampling: ClassVar[Mapping[str, Any]] = {}
    image_size: ClassVar[int | None] = None
