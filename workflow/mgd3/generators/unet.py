"""U-Nets that attend to a context: Stable Diffusion (prompts) and LDM (class embeddings)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..base.errors import UserError
from .latent import LatentGenerator
from .pretrained import load_model, load_text_parts, scheduler_config
from .vae import VAECodec, load_vae


class UNetGenerator(LatentGenerator):
    """A U-Net with cross-attention and its VAE; see `base.Generator` for the interface.

    Its label rows are the rows of `contexts`.

    Args:
        unet: the network; neither copied nor moved.
        codec: the VAE.
        scheduler: its scheduler's configuration.
        contexts: what the network attends to, [rows + 1, tokens, width]; the last is the null
            condition's.
        device: where it runs; by default where `unet` is.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        codec: VAECodec,
        scheduler: Mapping[str, Any],
        contexts: Tensor,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(unet, codec, scheduler, device)
        width = unet.config.cross_attention_dim
        if contexts.shape[-1] != width:
            raise UserError(
                f"the condition has width {contexts.shape[-1]}, the U-Net attends to {width}",
                "give the text encoder or class embedder that the U-Net was trained with",
            )
        self.unet = unet
        self.contexts = contexts.detach().to(self.device, self.dtype)
        self.null_label = len(contexts) - 1

    def predict(self, x: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """Noise, float32; the variance is fixed. See `base.Generator.predict`."""
        return self.predict_noise(x, timestep, self.contexts[labels]), None

    def conditions(self, labels: Tensor) -> Tensor:
        """The context of each, [n, tokens, width]; see `base.Generator.conditions`."""
        return self.contexts[labels].float()

    def predict_noise(self, x: Tensor, timestep: Tensor, conditions: Tensor) -> Tensor:
        """See `base.Generator.predict_noise`."""
        eps = self.unet(
            x.to(self.dtype),
            timestep,
            encoder_hidden_states=conditions.to(self.dtype),
            return_dict=False,
        )[0]
        return eps.float()


class ClassEmbedder(ModelMixin, ConfigMixin):
    """A vector for each class; the last row is the null class (latent diffusion, section 3.3)."""

    @register_to_config
    def __init__(self, num_classes: int = 1000, embed_dim: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes + 1, embed_dim)

    def forward(self, labels: Tensor) -> Tensor:
        """int64 [n] -> a context of one token, [n, 1, embed_dim]."""
        return self.embedding(labels)[:, None]


@torch.no_grad()
def encode_prompts(tokenizer: Any, text_encoder: Any, prompts: Sequence[str]) -> Tensor:
    """Prompts as Stable Diffusion reads them: padded or cut to 77 tokens, [n, 77, width]."""
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids.to(text_encoder.device))[0]


def load_stable_diffusion(
    folder: str | Path,
    prompts: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UNetGenerator:
    """A Stable Diffusion v1 or v2 folder; label row k is the k-th prompt, the null row is "".

    Raises:
        UserError: a part is missing or damaged, or the parts do not fit.
    """
    tokenizer, text_encoder = load_text_parts(folder, dtype=dtype)
    # On the CPU in float32: a few prompts, once, and no memory that the sampler lacks then.
    contexts = encode_prompts(tokenizer, text_encoder.float(), [*prompts, ""])
    unet = load_model(UNet2DConditionModel, folder, "unet", dtype=dtype)
    codec = load_vae(folder, device=device, dtype=dtype)
    return UNetGenerator(unet.to(device), codec, scheduler_config(folder), contexts)


def load_ldm(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UNetGenerator:
    """A class-conditional latent diffusion folder, as `mgd3 convert` writes it.

    Raises:
        UserError: a part is missing or damaged, or the parts do not fit.
    """
    embedder = load_model(ClassEmbedder, folder, "class_embedder", dtype=torch.float32)
    unet = load_model(UNet2DConditionModel, folder, "unet", dtype=dtype)
    codec = load_vae(folder, device=device, dtype=dtype)
    contexts = embedder.embedding.weight[:, None]
    return UNetGenerator(unet.to(device), codec, scheduler_config(folder), contexts)
