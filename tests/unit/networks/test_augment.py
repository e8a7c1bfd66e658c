"""Batched augmentation against one image at a time, with torchvision or by the definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as TF

from mgd3.evaluation.protocols import Augmentation
from mgd3.networks import augment as A
from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def photographs(n, size, seed=0):
    """Smooth images with some noise, float in [0, 1]."""
    coarse = torch.rand(n, 3, size // 4, size // 4, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return (smooth + 0.1 * torch.rand(n, 3, size, size, generator=generator(seed + 1))) / 1.1


@pytest.mark.parametrize(
    "size, dtype, tolerance",
    [
        (32, torch.float32, 5e-6),
        (64, torch.float32, 5e-6),
        # At 224 px torchvision's own rounding in float32 is 4e-6: only doubles show the formula.
        (224, torch.float32, 1e-5),
        (224, torch.float64, 1e-12),
    ],
)
def test_crop_and_flip_equal_torchvision(size, dtype, tolerance):
    images = photographs(24, size).to(dtype)
    boxes = A.draw_crops(24, size, SCALE, RATIO, generator())
    boxes[:2] = torch.tensor([[0, 0, size, size], [size // 2, 1, size // 2, size - 1]])
    flips = torch.arange(24) % 2
    found = A.crop_and_flip(images, boxes, flips)
    for image, box, flip, result in zip(images, boxes.tolist(), flips, found, strict=True):
        expected = TF.resized_crop(image, *box, [size, size], antialias=True)
        expected = TF.horizontal_flip(expected) if flip else expected
        assert (result - expected).abs().max() <= tolerance


def test_the_whole_box_leaves_the_image():
    images = photographs(3, 32)
    whole = torch.tensor([[0, 0, 32, 32]] * 3)
    torch.testing.assert_close(
        A.crop_and_flip(images, whole, torch.zeros(3)), images, atol=2e-6, rtol=0
    )


def jitter_by_definition(image, amounts, order, alphas):
    """Colour jitter and lighting of one image [3, H, W] in [0, 1], in double precision."""
    x = image.double().numpy()
    for operation in order:
        a = float(amounts[operation])
        grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        target = {A.BRIGHTNESS: 0.0, A.CONTRAST: grey.mean(), A.SATURATION: grey[None]}[operation]
        x = (1 - a) * x + a * target
    for channel in range(3):
        for j in range(3):
            x[channel] += A.LIGHTING_VECTORS[channel][j] * float(alphas[j]) * A.LIGHTING_VALUES[j]
    return x


def test_folded_colour_equals_the_chain_of_operations_in_every_order():
    orders = list(itertools.permutations(range(3))) * 4
    n = len(orders)
    images = photographs(n, 48)
    amounts, _ = A.draw_jitter(n, 0.4, generator(1))
    alphas = A.draw_lighting(n, 0.1, generator(2))
    fold = A.fold_colour(amounts, torch.tensor(orders), alphas, (0, 0, 0), (1, 1, 1))
    found = A.apply_colour(images, *fold)
    normal = A.fold_colour(amounts, torch.tensor(orders), alphas, IMAGENET_MEAN, IMAGENET_STD)
    normalised = A.apply_colour(images, *normal)
    for i, order in enumerate(orders):
        expected = torch.from_numpy(jitter_by_definition(images[i], amounts[i], order, alphas[i]))
        assert (found[i] - expected).abs().max() <= 1e-6
        after = TF.normalize(expected, IMAGENET_MEAN, IMAGENET_STD)
        assert (normalised[i] - after).abs().max() <= 1e-5


def test_folded_colour_agrees_with_torchvision_where_it_does_not_clamp():
    images = 0.4 + 0.1 * photographs(6, 32)
    amounts, order = A.draw_jitter(6, 0.4, generator(3))
    fold = A.fold_colour(amounts, order, torch.zeros(6, 3), (0, 0, 0), (1, 1, 1))
    steps = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    for i, found in enumerate(A.apply_colour(images, *fold)):
        expected = images[i]
        for operation in order[i].tolist():
            expected = steps[operation](expected, 1 - amounts[i, operation].item())
        # torchvision's grey weights have one digit less for some channels.
        assert (found - expected).abs().max() <= 3e-4


@pytest.mark.parametrize("keep", [0.0, 0.03, 0.25, 0.5, 0.77, 0.999, 1.0])
@pytest.mark.parametrize("centre", [(0, 0), (31, 31), (5, 20), (16, 16)])
def test_cutmix_weight_is_the_share_of_own_pixels(keep, centre):
    size = 32
    box, weight = A.cutmix_box(keep, centre, size)
    side = int(size * math.sqrt(1 - keep))
    pasted = torch.zeros(size, size)
    for row in range(size):
        for column in range(size):
            inside = (
                centre[0] - side // 2 <= row < centre[0] + side // 2
                and centre[1] - side // 2 <= column < centre[1] + side // 2
            )
            pasted[row, column] = float(inside)
    assert weight == pytest.approx(1 - pasted.mean().item(), abs=1e-7)
    images = torch.stack([torch.zeros(3, size, size), torch.ones(3, size, size)])
    mixed = A.apply_cutmix(images, A.CutMix(torch.tensor([1, 0]), box, weight))
    assert torch.equal(mixed[0], pasted.expand(3, -1, -1))
    assert torch.equal(mixed[1], 1 - pasted.expand(3, -1, -1))
    assert torch.equal(images[0], torch.zeros(3, size, size)), "the input stays"


def test_crops_are_distributed_as_torchvisions():
    n, size = 20_000, 224
    boxes = A.draw_crops(n, size, SCALE, RATIO, generator(4)).double().numpy()
    torch.manual_seed(5)
    image = torch.empty(3, size, size)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(4_000)],
        dtype=float,
    )
    top, left, height, width = boxes.T
    assert ((top >= 0) & (left >= 0) & (top + height <= size) & (left + width <= size)).all()
    for ours, other in zip(boxes.T, theirs.T, strict=True):
        for quantile in (0.1, 0.5, 0.9):
            gap = abs(np.quantile(ours, quantile) - np.quantile(other, quantile))
            assert gap <= 0.1 * other.std()
        assert abs(ours.mean() - other.mean()) <= 4 * other.std() / len(other) ** 0.5
    assert top.max() > 0.2 * size and (top == size - height).any() and (top == 0).any()


def test_a_crop_that_never_fits_is_the_whole_image():
    boxes = A.draw_crops(5, 32, (2.0, 2.0), RATIO, generator())
    assert boxes.tolist() == [[0, 0, 32, 32]] * 5


def test_jitter_and_lighting_are_distributed_as_published():
    amounts, order = A.draw_jitter(30_000, 0.4, generator(6))
    assert amounts.abs().max() < 0.4
    torch.testing.assert_close(amounts.mean(0), torch.zeros(3), atol=0.006, rtol=0)
    torch.testing.assert_close(amounts.std(0), torch.full((3,), 0.4 / 3**0.5), atol=0.004, rtol=0)
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and (counts / 30_000 - 1 / 6).abs().max() < 0.012
    alphas = A.draw_lighting(30_000, 0.1, generator(7))
    torch.testing.assert_close(alphas.std(0), torch.full((3,), 0.1), atol=0.002, rtol=0)


def test_cutmix_is_distributed_as_published():
    mixes = [A.draw_cutmix(8, 64, 1.0, g) for g in [generator(8)] for _ in range(6_000)]
    assert all(sorted(mix.partners.tolist()) == list(range(8)) for mix in mixes)
    rng = np.random.default_rng(0)
    expected = []
    for _ in range(20_000):
        side = int(64 * (1 - rng.beta(1, 1)) ** 0.5)
        edges = [np.clip([c - side // 2, c + side // 2], 0, 64) for c in rng.integers(64, size=2)]
        expected.append(1 - np.prod([high - low for low, high in edges]) / 64**2)
    weights = np.array([mix.weight for mix in mixes])
    assert abs(weights.mean() - np.mean(expected)) < 0.012
    assert abs(weights.std() - np.std(expected)) < 0.012
    g = generator(9)
    applied = [A.draw_cutmix(4, 32, 0.3, g) is not None for _ in range(2_000)]
    assert abs(np.mean(applied) - 0.3) < 0.04


def epoch(n=10, size=16, batch=4, seed=0, **changes):
    normal = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    settings = {**vars(Augmentation()), **normal, **changes}
    return A.draw_epoch(n, size, batch, generator(seed), **settings)


def test_an_epoch_sees_each_image_once_and_keeps_the_partial_batch():
    draws = epoch()
    assert sorted(draws.order.tolist()) == list(range(10))
    assert draws.per_image.shape == (10, 26)
    assert [len(mix.partners) for mix in draws.cutmix] == [4, 4, 2]


def test_flips_follow_their_probability():
    assert epoch(4_000).per_image[:, 4].mean().item() == pytest.approx(0.5, abs=0.04)
    assert epoch(100, flip=0.0).per_image[:, 4].sum() == 0


def test_an_epoch_moves_whole():
    for probability in (0.0, 0.5, 1.0):
        draws = epoch(30, cutmix=probability)
        moved = draws.to(torch.device("cpu"))
        assert torch.equal(draws.order, moved.order)
        assert torch.equal(draws.per_image, moved.per_image)
        for mix, other in zip(draws.cutmix, moved.cutmix, strict=True):
            assert (mix is None) == (other is None)
            if mix:
                assert torch.equal(mix.partners, other.partners)
                assert (mix.box, mix.weight) == (other.box, other.weight)


def test_a_batch_passes_through_every_step_in_order():
    images = (photographs(6, 32) * 255).byte()
    draws = epoch(6, 32, 6, seed=3)
    found = A.augment(images, draws.per_image, draws.cutmix[0])
    again = generator(3)  # the same draws, one operation at a time
    torch.randperm(6, generator=again)
    boxes = A.draw_crops(6, 32, SCALE, RATIO, again)
    flips = torch.rand(6, generator=again) < 0.5
    amounts, order = A.draw_jitter(6, 0.4, again)
    alphas = A.draw_lighting(6, 0.1, again)
    expected = []
    for i in range(6):
        x = TF.resized_crop(images[i].float() / 255, *boxes[i].tolist(), [32, 32], antialias=True)
        x = TF.horizontal_flip(x) if flips[i] else x
        x = torch.from_numpy(jitter_by_definition(x, amounts[i], order[i].tolist(), alphas[i]))
        expected.append(TF.normalize(x, IMAGENET_MEAN, IMAGENET_STD))
    expected = A.apply_cutmix(torch.stack(expected), A.draw_cutmix(6, 32, 1.0, again))
    torch.testing.assert_close(found.double(), expected, atol=3e-5, rtol=0)


def test_normalise_is_torchvisions():
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator())
    expected = TF.normalize(images.float() / 255, IMAGENET_MEAN, IMAGENET_STD)
    found = A.normalise(images, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
