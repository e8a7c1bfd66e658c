"""Diffusion transformers (Peebles & Xie 2023) in diffusers' format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from ..base.errors import UserError, did_you_mean
from .latent import LatentGenerator
from .pretrained import is_local, load_model, scheduler_config
from .registry import ORIGINS
from .vae import VAECodec, load_vae

Origin = Literal["diffusers", "dit"]

# Hub repositories that hold the original DiT weights.
ORIGINAL_DIT_IDS = ("facebook/DiT-XL-2-256", "facebook/DiT-XL-2-512")
# What tells a DiT-XL/2 of 1000 classes. All public ones descend from the original weights.
_XL_2 = {
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_embeds_ada_norm": 1000,
}


class DiTGenerator(LatentGenerator):
    """A class-conditional DiT with its VAE; see `base.Generator` for the interface.

    Args:
        transformer: the network; neither copied nor moved. Weights of the original DiT must have
            passed `match_original`.
        codec: the VAE.
        scheduler: its scheduler's configuration, of which the training betas are used.
        device: where it runs; by default where `transformer` is.
    """

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        codec: VAECodec,
        scheduler: Mapping[str, Any],
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(transformer, codec, scheduler, device)
        config = transformer.config
        self.transformer = transformer
        self.null_label: int = config.num_embeds_ada_norm
        self._learned_variance = config.out_channels == 2 * config.in_channels

    @classmethod
    def load(
        cls,
        folder_or_id: str | Path,
        *,
        origin: Origin | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        vae: str | Path | VAECodec | None = None,
    ) -> DiTGenerator:
        """Load a pipeline folder of diffusers (transformer/, vae/, scheduler/), or a Hub id.

        Args:
            origin: "dit" for weights of the original DiT, whose network differs in two constants;
                by default see `origin_of`.
            dtype: of the weights; bfloat16 halves time and memory. The sampler stays in float32.
            vae: another VAE (a folder, an id, or one already loaded) in place of vae/.

        Raises:
            UserError: a part is missing, its weights are missing or damaged, or the scheduler is
                of a kind the samplers do not know.
        """
        if origin is not None:
            _require_origin(origin)
        transformer = load_model(DiTTransformer2DModel, folder_or_id, "transformer", dtype=dtype)
        if (origin or origin_of(folder_or_id, transformer.config)) == "dit":
            match_original(transformer)
        if vae is None:
            codec = load_vae(folder_or_id, part="vae", device=device, dtype=dtype)
        elif isinstance(vae, VAECodec):
            codec = vae
        else:
            codec = load_vae(vae, device=device, dtype=dtype)
        return cls(transformer.to(device), codec, scheduler_config(folder_or_id))

    def predict(self, x: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Noise and raw variance, float32; see `base.Generator.predict`."""
        output = self.transformer(
            x.to(self.dtype), timestep=timestep, class_labels=labels, return_dict=False
        )[0].float()
        if not self._learned_variance:
            return output, None
        eps, v = output.chunk(2, dim=1)
        return eps, v

    def _tables(self) -> dict[str, Tensor]:
        """The label table of each block, by the name of the parameter."""
        name = "transformer_blocks.{}.norm1.emb.class_embedder.embedding_table.weight"
        return {
            name.format(index): block.norm1.emb.class_embedder.embedding_table.weight.detach()
            for index, block in enumerate(self.transformer.transformer_blocks)
        }

    def conditions(self, labels: Tensor) -> Tensor:
        """The embedding in each block, [n, blocks, width]; see `base.Generator.conditions`."""
        return torch.stack([table[labels] for table in self._tables().values()], 1).float()

    def predict_noise(self, x: Tensor, timestep: Tensor, conditions: Tensor) -> Tensor:
        """See `base.Generator.predict_noise`."""
        # Tables of one row for each image take the place of the network's own.
        tables = dict(zip(self._tables(), conditions.to(self.dtype).unbind(1), strict=True))
        rows = torch.arange(len(x), device=x.device)
        output = torch.func.functional_call(
            self.transformer,
            tables,
            (x.to(self.dtype),),
            {"timestep": timestep, "class_labels": rows, "return_dict": False},
        )[0].float()
        return output[:, : self.latent_shape[0]]


def origin_of(folder_or_id: str | Path, config: Mapping[str, Any]) -> str:
    """Whether weights descend from the original DiT ("dit") or were trained in diffusers.

    A folder may say so (`origin` in its model_index.json, written by `mgd3 fetch-generator` and
    `mgd3 convert`). Facebook's repositories do not; they, and whatever has the size of DiT-XL/2
    with 1000 classes, are taken for the original.

    Args:
        config: the transformer's configuration.

    Raises:
        UserError: the folder names an origin that there is not.
    """
    if is_local(folder_or_id):
        index = Path(folder_or_id) / "model_index.json"
        stated = json.loads(index.read_text()).get("origin") if index.is_file() else None
        if stated is not None:
            return _require_origin(stated)
    if str(folder_or_id) in ORIGINAL_DIT_IDS:
        return "dit"
    return "dit" if all(config.get(key) == value for key, value in _XL_2.items()) else "diffusers"


def _require_origin(origin: str) -> str:
    if origin not in ORIGINS:
        raise UserError(f"unknown origin {origin!r}", did_you_mean(str(origin), ORIGINS))
    return origin


def match_original(transformer: DiTTransformer2DModel) -> None:
    """Set, in place, the two constants in which diffusers differs from the original DiT.

    Its time embedding has frequencies 10000^(-k/127) where the original has 10000^(-k/128), and
    the LayerNorm before each MLP has eps 1e-5 where the original has 1e-6. Only weights trained
    with the original network want this; applying it twice does nothing more.
    """
    for block in transformer.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        block.norm3.eps = 1e-6


# Names within one block, original -> diffusers.
_BLOCK_NAMES = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
# Outside the blocks.
_OUTER_NAMES = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
# One in the original, a copy in every block of diffusers.
_SHARED_NAMES = {
    "t_embedder.mlp.0": "norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "norm1.emb.timestep_embedder.linear_2",
    "y_embedder.embedding_table": "norm1.emb.class_embedder.embedding_table",
}


def original_to_diffusers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the original DiT under the names of `DiTTransformer2DModel`.

    Tensors are views or the same objects, not copies. The position embedding is dropped: it is
    fixed, and diffusers computes its own.

    Raises:
        UserError: a name that no DiT has, or no blocks at all.
    """
    blocks = [int(m[1]) for name in state_dict if (m := re.match(r"blocks\.(\d+)\.", name))]
    if not blocks:
        raise UserError(
            "these are not weights of an original DiT: there is no `blocks.0`",
            "give a DiT checkpoint, for instance DiT-XL-2-256x256",
        )
    result: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name == "pos_embed":
            continue
        layer, _, kind = name.rpartition(".")
        block, inner = _split_block(layer)
        if inner == "attn.qkv":
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                result[f"{block}.attn1.to_{part}.{kind}"] = rows
        elif inner in _BLOCK_NAMES:
            result[f"{block}.{_BLOCK_NAMES[inner]}.{kind}"] = tensor
        elif layer in _SHARED_NAMES:
            for index in range(max(blocks) + 1):
                result[f"transformer_blocks.{index}.{_SHARED_NAMES[layer]}.{kind}"] = tensor
        elif layer in _OUTER_NAMES:
            result[f"{_OUTER_NAMES[layer]}.{kind}"] = tensor
        else:
            raise UserError(
                f"no DiT has a weight named {name!r}",
                "give the plain (or EMA) state dict of an original DiT",
            )
    return result


def _split_block(layer: str) -> tuple[str, str]:
    """("transformer_blocks.N", the name within the block), or two empty strings."""
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
        return f"transformer_blocks.{match[1]}", match[2]
    return "", ""
