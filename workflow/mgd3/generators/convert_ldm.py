"""Conversion of CompVis' class-conditional latent diffusion checkpoints (cin256-v2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from diffusers import DDPMScheduler, UNet2DConditionModel, VQModel
from torch import Tensor

from ..base.errors import UserError
from .convert import write_index, write_network
from .originals import load_pickled
from .unet import ClassEmbedder

# What configs/latent-diffusion/cin256-v2.yaml says, where no configuration is given.
CIN256_V2: dict[str, Any] = {
    "linear_start": 0.0015,
    "linear_end": 0.0195,
    "timesteps": 1000,
    "unet_config": {
        "params": {
            "image_size": 64,
            "in_channels": 3,
            "out_channels": 3,
            "model_channels": 192,
            "attention_resolutions": [8, 4, 2],
            "num_res_blocks": 2,
            "channel_mult": [1, 2, 3, 5],
            "num_heads": 1,
            "context_dim": 512,
        }
    },
    "first_stage_config": {
        "params": {
            "embed_dim": 3,
            "n_embed": 8192,
            "ddconfig": {
                "z_channels": 3,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 2,
            },
        }
    },
    "cond_stage_config": {"params": {"n_classes": 1001, "embed_dim": 512}},
}


def convert_ldm(checkpoint: Path, config: Path | None, folder: Path) -> None:
    """A latent diffusion checkpoint to a ModeGuidedLDMPipeline folder: unet/, vae/ (a VQModel),
    class_embedder/, scheduler/.

    Args:
        config: the model's YAML file; by default cin256-v2's values.

    Raises:
        UserError: the checkpoint is damaged, or does not fit the configuration.
    """
    params = CIN256_V2 if config is None else _read_config(config)
    weights = load_pickled(checkpoint)
    try:
        unet, vae, classes = _configurations(params)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{config} lacks {error}", "give the YAML file of a class-conditional LDM"
        ) from error
    blocks = unet["layers_per_block"] + 1
    converted = unet_names(_below(weights, "model.diffusion_model."), blocks)
    write_network(UNet2DConditionModel, unet, converted, folder / "unet", checkpoint)
    converted = vae_names(_below(weights, "first_stage_model."), len(vae["block_out_channels"]))
    write_network(VQModel, vae, converted, folder / "vae", checkpoint)
    converted = _below(weights, "cond_stage_model.")
    write_network(ClassEmbedder, classes, converted, folder / "class_embedder", checkpoint)
    DDPMScheduler(
        # What CompVis call linear is linear in the square roots.
        beta_schedule="scaled_linear",
        beta_start=params["linear_start"],
        beta_end=params["linear_end"],
        num_train_timesteps=params["timesteps"],
        variance_type="fixed_small",
        clip_sample=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    parts = {
        "class_embedder": ["mgd3", "ClassEmbedder"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "VQModel"],
    }
    write_index(folder, "ModeGuidedLDMPipeline", parts)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["params"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no configuration of a latent diffusion model: {error}",
            "give the YAML file that belongs to the checkpoint, or leave it out for cin256-v2",
        ) from error


def _configurations(
    params: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What diffusers wants to know of the U-Net, the VQModel and the class embedder."""
    unet = params["unet_config"]["params"]
    attends = [2**level in unet["attention_resolutions"] for level, _ in enumerate(_mult(unet))]
    down = ["CrossAttnDownBlock2D" if attended else "DownBlock2D" for attended in attends]
    up = ["CrossAttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(attends)]
    first = params["first_stage_config"]["params"]
    dd = first["ddconfig"]
    conditions = params["cond_stage_config"]["params"]
    unet_config = {
        "sample_size": unet["image_size"],
        "in_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "block_out_channels": [unet["model_channels"] * m for m in _mult(unet)],
        "layers_per_block": unet["num_res_blocks"],
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": unet["context_dim"],
        # diffusers' name for the number of heads.
        "attention_head_dim": unet["num_heads"],
    }
    vae_config = {
        "in_channels": dd["in_channels"],
        "out_channels": dd["out_ch"],
        "block_out_channels": [dd["ch"] * m for m in dd["ch_mult"]],
        "down_block_types": ["DownEncoderBlock2D"] * len(dd["ch_mult"]),
        "up_block_types": ["UpDecoderBlock2D"] * len(dd["ch_mult"]),
        "layers_per_block": dd["num_res_blocks"],
        "latent_channels": dd["z_channels"],
        "num_vq_embeddings": first["n_embed"],
        "vq_embed_dim": first["embed_dim"],
        "sample_size": unet["image_size"] * 2 ** (len(dd["ch_mult"]) - 1),
        "scaling_factor": params.get("scale_factor", 1.0),
    }
    classes = {
        "num_classes": conditions["n_classes"] - 1,
        "embed_dim": conditions["embed_dim"],
    }
    return unet_config, vae_config, classes


def _mult(unet: Mapping[str, Any]) -> list[int]:
    return list(unet["channel_mult"])


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
    if not found:
        raise UserError(
            f"the checkpoint has no weights named {prefix}*",
            "give a class-conditional latent diffusion checkpoint, such as cin256-v2's model.ckpt",
        )
    return found


# Within a residual block of the U-Net, original -> diffusers.
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def unet_names(weights: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """A U-Net's weights under the names of UNet2DConditionModel. Unknown names stay as they are.

    The original numbers its blocks in one row. Each level has `blocks` of them: on the way down
    residual blocks and a downsampler, on the way up residual blocks, the last with an upsampler.
    """
    result = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        result[f"{_unet_layer(layer, blocks)}.{kind}"] = tensor
    return result


def _unet_layer(layer: str, blocks: int) -> str:
    if layer in _UNET_OUTER:
        return _UNET_OUTER[layer]
    if match := re.fullmatch(r"middle_block\.(\d)\.(.+)", layer):
        part, inner = int(match[1]), match[2]
        return (
            f"mid_block.attentions.0.{inner}"
            if part == 1
            else (f"mid_block.resnets.{part // 2}.{_RESNET.get(inner, inner)}")
        )
    if match := re.fullmatch(r"input_blocks\.(\d+)\.(\d)\.(.+)", layer):
        level, place = divmod(int(match[1]) - 1, blocks)
        part, inner = int(match[2]), match[3]
        if inner == "op":
            return f"down_blocks.{level}.downsamplers.0.conv"
        return f"down_blocks.{level}.{_block_part(part, place, inner)}"
    if match := re.fullmatch(r"output_blocks\.(\d+)\.(\d)\.(.+)", layer):
        level, place = divmod(int(match[1]), blocks)
        part, inner = int(match[2]), match[3]
        if inner == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv"
        return f"up_blocks.{level}.{_block_part(part, place, inner)}"
    return layer


def _block_part(part: int, place: int, inner: str) -> str:
    if part == 0:
        return f"resnets.{place}.{_RESNET.get(inner, inner)}"
    return f"attentions.{place}.{inner}"


_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}


def vae_names(weights: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """A VQ model's weights under the names of VQModel, without those of its training loss."""
    result = {}
    for name, tensor in weights.items():
        if name.startswith("loss."):
            continue
        layer, _, kind = name.rpartition(".")
        new = _vae_layer(layer, levels)
        # 1 x 1 convolutions of attention are linear layers there.
        if ".attentions." in new and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        result[f"{new}.{kind}"] = tensor
    return result


def _vae_layer(layer: str, levels: int) -> str:
    side, _, inner = layer.partition(".")
    if inner == "norm_out":
        return f"{side}.conv_norm_out"
    if match := re.fullmatch(r"mid\.attn_1\.(.+)", inner):
        return f"{side}.mid_block.attentions.0.{_VAE_ATTENTION.get(match[1], match[1])}"
    if match := re.fullmatch(r"mid\.block_(\d)\.(.+)", inner):
        return f"{side}.mid_block.resnets.{int(match[1]) - 1}.{_shortcut(match[2])}"
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(.+)", inner):
        way, rest = match[1], match[3]
        # The decoder's levels are counted from the finest in the original.
        level = int(match[2]) if way == "down" else levels - 1 - int(match[2])
        if rest == f"{way}sample.conv":
            return f"{side}.{way}_blocks.{level}.{way}samplers.0.conv"
        if block := re.fullmatch(r"block\.(\d+)\.(.+)", rest):
            return f"{side}.{way}_blocks.{level}.resnets.{block[1]}.{_shortcut(block[2])}"
    return layer


def _shortcut(inner: str) -> str:
    return "conv_shortcut" if inner == "nin_shortcut" else inner
