"""Views of images against torchvision, one image at a time."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD
from mgd3.networks.resampling import draw_views, resampled


def images(n, side, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=g)


def strips_moved(image, places, dim):
    """Strip q of an image goes to place `places[q]`."""
    strips = image.chunk(len(places), dim)
    return torch.cat([strips[places.index(at)] for at in range(len(places))], dim)


def one_by_one(image, view, size, factor):
    top, left, height, width, mirror, *places = [int(v) for v in view]
    x = image.float() / 255
    x = strips_moved(x, places[:factor], 2)
    x = strips_moved(x, places[factor:], 1)
    x = TF.resized_crop(
        x, top, left, height, width, [size, size], InterpolationMode.BILINEAR, antialias=True
    )
    if mirror:
        x = TF.hflip(x)
    return TF.normalize(x, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    "side, size, scale, factor",
    [
        (64, 56, (0.5, 1.0), 2),  # crops larger and smaller than the result
        (64, 56, (0.08, 1.0), 1),
        (96, 24, (0.3, 1.0), 3),  # far smaller: a wide triangle
        (32, 64, (0.5, 1.0), 2),  # larger
        (32, 32, (1.0, 1.0), 1),  # no box but the whole fits
    ],
)
def test_views_equal_torchvisions(side, size, scale, factor):
    pixels = images(200 if side == 32 else 40, side)
    generator = torch.Generator().manual_seed(1)
    views = draw_views(len(pixels), side, generator, crop_scale=scale, flip=0.5, shuffle=factor)
    found = resampled(pixels, views, size, IMAGENET_MEAN, IMAGENET_STD)
    wanted = torch.stack(
        [one_by_one(image, view, size, factor) for image, view in zip(pixels, views, strict=True)]
    )
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-5  # of values up to 2.6


def test_shuffling_swaps_each_axis_half_of_the_time():
    generator = torch.Generator().manual_seed(0)
    views = draw_views(40_000, 64, generator, crop_scale=(0.5, 1.0), flip=0.5, shuffle=2)
    mirror, across, down = views[:, 4], views[:, 5:7], views[:, 7:9]
    for places in (across, down):
        assert torch.equal(places.sum(1), torch.ones(len(views)))
    swapped = torch.stack([mirror, across[:, 0], down[:, 0]]).double()
    assert (swapped.mean(1) - 0.5).abs().max() < 0.01
    assert (torch.corrcoef(swapped) - torch.eye(3)).abs().max() < 0.02


def test_three_strips_take_every_order():
    generator = torch.Generator().manual_seed(0)
    views = draw_views(6000, 48, generator, crop_scale=(0.5, 1.0), flip=0.0, shuffle=3)
    orders, counts = views[:, 5:8].unique(dim=0, return_counts=True)
    assert len(orders) == 6 and counts.min() > 850 and not views[:, 4].any()


def test_the_batch_does_not_matter():
    pixels = images(150, 32)
    generator = torch.Generator().manual_seed(1)
    views = draw_views(150, 32, generator, crop_scale=(0.2, 1.0), flip=0.5, shuffle=2)
    whole = resampled(pixels, views, 24, IMAGENET_MEAN, IMAGENET_STD)
    parts = [
        resampled(pixels[i : i + 7], views[i : i + 7], 24, IMAGENET_MEAN, IMAGENET_STD)
        for i in range(0, 150, 7)
    ]
    assert (whole - torch.cat(parts)).abs().max() < 1e-5
