"""What the families of latent diffusion generators share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from ..base.errors import UserError
from .pretrained import training_alphas_cumprod
from .vae import VAECodec


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")


def why_uncompiled(device: torch.device) -> str:
    """What keeps networks from being compiled on a device; "" where nothing does."""
    try:
        # Compilers are missed at the first call only: here of a function that takes a second.
        torch.compile(torch.exp2)(torch.zeros(8, device=device))
    except (TorchDynamoException, RuntimeError) as error:
        return _first_line(error)
    return ""


class LatentGenerator:
    """A denoising network, the codec of its latents and its training schedule.

    A family adds `predict` and `null_label`; see `base.Generator` for the interface.

    Args:
        network: neither copied nor moved; its config says `in_channels` and `sample_size`.
        codec: the VAE.
        scheduler: its scheduler's configuration, of which the training betas and the offset of
            the timestep grid are used.
        device: where it runs; by default where `network` is.

    Raises:
        UserError: the VAE does not fit, or the schedule is of a kind the samplers do not know.
    """

    def __init__(
        self,
        network: ModelMixin,
        codec: VAECodec,
        scheduler: Mapping[str, Any],
        device: torch.device | str | None = None,
    ) -> None:
        channels, side = network.config.in_channels, network.config.sample_size
        if codec.latent_channels != channels:
            raise UserError(
                f"the VAE has {codec.latent_channels} latent channels, "
                f"the diffusion network {channels}",
                "give the VAE that the network was trained with",
            )
        self.codec = codec
        self._network = network
        self.device = torch.device(device or network.device)
        self.dtype = network.dtype
        self.alphas_cumprod = training_alphas_cumprod(scheduler)
        self.num_train_timesteps = len(self.alphas_cumprod)
        self.steps_offset = int(scheduler.get("steps_offset", 0))
        self.latent_shape = (channels, side, side)
        self.image_size: int = side * codec.downsampling

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `base.Codec.encode`."""
        return self.codec.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """See `base.Codec.decode`."""
        return self.codec.decode(latents)

    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """See `base.Codec.stages`."""
        return self.codec.stages()

    def compile(self) -> None:
        """See `base.Generator.compile`."""
        if why := why_uncompiled(self.device):
            raise UserError(
                f"the generator cannot be compiled on {self.device.type}: {why}",
                "install a C++ compiler, or set `resources: {compile: false}`",
            )
        self._network.compile()

    def freeze(self) -> None:
        """See `base.Codec.freeze`."""
        self._network.requires_grad_(False)
        self.codec.freeze()
