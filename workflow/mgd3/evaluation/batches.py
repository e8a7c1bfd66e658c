"""Batches of the soft-label protocols, as both the teacher and the student see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UserError
from ..networks.augment import CutMix, apply_cutmix, cutmix_box
from ..networks.resampling import draw_views, resampled
from .protocols import SoftProtocol


@dataclass(frozen=True)
class Mixup:
    """One batch's Mixup: partners int64 [N], and the share of an image itself."""

    partners: Tensor
    weight: float


def draw_mix(protocol: SoftProtocol, batch: int, generator: torch.Generator) -> CutMix | Mixup:
    """How a batch is mixed; an image's own share is drawn from Beta(alpha, alpha)."""
    views = protocol.views
    partners = torch.randperm(batch, generator=generator)
    row, column = torch.randint(protocol.size, (2,), generator=generator).tolist()
    # torch draws from no Beta with a generator of one's own.
    seed = torch.randint(2**63 - 1, (), generator=generator).item()
    share = np.random.default_rng(seed).beta(views.mix_alpha, views.mix_alpha)
    if views.mix == "mixup":
        return Mixup(partners, share)
    return CutMix(partners, *cutmix_box(share, (row, column), protocol.size))


def mixed(images: Tensor, mix: CutMix | Mixup) -> Tensor:
    """A batch [N, 3, S, S] mixed with its partners."""
    if isinstance(mix, CutMix):
        return apply_cutmix(images, mix)
    return images.lerp(images[mix.partners], 1 - mix.weight)


def batches(
    images: Tensor, protocol: SoftProtocol, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """One epoch as the teacher and the student see it: float [N, 3, size, size], shuffled.

    Everything is drawn before the first batch, on the CPU.
    """
    for _, seen in batch_pairs(images, protocol, batch_size, generator):
        yield seen


def batch_pairs(
    images: Tensor, protocol: SoftProtocol, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `batches`, each before it is mixed and after."""
    n, device, views = len(images), images.device, protocol.views
    order = torch.randperm(n, generator=generator)
    drawn = draw_views(
        n,
        images.shape[-1],
        generator,
        crop_scale=views.crop_scale,
        flip=views.flip,
        shuffle=views.shuffle,
    )
    sizes = [len(part) for part in order.split(batch_size)]
    mixes = [draw_mix(protocol, size, generator) for size in sizes]
    partners = torch.cat([mix.partners for mix in mixes])
    order, drawn, partners = (send(t, device) for t in (order, drawn, partners))
    layout = torch.contiguous_format if images.is_cuda else torch.channels_last
    for rows, views_, own, mix in zip(
        order.split(sizes), drawn.split(sizes), partners.split(sizes), mixes, strict=True
    ):
        x = resampled(images[rows], views_, protocol.size, protocol.mean, protocol.std)
        x = x.contiguous(memory_format=layout)
        yield x, mixed(x, replace(mix, partners=own)).contiguous(memory_format=layout)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, without the host waiting for it."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def require_strips(images: Tensor, protocol: SoftProtocol) -> None:
    """Raise UserError unless square images can be shuffled as the protocol wants."""
    height, width = images.shape[-2:]
    if height != width or height % protocol.views.shuffle:
        raise UserError(
            f"distilled images of {height}x{width} px cannot be cut into "
            f"{protocol.views.shuffle}x{protocol.views.shuffle} equal parts, which protocol "
            f"{protocol.name!r} shuffles",
            "make square images of another size, or use soft-unshuffled",
        )
