"""Batched training augmentation on the device.

What is random is drawn first, on the CPU and from one generator, for a whole epoch; applying it is
a pure function of images and parameters. So results do not depend on the device's random numbers,
and an epoch's draws go to the device in one copy.

Order and ranges follow `train.py` of vimar-gu/MinimaxDiffusion: resized crop, flip, colour jitter,
PCA lighting, normalisation, CutMix. Jitter and lighting never clamp, so with normalisation they
are one affine map of the colour of each image (`fold_colour`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION = range(3)
# The principal components of ImageNet's colours, as in the AlexNet recipe.
LIGHTING_VALUES = (0.2175, 0.0188, 0.0045)
LIGHTING_VECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_CROP_TRIES = 10


def draw_crops(
    n: int,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Boxes of RandomResizedCrop in square images: int64 [n, 4], (top, left, height, width).

    As torchvision's `RandomResizedCrop.get_params`: up to ten draws of area (uniform) and aspect
    (log uniform) until the box fits, else the whole image (the ratios must straddle 1).
    """
    area, aspect, top, left = torch.rand(
        4, n, _CROP_TRIES, generator=generator, dtype=torch.float64
    )
    area = size * size * (scale[0] + (scale[1] - scale[0]) * area)
    low, high = torch.tensor(ratio, dtype=torch.float64).log()
    aspect = (low + (high - low) * aspect).exp()
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    # Uniform integers in [0, size - side], both ends included.
    top, left = (top * (size - height + 1)).floor(), (left * (size - width + 1)).floor()
    first = fits.int().argmax(1, keepdim=True)
    boxes = torch.stack([x.gather(1, first)[:, 0] for x in (top, left, height, width)], 1).long()
    return torch.where(fits.any(1, keepdim=True), boxes, torch.tensor([0, 0, size, size]))


def crop_and_flip(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Crop each image to its box, stretch it back to full size (bilinear), and maybe mirror it.

    Args:
        images: float [N, C, S, S].
        boxes: [N, 4], (top, left, height, width) in pixels.
        flips: [N], nonzero where the result is mirrored.

    The crop is never larger than the result, so plain bilinear weights with coordinates clamped
    to the box are those of an antialiased resize.
    """
    size = images.shape[-1]
    top, left, height, width = boxes.to(images.dtype).T[..., None]
    centres = torch.arange(size, device=images.device, dtype=images.dtype) + 0.5
    across = torch.where(flips[:, None].bool(), size - centres, centres)
    y = (centres * (height / size) - 0.5).clamp(min=0).minimum(height - 1) + top
    x = (across * (width / size) - 0.5).clamp(min=0).minimum(width - 1) + left
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    grid = grid * (2 / (size - 1)) - 1
    return F.grid_sample(images, grid, "bilinear", "border", align_corners=True)


def draw_jitter(n: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Amounts in (-strength, strength) of (brightness, contrast, saturation), and their order.

    Returns:
        amounts: float32 [n, 3], by operation.
        order: int64 [n, 3], the operation at each position, a uniform permutation.
    """
    amounts = (torch.rand(n, 3, generator=generator) * 2 - 1) * strength
    return amounts, torch.rand(n, 3, generator=generator).argsort(1)


def draw_lighting(n: int, std: float, generator: torch.Generator) -> Tensor:
    """Amounts of the three principal components, float32 [n, 3], N(0, std)."""
    return torch.randn(n, 3, generator=generator) * std


def fold_colour(
    amounts: Tensor, order: Tensor, lighting: Tensor, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour jitter in its order, then lighting, then normalisation, as one map for each image.

    Every operation is (1 - a) x + a target, with target 0 (brightness), the grey value
    (saturation) or the image's mean grey (contrast), which is linear in the image's mean colour m.
    So the result is `matrix x + mean_matrix m + bias`.

    Returns:
        matrix, mean_matrix: float32 [n, 3, 3]; bias: float32 [n, 3].
    """
    n = len(amounts)
    amounts = amounts.double()
    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    to_grey = torch.tensor(GREY, dtype=torch.float64).expand(3, 3)
    matrix, mean_matrix = eye, torch.zeros_like(eye)
    for operation in order.T:
        amount = amounts.gather(1, operation[:, None])[:, :, None]
        is_contrast = (operation == CONTRAST)[:, None, None]
        is_saturation = (operation == SATURATION)[:, None, None]
        mean_grey = amount * (to_grey @ (matrix + mean_matrix))
        step = (1 - amount) * eye + is_saturation * amount * to_grey
        matrix = step @ matrix
        mean_matrix = step @ mean_matrix + is_contrast * mean_grey
    components = torch.tensor(LIGHTING_VECTORS, dtype=torch.float64) * torch.tensor(LIGHTING_VALUES)
    bias = lighting.double() @ components.T
    centre, spread = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    bias = (bias - centre) / spread
    return (
        (matrix / spread[:, None]).float(),
        (mean_matrix / spread[:, None]).float(),
        bias.float(),
    )


def apply_colour(images: Tensor, matrix: Tensor, mean_matrix: Tensor, bias: Tensor) -> Tensor:
    """The map of `fold_colour` on float images [N, 3, H, W]."""
    pixels = images.flatten(2)
    offset = mean_matrix @ pixels.mean(2, keepdim=True) + bias[:, :, None]
    return torch.baddbmm(offset, matrix, pixels).view_as(images)


@dataclass(frozen=True)
class CutMix:
    """One batch's CutMix.

    Attributes:
        partners: int64 [N], where the pasted box of each image comes from.
        box: (top, left, bottom, right), after clipping to the image.
        weight: the share of an image's own label.
    """

    partners: Tensor
    box: tuple[int, int, int, int]
    weight: float


def cutmix_box(
    keep: float, centre: tuple[int, int], size: int
) -> tuple[tuple[int, int, int, int], float]:
    """The box for a kept share `keep` around `centre` (row, column), and the own label's weight.

    The side is the integer part of size * sqrt(1 - keep), and the weight is of the clipped box.
    """
    half = int(size * (1 - keep) ** 0.5) // 2
    (top, bottom), (left, right) = (
        (max(middle - half, 0), min(middle + half, size)) for middle in centre
    )
    return (top, left, bottom, right), 1 - (bottom - top) * (right - left) / (size * size)


def draw_cutmix(
    batch: int, size: int, probability: float, generator: torch.Generator
) -> CutMix | None:
    """CutMix for a batch, or None (with probability 1 - `probability`); Beta(1, 1) is uniform."""
    partners = torch.randperm(batch, generator=generator)
    apply, keep = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    row, column = torch.randint(size, (2,), generator=generator).tolist()
    if apply >= probability:
        return None
    return CutMix(partners, *cutmix_box(keep, (row, column), size))


def apply_cutmix(images: Tensor, mix: CutMix) -> Tensor:
    """Paste the partners' boxes: [N, C, S, S] -> a new tensor of that shape."""
    top, left, bottom, right = mix.box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[mix.partners, :, top:bottom, left:right]
    return mixed


@dataclass(frozen=True)
class EpochDraws:
    """Everything random in one epoch over n images.

    Attributes:
        order: int64 [n], the images in the order of training.
        per_image: float32 [n, 26], by position in `order`; `augment` reads it.
        cutmix: one entry for each batch.
    """

    order: Tensor
    per_image: Tensor
    cutmix: list[CutMix | None]

    def to(self, device: torch.device) -> EpochDraws:
        """Copy to the device in three transfers that the host does not wait for."""
        partners = [mix.partners for mix in self.cutmix if mix]
        sizes = [len(p) for p in partners]
        moved = iter(send(torch.cat(partners), device).split(sizes) if partners else ())
        return EpochDraws(
            send(self.order, device),
            send(self.per_image, device),
            [mix and CutMix(next(moved), mix.box, mix.weight) for mix in self.cutmix],
        )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; the host does not wait."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def draw_epoch(
    n: int,
    size: int,
    batch_size: int | Sequence[int],
    generator: torch.Generator,
    *,
    crop_scale: tuple[float, float],
    crop_ratio: tuple[float, float],
    flip: float,
    jitter: float,
    lighting: float,
    mean: Sequence[float],
    std: Sequence[float],
    cutmix: float,
) -> EpochDraws:
    """Draw one epoch: n images of size x size pixels, in batches as `Tensor.split` makes them.

    The keywords are the fields of `mgd3.evaluation.protocols.Augmentation`, and the protocol's
    normalisation.
    """
    order = torch.randperm(n, generator=generator)
    boxes = draw_crops(n, size, crop_scale, crop_ratio, generator)
    flips = torch.rand(n, generator=generator) < flip
    amounts, turns = draw_jitter(n, jitter, generator)
    colour = fold_colour(amounts, turns, draw_lighting(n, lighting, generator), mean, std)
    columns = [boxes.float(), flips.float()[:, None], *(c.flatten(1) for c in colour)]
    batches = order.split(batch_size)
    mixes = [draw_cutmix(len(batch), size, cutmix, generator) for batch in batches]
    return EpochDraws(order, torch.cat(columns, 1), mixes)


def augment(images: Tensor, per_image: Tensor, mix: CutMix | None) -> Tensor:
    """One batch: uint8 [N, 3, S, S] -> augmented, normalised, mixed float32 [N, 3, S, S].

    Args:
        per_image: rows of `EpochDraws.per_image`, [N, 26].
    """
    boxes, flips, matrix, mean_matrix, bias = per_image.split([4, 1, 9, 9, 3], 1)
    x = crop_and_flip(images.float().div_(255), boxes, flips[:, 0])
    x = apply_colour(x, matrix.reshape(-1, 3, 3), mean_matrix.reshape(-1, 3, 3), bias)
    return x if mix is None else apply_cutmix(x, mix)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [N, 3, H, W] -> float32, (x / 255 - mean) / std for each channel."""
    scale, offset = (
        torch.tensor(values, device=images.device)[:, None, None]
        for values in (
            [1 / (255 * s) for s in std],
            [-m / s for m, s in zip(mean, std, strict=True)],
        )
    )
    return torch.addcmul(offset, images.float(), scale)
