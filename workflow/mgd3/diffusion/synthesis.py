"""Pictures as functions of what generators begin from, with gradients: generative priors.

Pictures here are float32 [n, 3, H, W] in -1 .. 1, not clamped unless said.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..generators.base import Codec, Generator
from .guidance import predict_x0
from .schedules import Coefficients, make_schedule

# Pictures of some images from their rows of tensors, each from its own row alone.
Decode = Callable[[Tensor], Tensor]
Walk = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Graphs of so many pixels are held at a time, as long as memory allows: 4 images of 256 px. Behind
# Stable Diffusion's decoder each takes 1.4 GiB, see the tests.
_CHUNK_PIXELS = 4 * 256 * 256


def chunk_size(side: int) -> int:
    """Images of `side` pixels whose graphs are held at a time."""
    return max(1, _CHUNK_PIXELS // side**2)


def decoding(codec: Codec, depth: int = 0) -> Decode:
    """Pictures of the features before stage `depth` of the decoder; see `Codec.stages`."""
    stages = codec.stages()[depth:]

    def decode(x: Tensor) -> Tensor:
        for stage in stages:
            x = stage(x)
        return x

    return decode


def sampling(generator: Generator, decode: Decode, steps: int, cfg: float) -> Walk:
    """Pictures of latents noised and denoised again: LD3M's sampler.

    The result takes, for each image, the latent Z [n, C, h, w], a shift [n, 1, width] of its
    condition, the condition [n, parts, width], and noise [n, C, h, w]. Its steps are those of DDIM
    (eta 0) from Z noised to the first, with classifier-free guidance in all channels, and with
    Z's share in each predicted clean latent falling linearly:

        x0_hat <- (1 - s) x0_hat + s Z,  s = i / (steps - 1),

    1 in the first step and 0 in the last, which carries the gradient past the network (Moser et
    al., NeurIPS 2025, arXiv 2403.03881; `p_sample_ddim` in Brian-Moser/prune_and_distill, where Z
    is quantised there, and its noise drawn anew at each call). The activations of a step are
    computed once more for its gradient, as there. Pictures are clamped to -1 .. 1, as there.

    Args:
        decode: pictures of clean latents; see `decoding`.

    Raises:
        UserError: more steps than the generator was trained with.
    """
    schedule = make_schedule(generator.alphas_cumprod, steps, "leading", generator.steps_offset)
    table = schedule.table(generator.device)
    timesteps = schedule.timesteps.to(generator.device)
    null = generator.conditions(torch.tensor([generator.null_label], device=generator.device))

    def step(x: Tensor, latents: Tensor, conditions: Tensor, i: int) -> Tensor:
        c, timestep = Coefficients(*table[i].unbind()), timesteps[i].expand(len(x))
        eps = generator.predict_noise(x, timestep, conditions)
        if cfg != 1:
            unconditional = generator.predict_noise(x, timestep, null.expand_as(conditions))
            eps = unconditional + cfg * (eps - unconditional)
        x0_hat = torch.lerp(predict_x0(x, eps, c), latents, i / (steps - 1))
        return c.sqrt_abar_prev * x0_hat + c.sqrt_one_minus_abar_prev * eps

    def walk(latents: Tensor, shifts: Tensor, conditions: Tensor, noise: Tensor) -> Tensor:
        first = Coefficients(*table[-1].unbind())
        x = first.sqrt_abar * latents + first.sqrt_one_minus_abar * noise
        for i in reversed(range(steps)):
            inputs = (x, latents, conditions + shifts, i)
            x = checkpoint(step, *inputs, use_reentrant=False, preserve_rng_state=False)
        return decode(x).clamp(-1, 1)

    return walk
