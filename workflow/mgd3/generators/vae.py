"""The VAE between images and latents; all that encoding real images needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from ..base.errors import UserError
from ..base.memory import halving
from .base import exact_float32
from .pretrained import is_local, load_model, part_config

# Images pass the VAE this many pixels at a time (16 images at 256 px): its feature maps are far
# larger than the diffusion model's, and larger batches are no faster.
_CHUNK_PIXELS = 16 * 256 * 256


# What an encoder without a posterior says of its log-variance: the floor of diffusers' Gaussians.
_NO_SPREAD = -30.0


class VAECodec:
    """Encode and decode with diffusers' AutoencoderKL or VQModel; see `base.Codec`.

    A VQModel's latents are those before quantisation, which its decoder begins with. They have no
    posterior: the log-variance is as good as none.

    Args:
        vae: the network; neither copied nor moved.
        device: where it runs; by default where `vae` is.

    Attributes:
        latent_channels: C.
        downsampling: pixels per latent cell along each side, for instance 8.
        scaling_factor, shift_factor: scaled latent = (z - shift) * scaling.
    """

    def __init__(
        self, vae: AutoencoderKL | VQModel, device: torch.device | str | None = None
    ) -> None:
        self.device = torch.device(device or vae.device)
        self.dtype = vae.dtype
        self.vae = vae
        self.latent_channels: int = vae.config.latent_channels
        self.downsampling: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scaling_factor: float = vae.config.scaling_factor
        self.shift_factor: float = getattr(vae.config, "shift_factor", None) or 0.0

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the scaled latents; see `base.Codec.encode`."""

        if min(images.shape[-2:]) < 2 * self.downsampling:
            raise UserError(
                f"images of {min(images.shape[-2:])} px are too small for a VAE that halves them "
                f"to 1/{self.downsampling}",
                f"encode them at {2 * self.downsampling} px or more",
            )

        def encode(part: slice) -> tuple[Tensor, Tensor]:
            x = images[part].to(self.device).float() / 127.5 - 1
            mean, logvar = self._posterior(x.to(self.dtype))
            return (
                (mean.float() - self.shift_factor) * self.scaling_factor,
                logvar.float() + 2 * math.log(self.scaling_factor),
            )

        size = _chunk(images.shape[-2:])
        with exact_float32(self.dtype):
            parts = list(halving(len(images), size, encode, what="encode one image"))
        means, log_variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(log_variances)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.vae.encode(x)
        if isinstance(self.vae, VQModel):
            return encoded.latents, torch.full_like(encoded.latents, _NO_SPREAD)
        return encoded.latent_dist.mean, encoded.latent_dist.logvar

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to images; see `base.Codec.decode`."""
        if latents.ndim != 4 or latents.shape[1] != self.latent_channels:
            raise UserError(
                f"latents of shape {list(latents.shape)} are not of this VAE, whose latents have "
                f"{self.latent_channels} channels",
                "find the modes in the latents of the same generator",
            )
        height, width = latents.shape[-2:]

        def decode(part: slice) -> Tensor:
            z = latents[part].to(self.device) / self.scaling_factor + self.shift_factor
            x = self.vae.decode(z.to(self.dtype)).sample.float().clamp(-1, 1)
            return ((x + 1) / 2 * 255 + 0.5).to(torch.uint8)

        size = _chunk((height * self.downsampling, width * self.downsampling))
        with exact_float32(self.dtype):
            parts = list(halving(len(latents), size, decode, what="decode one image"))
        return torch.cat(parts)

    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The decoder as a chain; see `base.Codec.stages`."""
        decoder = self.vae.decoder

        def enter(latents: Tensor) -> Tensor:
            z = (latents / self.scaling_factor + self.shift_factor).to(self.dtype)
            if isinstance(self.vae, VQModel):
                z = self.vae.quantize(z)[0]
            if self.vae.post_quant_conv is not None:
                z = self.vae.post_quant_conv(z)
            return decoder.mid_block(decoder.conv_in(z))

        def leave(features: Tensor) -> Tensor:
            return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(features)))

        return [enter, *decoder.up_blocks, leave]

    def freeze(self) -> None:
        """See `base.Codec.freeze`."""
        self.vae.requires_grad_(False)


def _chunk(size: tuple[int, int]) -> int:
    return max(1, _CHUNK_PIXELS // (size[0] * size[1]))


def load_vae(
    folder_or_id: str | Path,
    *,
    part: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VAECodec:
    """The VAE of a pipeline folder (its vae/), of a folder that is a VAE, or of a Hub id.

    A float16 VAE overflows easily and costs little beside the diffusion model: it is loaded in
    float32 instead.

    Args:
        folder_or_id: for instance a generator's folder, or "stabilityai/sd-vae-ft-mse". A Hub id
            names a VAE's own repository.
        part: the subfolder; by default "vae" of a pipeline folder, and none of anything else.
        dtype: of the weights and the arithmetic inside the VAE.

    Raises:
        UserError: there is no VAE there, or its weights are missing or damaged.
    """
    # A folder that is neither reads as a pipeline's, whose missing part the error then names.
    if part is None and is_local(folder_or_id):
        part = None if (Path(folder_or_id) / "config.json").is_file() else "vae"
    kind = part_config(folder_or_id, part).get("_class_name")
    vae = load_model(
        VQModel if kind == "VQModel" else AutoencoderKL,
        folder_or_id,
        part,
        dtype=torch.float32 if dtype == torch.float16 else dtype,
    )
    return VAECodec(vae.to(device))


def to_size(images: Tensor, size: int) -> Tensor:
    """uint8 images [n, 3, S, S] at another size: bicubic with antialiasing, as PIL resizes."""
    if images.shape[-1] == size:
        return images
    return resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True)
