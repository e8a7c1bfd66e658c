"""Differentiable siamese augmentation (DSA): one operation for a batch, parameters for each image.

Operations and ranges are those of `DiffAugment` in `utils.py` of VICO-UoE/DatasetCondensation
(Zhao and Bilen, ICML 2021), in its mode "S", as GeorgeCazenavette/glad evaluates with it. They act
on normalised images, so what is filled with zero has the mean colour of the normalisation.

As in `augment`, draws come from one CPU generator and applying them is a pure function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .augment import send

CROP_SHIFT = 0.125  # of the side
CUTOUT_SIDE = 0.5  # of the side
LARGEST_SCALE = 1.2
LARGEST_ANGLE = 15.0  # degrees
_COLUMNS = 3
AS_IT_IS = "none"


def _share(size: int, share: float) -> int:
    """A share of the side in whole pixels, rounded half up."""
    return int(size * share + 0.5)


def draw_color(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Added brightness in (-.5, .5), saturation factor in (0, 2), contrast factor in (.5, 1.5)."""
    uniform = torch.rand(n, 3, generator=generator)
    return uniform * torch.tensor([1.0, 2.0, 1.0]) + torch.tensor([-0.5, 0.0, 0.5])


def color(images: Tensor, parameters: Tensor) -> Tensor:
    """Brightness, then saturation about each pixel's grey, then contrast about the image's mean."""
    brightness, saturation, contrast = parameters.T[:, :, None, None, None]
    images = images + brightness
    images = torch.lerp(images.mean(1, keepdim=True), images, saturation)
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, contrast)


def draw_crop(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Shifts by whole pixels, rows and columns, within an eighth of the side."""
    most = _share(size, CROP_SHIFT)
    return torch.randint(-most, most + 1, (n, 2), generator=generator)


def crop(images: Tensor, parameters: Tensor) -> Tensor:
    """Pixel (i + rows, j + columns) of each image at (i, j), zero where there is none."""
    n, channels, size, _ = images.shape
    line = torch.arange(size, device=images.device)
    rows, columns = (line + shift[:, None].long() for shift in parameters[:, :2].T)
    inside = [((x >= 0) & (x < size)) for x in (rows, columns)]
    rows, columns = rows.clamp(0, size - 1), columns.clamp(0, size - 1)
    shifted = images.gather(2, rows[:, None, :, None].expand(n, channels, size, size))
    shifted = shifted.gather(3, columns[:, None, None, :].expand(n, channels, size, size))
    return shifted * (inside[0][:, None, :, None] & inside[1][:, None, None, :])


def draw_cutout(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Centres of the square, row and column; the far edge counts where its side is even."""
    beyond = 1 - _share(size, CUTOUT_SIDE) % 2
    return torch.randint(0, size + beyond, (n, 2), generator=generator)


def cutout(images: Tensor, parameters: Tensor) -> Tensor:
    """Zero in a square of half the side, clipped to the image."""
    size = images.shape[-1]
    side = _share(size, CUTOUT_SIDE)
    line = torch.arange(size, device=images.device)
    starts = parameters[:, :2].long() - side // 2
    rows, columns = ((line >= s[:, None]) & (line < s[:, None] + side) for s in starts.T)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def draw_flip(n: int, size: int, generator: torch.Generator) -> Tensor:
    """1 where the image is mirrored: half of them."""
    return (torch.rand(n, 1, generator=generator) < 0.5).float()


def flip(images: Tensor, parameters: Tensor) -> Tensor:
    """Mirror left and right."""
    return torch.where(parameters[:, :1, None, None] > 0, images.flip(3), images)


def draw_scale(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Factors of the sampling positions, across and down, in (1 / 1.2, 1.2), each its own."""
    least = 1 / LARGEST_SCALE
    return least + (LARGEST_SCALE - least) * torch.rand(n, 2, generator=generator)


def scale(images: Tensor, parameters: Tensor) -> Tensor:
    """Sample at positions scaled about the centre; a factor above 1 makes the picture smaller."""
    across, down, zero = parameters[:, 0], parameters[:, 1], parameters.new_zeros(len(parameters))
    return _affine(images, [[across, zero], [zero, down]])


def draw_rotate(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Angles in radians, within 15 degrees."""
    return (torch.rand(n, 1, generator=generator) - 0.5) * 2 * math.radians(LARGEST_ANGLE)


def rotate(images: Tensor, parameters: Tensor) -> Tensor:
    """Sample at positions rotated about the centre."""
    cos, sin = parameters[:, 0].cos(), parameters[:, 0].sin()
    return _affine(images, [[cos, -sin], [sin, cos]])


def _affine(images: Tensor, matrix: Sequence[Sequence[Tensor]]) -> Tensor:
    """Bilinear samples at `matrix` times (x, y), where corner pixels' centres are at -1 and 1."""
    theta = torch.stack([torch.stack([a, b, torch.zeros_like(a)], -1) for a, b in matrix], -2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, "bilinear", "zeros", align_corners=True)


_Draw = Callable[[int, int, torch.Generator], Tensor]
OPERATIONS: dict[str, tuple[_Draw, Callable[[Tensor, Tensor], Tensor]]] = {
    "color": (draw_color, color),
    "crop": (draw_crop, crop),
    "cutout": (draw_cutout, cutout),
    "flip": (draw_flip, flip),
    "scale": (draw_scale, scale),
    "rotate": (draw_rotate, rotate),
}


@dataclass(frozen=True)
class DsaEpoch:
    """Everything random in one epoch over n images.

    Attributes:
        order: int64 [n], the images in the order of training.
        operations: one name for each batch.
        parameters: float32 [n, 3], by position in `order`: those of the batch's operation.
    """

    order: Tensor
    operations: list[str]
    parameters: Tensor

    def to(self, device: torch.device) -> DsaEpoch:
        """Copy to the device without waiting."""
        return DsaEpoch(send(self.order, device), self.operations, send(self.parameters, device))


def draw_dsa_epoch(
    n: int,
    size: int,
    batch_size: int | Sequence[int],
    operations: Sequence[str],
    generator: torch.Generator,
) -> DsaEpoch:
    """Draw one epoch: n images of size x size pixels, in batches as `Tensor.split` makes them.

    Without operations the images of a batch stay as they are.
    """
    order = torch.randperm(n, generator=generator)
    names, parameters = [], torch.zeros(n, _COLUMNS)
    for rows in parameters.split(batch_size):
        if not operations:
            names.append(AS_IT_IS)
            continue
        names.append(operations[int(torch.randint(len(operations), (), generator=generator))])
        drawn = OPERATIONS[names[-1]][0](len(rows), size, generator)
        rows[:, : drawn.shape[1]] = drawn
    return DsaEpoch(order, names, parameters)


def apply_dsa(images: Tensor, operation: str, parameters: Tensor) -> Tensor:
    """One batch: normalised float [N, 3, S, S] -> the same shape.

    Args:
        operation: key of `OPERATIONS`, or `AS_IT_IS`.
        parameters: rows of `DsaEpoch.parameters`, [N, 3].
    """
    if operation == AS_IT_IS:
        return images
    return OPERATIONS[operation][1](images, parameters)
