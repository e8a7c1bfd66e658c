"""Batched shuffling, cropping, resizing and mirroring of images of any side to any other.

All four are linear and act on rows and columns apart, so each image needs one small matrix for its
rows and one for its columns. The weights are those of torchvision's antialiased bilinear resize of
a tensor: a triangle as wide as a source pixel, or as a result's pixel where that is wider.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .augment import draw_crops

RATIO = (3 / 4, 4 / 3)
# Images whose matrices are held at a time.
_CHUNK = 128


def draw_views(
    n: int,
    side: int,
    generator: torch.Generator,
    *,
    crop_scale: tuple[float, float],
    flip: float,
    shuffle: int = 1,
) -> Tensor:
    """What is random in the views of n square images: float32 [n, 5 + 2 shuffle].

    Columns: the box of RandomResizedCrop (top, left, height, width) in pixels of the shuffled
    image; whether to mirror; the places that its `shuffle` vertical strips go to; the same of its
    horizontal strips. As ShufflePatches, RandomResizedCrop and RandomHorizontalFlip of RDED.

    Args:
        crop_scale: area fractions of RandomResizedCrop.
        flip: probability of mirroring.
        shuffle: strips along each axis; 1 leaves the image whole.
    """
    boxes = draw_crops(n, side, crop_scale, RATIO, generator)
    flips = torch.rand(n, 1, generator=generator) < flip
    places = torch.rand(2, n, shuffle, generator=generator).argsort(2)
    return torch.cat([boxes, flips, *places], 1).float()


def resampled(
    images: Tensor, views: Tensor, size: int, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Views of images, normalised: uint8 [N, 3, S, S] -> float32 [N, 3, size, size].

    Args:
        views: rows of `draw_views`; S must be a multiple of its number of strips.
        mean, std: per channel, of images in [0, 1].
    """
    scale, offset = (
        torch.tensor(values, device=images.device)[:, None, None]
        for values in (
            [1 / (255 * s) for s in std],
            [-m / s for m, s in zip(mean, std, strict=True)],
        )
    )
    out = images.new_empty((len(images), 3, size, size), dtype=torch.float32)
    parts = zip(out.split(_CHUNK), images.split(_CHUNK), views.split(_CHUNK), strict=True)
    for result, part, of_part in parts:
        rows, columns = view_matrices(of_part, images.shape[-1], size)
        x = rows[:, None] @ part.float() @ columns.mT[:, None]
        torch.addcmul(offset, x, scale, out=result)
    return out


def view_matrices(views: Tensor, side: int, size: int) -> tuple[Tensor, Tensor]:
    """Matrices of rows and of columns [N, size, side]: a view of x is rows @ x @ columns.mT.

    Args:
        views: rows of `draw_views` of images of `side` pixels.
    """
    top, left, height, width, mirror, *places = views.T
    across, down = torch.stack(places, 1).chunk(2, 1)
    rows = _weights(top, height, down, side, size)
    columns = _weights(left, width, across, side, size)
    return rows, torch.where(mirror[:, None, None].bool(), columns.flip(1), columns)


def _weights(start: Tensor, length: Tensor, places: Tensor, side: int, size: int) -> Tensor:
    """Matrices [N, size, side]: shuffled pixels [start, start + length) become `size` pixels."""
    strip = side // places.shape[1]
    here = torch.arange(strip, device=start.device, dtype=start.dtype)
    # Where each pixel of the image lies after shuffling, from the crop's first; [N, 1, side].
    at = ((places * strip)[:, :, None] + here).flatten(1)[:, None] - start[:, None, None]
    length = length[:, None, None]
    scale = length / size
    centres = (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5)[:, None] * scale
    weights = (1 - (at + 0.5 - centres).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights.mul_((at >= 0) & (at < length))
    return weights.div_(weights.sum(2, keepdim=True))
