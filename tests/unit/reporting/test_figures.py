"""Grids show the pixels as they are; figures have the same bytes each time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgd3.base.artifacts import load_tensors, save_tensors
from mgd3.base.errors import UserError
from mgd3.reporting.figures import (
    accuracy_overview,
    grid,
    image_grid,
    modes_and_samples,
    over_stops,
    trajectories,
)
from mgd3.reporting.tables.results import COLUMNS

NAMES = ["tench, Tinca tinca", "English springer", "chain_saw <&>"]


def _set(path: Path, size=32, each=4, channels=3, classes=NAMES, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = each * len(classes)
    images = rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    order = rng.permutation(n)  # the file need not be sorted by class
    labels = np.repeat(np.arange(len(classes)), each)[order]
    tensors = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
    save_tensors(path, tensors, {"classes": classes})
    return images[labels == 1]


def _contains(canvas: np.ndarray, patch: np.ndarray) -> bool:
    height, width = patch.shape[:2]
    corners = (canvas[: 1 - height, : 1 - width] == patch[0, 0]).all(-1)
    return any(
        np.array_equal(canvas[y : y + height, x : x + width], patch)
        for y, x in np.argwhere(corners)
    )


@pytest.mark.parametrize(("size", "factor"), [(32, 3), (28, 3), (256, 1)])
def test_pixels_are_enlarged_by_whole_numbers(tmp_path, size, factor):
    second = _set(tmp_path / "set.safetensors", size)
    grid(tmp_path / "set.safetensors", tmp_path / "set.png", columns=3)
    canvas = np.asarray(Image.open(tmp_path / "set.png"))
    for k in range(3):
        patch = second[k].transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
        assert _contains(canvas, patch)
    fourth = second[3].transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
    assert not _contains(canvas, fourth)


def test_grey_images_and_empty_classes(tmp_path):
    _set(tmp_path / "grey.safetensors", 28, channels=1)
    grid(tmp_path / "grey.safetensors", tmp_path / "grey.png")
    empty = np.zeros((0, 3, 32, 32), np.uint8)
    image_grid({"": [empty, np.ones((2, 3, 32, 32), np.uint8)]}, ["a", "b"], tmp_path / "e.png")
    image_grid({"": [empty]}, ["a"], tmp_path / "none.png")


def test_same_bytes_twice(tmp_path):
    _set(tmp_path / "set.safetensors")
    for ending in ("png", "svg"):
        grid(tmp_path / "set.safetensors", tmp_path / f"1.{ending}")
        grid(tmp_path / "set.safetensors", tmp_path / f"2.{ending}")
        assert (tmp_path / f"1.{ending}").read_bytes() == (tmp_path / f"2.{ending}").read_bytes()


def test_svg_labels_are_text(tmp_path):
    images = [np.zeros((2, 3, 32, 32), np.uint8)] * 3
    names = ["tench", "English springer", "chain saw <&>"]
    image_grid({"MGD3": images, "Unguided": images}, names, tmp_path / "both.svg")
    root = ET.parse(tmp_path / "both.svg").getroot()
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"tench", "English springer", "chain saw <&>", "MGD3", "Unguided"} <= set(texts)


def test_what_is_left_out_is_said(tmp_path):
    _set(tmp_path / "set.safetensors", 8, 3, classes=[f"n{i:08d}" for i in range(30)])
    grid(tmp_path / "set.safetensors", tmp_path / "set.svg", columns=2)
    text = (tmp_path / "set.svg").read_text()
    assert "first 20 of 30 classes, first 2 of 3 images per class" in text
    assert "n00000019" in text and "n00000020" not in text


def test_user_errors(tmp_path):
    path = tmp_path / "set.safetensors"
    with pytest.raises(UserError, match="not found"):
        grid(path, tmp_path / "set.png")
    _set(path)
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        grid(path, tmp_path / "set.jpg")
    save_tensors(path, {"images": torch.zeros(2, 3, 4, 4), "labels": torch.zeros(2)}, {})
    with pytest.raises(UserError, match="not a set of images"):
        grid(path, tmp_path / "set.png")


def _results(path: Path) -> Path:
    import pandas as pd

    shared = {"dataset": "mnist", "ipc": 10, "protocol": "hard-small", "network": "convnet3"}
    shared |= {"n": 3, "n_generations": 3, "n_trainings": 1, "ddof": 0, "n_test": 10_000}
    gains = [(None, None, None), (-1.0, -2.0, -0.5), (1.0, -0.5, 2.0)]
    rows = []
    for i, (mean, low, high) in enumerate(gains):
        row = dict.fromkeys(COLUMNS) | shared
        row |= {"run": f"run{i}", "label": f"Method_{i} $x$", "method": "m", "reference": "run0"}
        row |= {"deterministic": i == 1, "last_values": "80 81 83", "last_mean": 81.33}
        row |= {"gain_last": mean, "gain_last_low": low, "gain_last_high": high}
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_overview_says_n_and_has_the_same_bytes_twice(tmp_path):
    csv = _results(tmp_path / "results.csv")
    for name in ("a", "b"):
        accuracy_overview(csv, tmp_path / f"{name}.png")
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    words = re.sub(r"<[^>]+>", " ", (tmp_path / "a.svg").read_text())
    for word in ("Method_1 $x$ †", "test accuracy, last (%)", "reference", "10,000"):
        assert word in words
    assert "n = 3×1" in words
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 1200


def test_overview_cuts_no_long_label(tmp_path):
    import pandas as pd

    csv = _results(tmp_path / "results.csv")
    table = pd.read_csv(csv)
    table["label"] = "MGD3 (random modes, λ=0.125, t_SG=25, CFG 1.5)"
    table.to_csv(csv, index=False)
    accuracy_overview(csv, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        edge = np.asarray(image.convert("L"))[:, :8]
    assert (edge == 255).all()


def test_overview_needs_accuracies(tmp_path):
    csv = _results(tmp_path / "results.csv")
    with pytest.raises(UserError, match="no accuracies"):
        accuracy_overview(csv, tmp_path / "a.png", figure="best")


STOPS = [
    {"method": "mgd3", "settings": {"t_sg": 0}},
    {"method": "mgd3", "settings": {"t_sg": 25}},
    {"method": "unguided", "settings": {}},
]


def _by_class(path: Path, seed: int, each=4, classes=NAMES) -> list[np.ndarray]:
    _set(path, each=each, classes=classes, seed=seed)
    held = load_tensors(path)
    return [held["images"][held["labels"] == c].numpy() for c in range(len(classes))]


def _cells(png: Path, rows: int, columns: int) -> np.ndarray:
    """The pictures of a grid of 32 px images, [rows, columns, 32, 32, 3]."""
    canvas = np.asarray(Image.open(png).convert("RGB"))
    ink = (canvas < 250).any(-1)

    def starts(along: np.ndarray) -> list[int]:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], along.astype(int), [0]])))
        return [a for a, b in edges.reshape(-1, 2) if b - a == 96]

    # Texts leave white in every line and column of their own.
    across = starts(ink.mean(0) > 0.5)
    down = starts(ink[:, across[0] : across[0] + 96].mean(1) > 0.5)
    assert (len(down), len(across)) == (rows, columns)
    return np.array([[canvas[y : y + 96 : 3, x : x + 96 : 3] for x in across] for y in down])


def test_a_column_a_stop_beside_the_mode(tmp_path):
    modes = _by_class(tmp_path / "modes", 9, each=2)
    sets = [_by_class(tmp_path / f"set{k}", k) for k in range(3)]
    over_stops(STOPS, [tmp_path / f"set{k}" for k in range(3)], tmp_path / "modes",
               tmp_path / "over.png")  # fmt: skip
    cells = _cells(tmp_path / "over.png", 6, 4)
    for row in range(6):
        name, k = divmod(row, 2)
        for column, of in enumerate([modes, *sets]):
            assert np.array_equal(cells[row, column], of[name][k].transpose(1, 2, 0))
    text = (tmp_path / "over.svg").read_text()
    for word in (">mode<", ">t_SG 0<", ">t_SG 25<", ">unguided<", "i &gt; t_SG"):
        assert word in text


def test_modes_stand_beside_the_samples_they_guided(tmp_path):
    modes = _by_class(tmp_path / "modes", 9, classes=["a", "b"])
    found = _by_class(tmp_path / "set", 1, classes=["c", "b", "a"])
    modes_and_samples(tmp_path / "modes", tmp_path / "set", tmp_path / "both.png")
    cells = _cells(tmp_path / "both.png", 2, 8)
    for row, name in enumerate([2, 1]):
        for k in range(4):
            assert np.array_equal(cells[row, k], modes[row][k].transpose(1, 2, 0))
            assert np.array_equal(cells[row, 4 + k], found[name][k].transpose(1, 2, 0))
    assert "first 2 of 3 classes" in (tmp_path / "both.svg").read_text()


def test_trajectories_have_a_bar_under_each_guided_step(tmp_path):
    classes, steps = ["a", "b"], [9, 4, 0]
    modes = _by_class(tmp_path / "modes", 9, classes=classes)
    held = []
    for k, row in enumerate(STOPS):
        images = np.random.default_rng(k).integers(0, 200, (2, 4, 3, 32, 32), dtype=np.uint8)
        tensors = {f"x0/{n}": torch.from_numpy(images[c, :3]) for c, n in enumerate(classes)}
        tensors |= {f"image/{n}": torch.from_numpy(images[c, 3]) for c, n in enumerate(classes)}
        guided = [i > row["settings"].get("t_sg", 99) for i in steps]
        header = {"classes": classes, "steps": steps, "guided": guided}
        save_tensors(tmp_path / f"t{k}", tensors, header)
        held.append(images)
    files = [tmp_path / f"t{k}" for k in range(3)]
    trajectories(STOPS, files, tmp_path / "modes", tmp_path / "t.png")
    canvas = np.asarray(Image.open(tmp_path / "t.png").convert("RGB"))
    bars = 0
    for c in range(2):
        assert _contains(canvas, modes[c][0].transpose(1, 2, 0).repeat(3, 0).repeat(3, 1))
        for k in range(3):
            for image in held[k][c]:
                large = image.transpose(1, 2, 0).repeat(3, 0).repeat(3, 1)
                assert _contains(canvas, large)
    black = (canvas == 0).all(-1)
    for line in black:
        runs = np.diff(np.concatenate([[0], line.astype(int), [0]])).nonzero()[0].reshape(-1, 2)
        bars += sum(b - a == 96 for a, b in runs)
    assert bars == 2 * 2 * 4, "two classes, two guided steps of t_SG 0, four pixels high"
    save_tensors(tmp_path / "t1", tensors, {**header, "steps": [9, 5, 0]})
    with pytest.raises(UserError, match="have not the same steps"):
        trajectories(STOPS, files, tmp_path / "modes", tmp_path / "t.png")
