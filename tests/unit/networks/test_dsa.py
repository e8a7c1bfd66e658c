"""DSA, batched, against one image at a time by other means; and its parameters' distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2 import functional as TF

from mgd3.evaluation.protocols import DSA_OPERATIONS
from mgd3.networks import dsa
from mgd3.networks.augment import normalise
from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD

N = 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normalised(size: int, n: int = N, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(n, 3, size // 4, size // 4, generator=generator(seed))
    pictures = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255
    return normalise(pictures.byte(), IMAGENET_MEAN, IMAGENET_STD)


def drawn(operation: str, size: int, n: int = N, seed: int = 1) -> torch.Tensor:
    parameters = dsa.OPERATIONS[operation][0](n, size, generator(seed)).float()
    return torch.nn.functional.pad(parameters, (0, 3 - parameters.shape[1]))


def by_definition(operation: str, image: np.ndarray, p: list[float]) -> np.ndarray:
    """One image [3, S, S] in double precision."""
    size = image.shape[-1]
    middle = (size - 1) / 2
    if operation == "color":
        x = image + p[0]
        grey = x.mean(0, keepdims=True)
        x = (x - grey) * p[1] + grey
        return (x - x.mean()) * p[2] + x.mean()
    if operation == "crop":
        # Moving the picture up by `rows` and left by `columns`: zeros come in.
        return ndimage.shift(image, (0, -p[0], -p[1]), order=0, mode="constant", cval=0)
    if operation == "cutout":
        hole = Image.new("L", (size, size), 1)
        side = int(size * 0.5 + 0.5)
        top, left = int(p[0]) - side // 2, int(p[1]) - side // 2
        hole.paste(0, (left, top, left + side, top + side))
        return image * np.asarray(hole)
    if operation == "flip":
        return image[:, :, ::-1] if p[0] else image
    # (across, down) -> where to sample; arrays are (row, column), that is (down, across).
    if operation == "scale":
        matrix = np.diag([p[1], p[0]])
    else:
        cos, sin = np.cos(p[0]), np.sin(p[0])
        matrix = np.array([[cos, sin], [-sin, cos]])
    offset = middle - matrix @ [middle, middle]
    return np.stack(
        [ndimage.affine_transform(c, matrix, offset, order=1, mode="grid-constant") for c in image]
    )


@pytest.mark.parametrize("size", [33, 64, 128])
@pytest.mark.parametrize("operation", DSA_OPERATIONS)
def test_each_operation_equals_its_definition(operation, size):
    images, parameters = normalised(size), drawn(operation, size)
    found = dsa.apply_dsa(images, operation, parameters)
    assert found.shape == images.shape and found.dtype == images.dtype
    for image, p, result in zip(images, parameters.double().tolist(), found, strict=True):
        expected = by_definition(operation, image.double().numpy(), p)
        # Of float32 at values up to 2.6, and of grid positions up to 128.
        tolerance = {"scale": 6e-5, "rotate": 6e-5, "color": 3e-6}.get(operation, 0)
        assert np.abs(result.double().numpy() - expected).max() <= tolerance


def test_rotation_agrees_with_torchvision_inside():
    """torchvision rotates about the same centre, clockwise for a negative angle."""
    images = normalised(64)
    parameters = drawn("rotate", 64)
    found = dsa.apply_dsa(images, "rotate", parameters)
    for image, p, result in zip(images, parameters, found, strict=True):
        degrees = float(torch.rad2deg(p[0]))
        expected = TF.rotate(image, degrees, TF.InterpolationMode.BILINEAR)
        assert (result - expected)[:, 12:-12, 12:-12].abs().max() <= 1e-4


def test_the_last_batch_may_be_partial_and_each_has_one_operation():
    epoch = dsa.draw_dsa_epoch(10, 32, 4, DSA_OPERATIONS, generator())
    assert sorted(epoch.order.tolist()) == list(range(10))
    assert len(epoch.operations) == 3 and epoch.parameters.shape == (10, 3)
    assert set(epoch.operations) <= set(DSA_OPERATIONS)
    moved = epoch.to(torch.device("cpu"))
    assert torch.equal(moved.parameters, epoch.parameters)
    again = dsa.draw_dsa_epoch(10, 32, 4, DSA_OPERATIONS, generator())
    assert torch.equal(again.parameters, epoch.parameters) and again.operations == epoch.operations


def test_operations_are_drawn_equally_often():
    epoch = dsa.draw_dsa_epoch(6_000, 32, 1, DSA_OPERATIONS, generator(2))
    shares = [epoch.operations.count(name) / 6_000 for name in DSA_OPERATIONS]
    assert max(abs(share - 1 / 6) for share in shares) < 0.02
    without = dsa.draw_dsa_epoch(300, 32, 1, DSA_OPERATIONS[:2], generator(2))
    assert set(without.operations) == set(DSA_OPERATIONS[:2])


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [
        ("color", (-0.5, 0.0, 0.5), (0.5, 2.0, 1.5)),
        ("scale", (1 / 1.2, 1 / 1.2), (1.2, 1.2)),
        ("rotate", (-np.pi / 12,), (np.pi / 12,)),
    ],
)
def test_parameters_are_uniform(operation, low, high):
    n = 20_000
    found = dsa.OPERATIONS[operation][0](n, 128, generator(3)).double().numpy()
    assert found.shape == (n, len(low))
    for column, a, b in zip(found.T, low, high, strict=True):
        assert a <= column.min() and column.max() <= b
        for share in (0.1, 0.5, 0.9):
            assert abs(np.quantile(column, share) - (a + share * (b - a))) < 0.02 * (b - a)
    if len(low) > 1:
        assert abs(np.corrcoef(found.T)[0, 1]) < 0.03, "each has its own"


@pytest.mark.parametrize(
    ("operation", "size", "low", "high"),
    [("crop", 128, -16, 16), ("crop", 64, -8, 8), ("cutout", 128, 0, 128), ("cutout", 65, 0, 64)],
)
def test_whole_pixels_are_uniform_with_both_ends(operation, size, low, high):
    n = 30_000
    found = dsa.OPERATIONS[operation][0](n, size, generator(4))
    values, counts = found.unique(return_counts=True)
    assert values.tolist() == list(range(low, high + 1))
    expected = 2 * n / len(values)
    assert (counts - expected).abs().max() < 6 * expected**0.5


def test_half_of_the_images_are_mirrored():
    assert dsa.draw_flip(10_000, 32, generator(5)).mean().item() == pytest.approx(0.5, abs=0.02)
