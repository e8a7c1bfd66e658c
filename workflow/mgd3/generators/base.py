"""The interface between latent diffusion models and everything that uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor


class Codec(Protocol):
    """Images to scaled latents and back.

    "Scaled" is the space the diffusion model works in: the VAE's latent z, less its shift factor
    (if it has one), times its scaling factor s, for instance 0.18215.
    """

    device: torch.device

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of the scaled latents.

        Args:
            images: uint8 [n, 3, H, W], on any device.

        Returns:
            Mean and log-variance, float32 [n, C, h, w] on `device`, both of the scaled latent:
            (mean - shift) * s and logvar + 2 log s.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents, float32 [n, C, h, w] -> uint8 images [n, 3, H, W] on `device`."""
        ...

    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The decoder as a chain of functions that gradients pass, in the VAE's own dtype.

        The first takes scaled latents [n, C, h, w] to the features after the middle block, each of
        the next is one of the decoder's upsampling blocks, and the last gives pictures [n, 3, H, W]
        in -1 .. 1, not clamped. Quantisation, where the VAE has it, passes gradients straight
        through.
        """
        ...

    def freeze(self) -> None:
        """Ask no gradient at the weights from now on, only at what the networks are given."""
        ...


class Generator(Codec, Protocol):
    """A class-conditional latent diffusion model that predicts noise.

    Attributes:
        latent_shape: (C, h, w) of one latent.
        image_size: side of the decoded images, pixels.
        null_label: the label row that means "no class"; rows 0 .. null_label - 1 are classes.
        num_train_timesteps: T, usually 1000.
        steps_offset: shift of the "leading" grid of timesteps; 0 or 1.
        alphas_cumprod: abar_t of the training schedule, float64 [T], on the CPU.
        device: where `predict` expects its arguments.
        dtype: of the network's weights.
    """

    latent_shape: tuple[int, int, int]
    image_size: int
    null_label: int
    num_train_timesteps: int
    steps_offset: int
    alphas_cumprod: Tensor
    dtype: torch.dtype

    def predict(self, x: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's noise prediction.

        Args:
            x: noisy scaled latents, float32 [n, C, h, w] on `device`.
            timestep: training timesteps 0 .. T - 1, int64 [n] on `device`.
            labels: label rows, int64 [n] on `device`.

        Returns:
            eps, float32 [n, C, h, w], whatever the network's dtype; and the raw variance output v
            of a learned-range model, likewise (v = -1 means the posterior variance, v = 1 means
            beta), or None where the variance is fixed.
        """
        ...

    def compile(self) -> None:
        """From now on `predict` runs compiled code: other rounding, else the same.

        Raises:
            UserError: there is no compiler for the device.
        """
        ...

    def conditions(self, labels: Tensor) -> Tensor:
        """What label rows mean to the network.

        Args:
            labels: label rows, int64 [n] on `device`.

        Returns:
            float32 [n, parts, width] on `device`: the class embedding of each of a DiT's blocks, or
            the tokens that a U-Net attends to. Without a graph.
        """
        ...

    def predict_noise(self, x: Tensor, timestep: Tensor, conditions: Tensor) -> Tensor:
        """eps as `predict` has it, of conditions that need not be any label row's.

        Args:
            conditions: float32 [n, parts, width] on `device`; see `conditions`.
        """
        ...


@contextmanager
def exact_float32(dtype: torch.dtype) -> Iterator[None]:
    """Switch TF32 off inside the block if `dtype` is float32; it has 10 bits of mantissa."""
    if dtype != torch.float32:
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = cudnn
