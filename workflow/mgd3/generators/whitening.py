"""A VAE whose latent channels have mean 0, variance 1 and no correlation.

k-means, the clamp of predicted latents and the noise schedule all take a latent for a number of
unit variance. A trained VAE's channels differ by a factor of two or more, and are correlated.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

# A direction with less than this share of the largest variance holds nothing (a channel that the KL
# term has switched off): made as wide as the others it would be noise, or infinite.
_LEAST = 1e-6


@torch.no_grad()
def whiten(vae: AutoencoderKL, means: Tensor, log_variances: Tensor) -> None:
    """Fold the whitening of the latents into the 1x1 convolutions around them, in place.

    The posterior mean z of a cell becomes W (z - m), with m and C the mean and the covariance of
    the channels over all cells and W = C^(-1/2) (ZCA whitening), and the decoder begins with the
    inverse: reconstructions stay what they were. A posterior's covariance W diag(s^2) W^T is no
    diagonal one; each channel's variances are scaled so that their mean over all cells is exact.

    Args:
        vae: with a convolution before and after the latents, on any device.
        means, log_variances: [n, C, h, w] of the posteriors of many images.
    """
    before, after = vae.quant_conv, vae.post_quant_conv
    device, channels = before.weight.device, means.shape[1]
    cells = means.double().movedim(1, -1).reshape(-1, channels)
    values, vectors = torch.linalg.eigh(torch.cov(cells.T))
    values = values.clamp(min=max(values.max() * _LEAST, torch.finfo(values.dtype).tiny))
    whitening = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    inverse = vectors @ torch.diag(values.sqrt()) @ vectors.T
    variance = log_variances.double().exp().mean((0, 2, 3))
    shift = (whitening.square() @ variance / variance).log()

    offset = cells.mean(0)
    weight, bias = _matrix(before)
    mean, spread = weight.split(channels)
    _put(
        before,
        torch.cat([whitening @ mean, spread]).to(device),
        torch.cat([whitening @ (bias[:channels] - offset), bias[channels:] + shift]).to(device),
    )
    weight, bias = _matrix(after)
    _put(after, (weight @ inverse).to(device), (bias + weight @ offset).to(device))


def _matrix(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    return convolution.weight[:, :, 0, 0].double().cpu(), convolution.bias.double().cpu()


def _put(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    convolution.weight.copy_(weight[:, :, None, None])
    convolution.bias.copy_(bias)
