"""How far two batches of images are apart for a network: in mean features, or in gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.memory import mean_of_parts, require_separable
from ...networks.architectures import features


def feature_distance(
    network: nn.Module, real: Tensor, synthetic: Tensor, size: int | None = None
) -> Tensor:
    """DM: squared L2 distance of the mean features of two batches [N, 3, S, S], [M, 3, S, S].

    Args:
        size: images in the network at a time; None for all.
    """

    def means(images: Tensor) -> tuple[Tensor, ...]:
        return (features(network, images).mean(0),)

    with torch.no_grad():
        (wanted,) = _in_parts(network, means, real, size)
    (found,) = _in_parts(network, means, synthetic, size)
    return (found - wanted).square().sum()


def row_cosine(a: Tensor, b: Tensor) -> Tensor:
    """DC: sum over the outputs of a layer of 1 - cosine of its two gradients [out, ...]."""
    a, b = a.flatten(1), b.flatten(1)
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """IDC: sum of the absolute differences."""
    return (a - b).abs().sum()


def gradient_distance(
    network: nn.Module,
    real: Tensor,
    synthetic: Tensor,
    label: int,
    distance: Callable[[Tensor, Tensor], Tensor] = row_cosine,
    least_dims: int = 2,
    size: int | None = None,
) -> Tensor:
    """Distance of the gradients that two batches of one class have at the network's weights.

    Summed over the weights of at least `least_dims` dimensions: 2 leaves out biases and norms (DC),
    4 the linear layer, too (IDC).

    Args:
        size: images in the network at a time; None for all.
    """
    weights = [weight for weight in network.parameters() if weight.dim() >= least_dims]

    @torch.enable_grad()
    def gradients(images: Tensor) -> tuple[Tensor, ...]:
        labels = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(network(images), labels)
        return torch.autograd.grad(loss, weights, create_graph=images.requires_grad)

    wanted = _in_parts(network, gradients, real.detach(), size)
    found = _in_parts(network, gradients, synthetic, size)
    return torch.stack([distance(a, b) for a, b in zip(wanted, found, strict=True)]).sum()


def _in_parts(
    network: nn.Module,
    means: Callable[[Tensor], tuple[Tensor, ...]],
    images: Tensor,
    size: int | None,
) -> tuple[Tensor, ...]:
    if size is not None and size < len(images):
        require_separable(network, f"a batch of {len(images)} images")
    return mean_of_parts(means, images, size or len(images))
