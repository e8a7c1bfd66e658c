"""Stage `convert`: a checkpoint of the original code to a folder that every stage reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, DiTTransformer2DModel, ModelMixin
from torch import Tensor

from ..base import artifacts
from ..base.errors import UserError
from ..data.imagenet import imagenet_names
from .dit import original_to_diffusers
from .originals import load_pickled
from .registry import VAE_FILES

_WEIGHTS = "diffusion_pytorch_model.safetensors"
# Width -> heads of DiT-S, B, L and XL; a checkpoint does not say how many there are.
_DIT_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}


def convert_dit(checkpoint: Path, vae: Path | None, folder: Path, heads: int | None = None) -> None:
    """A checkpoint of the original DiT code, and a VAE, to a DiTPipeline folder of origin "dit".

    Sizes are read off the weights; averaged weights are preferred where there are several sets.

    Args:
        vae: a VAE's folder, or a pipeline folder that has one: sd-vae-ft-mse or -ema.
        heads: of attention; by default those of the published network of this width.

    Raises:
        UserError: the checkpoint is damaged or no DiT's, or there is no VAE.
    """
    if vae is None:
        raise UserError("a DiT checkpoint has no VAE", "give one: --vae path/to/sd-vae-ft-mse")
    weights = load_pickled(checkpoint)
    converted = original_to_diffusers(weights)
    for name in ("x_embedder.proj.weight", "final_layer.linear.weight", "pos_embed"):
        if name not in weights:
            raise UserError(f"{checkpoint} has no {name}", "give a checkpoint of an original DiT")
    width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
    heads = heads or _DIT_HEADS.get(width)
    if heads is None or width % heads:
        raise UserError(
            f"{checkpoint} is a DiT of width {width}, and {heads or 'no'} heads are known for it",
            "say how many: --heads N",
        )
    side = round(weights["pos_embed"].shape[1] ** 0.5) * patch
    classes = weights["y_embedder.embedding_table.weight"].shape[0] - 1
    config = {
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "in_channels": channels,
        "out_channels": weights["final_layer.linear.weight"].shape[0] // patch**2,
        "num_layers": sum(name.endswith(".attn.qkv.weight") for name in weights),
        "sample_size": side,
        "patch_size": patch,
        "num_embeds_ada_norm": classes,
    }
    write_network(DiTTransformer2DModel, config, converted, folder / "transformer", checkpoint)
    _copy_vae(vae, folder)
    DDPMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        variance_type="learned_range",
        timestep_spacing="linspace",
        clip_sample=False,
    ).save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "DDPMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "origin": "dit",
    }
    names = imagenet_names()
    if classes == len(names):
        parts["id2label"] = {str(row): name for row, name in enumerate(names)}
    write_index(folder, "DiTPipeline", parts)


def write_index(folder: Path, pipeline: str, entries: Mapping[str, Any]) -> None:
    """model_index.json, the last file of a folder to be written."""
    head = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    artifacts.save_json(folder / "model_index.json", head | dict(entries))


def write_network(
    cls: type[ModelMixin],
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    folder: Path,
    checkpoint: Path,
) -> None:
    """One network of a folder: config.json and safetensors, checked against each other.

    Raises:
        UserError: a weight is missing, left over, or of another shape.
    """
    with torch.device("meta"):
        expected = cls(**config).state_dict()
    for name in [*expected, *weights]:
        if name not in weights or name not in expected:
            fault = "lacks" if name not in weights else "has too many: it has"
            raise UserError(
                f"{checkpoint} {fault} the weight that becomes {name} of {folder.name}/",
                "it is truncated, or of another architecture than --family says",
            )
        if weights[name].shape != expected[name].shape:
            raise UserError(
                f"{checkpoint}: {name} of {folder.name}/ would have shape "
                f"{tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}",
                "it is of another architecture than --family and --heads say",
            )
    # Copies in several blocks may be one tensor, which safetensors refuses.
    separate = {name: tensor.clone() for name, tensor in weights.items()}
    artifacts.save_tensors(folder / _WEIGHTS, separate, {"checkpoint": checkpoint.name})
    with torch.device("meta"):
        text = cls(**config).to_json_string()
    artifacts.save_json(folder / "config.json", json.loads(text))


def _copy_vae(vae: Path, folder: Path) -> None:
    source = vae if (vae / "config.json").is_file() else vae / "vae"
    for file in VAE_FILES:
        path = source / Path(file).name
        if not path.is_file():
            raise UserError(
                f"no VAE in {vae}: {path} not found",
                "give the folder of sd-vae-ft-mse or -ema (config.json and "
                "diffusion_pytorch_model.safetensors), or a pipeline folder",
            )
        with artifacts.atomic(folder / file) as temporary:
            shutil.copyfile(path, temporary)
