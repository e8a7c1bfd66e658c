"""The stage `pixels`: real splits at an evaluation's size, resized as its protocol says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as T

from mgd3.base.artifacts import load_tensors
from mgd3.base.errors import UserError
from mgd3.data import make_dataset, pixels
from mgd3.data.index import Index, write_index
from mgd3.data.pixels import write_pixels
from mgd3.evaluation.protocols import PROTOCOLS

RESIZES = {
    "24": [T.Resize(24), T.CenterCrop(24), T.PILToTensor()],
    "30-24": [T.Resize(30), T.CenterCrop(24), T.PILToTensor()],
    "24-tensor": [T.PILToTensor(), T.ToDtype(torch.float32), T.Resize(24), T.CenterCrop(24)],
    "24-tensor-aliased": [
        T.PILToTensor(),
        T.ToDtype(torch.float32),
        T.Resize(24, antialias=False),
        T.CenterCrop(24),
    ],
}


@pytest.fixture
def photographs(tmp_path):
    """Two classes of noise, wide and tall."""
    rng = np.random.default_rng(0)
    for name, shape in (("tall", (70, 41, 3)), ("wide", (39, 64, 3))):
        for split in ("train", "val"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for k in range(3):
                pixels = rng.integers(256, size=shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    choice = {"name": "own", "root": str(tmp_path / "images"), "validation_fraction": 0}
    dataset, index = make_dataset(choice), tmp_path / "index.parquet"
    write_index(dataset, index)
    return dataset, index


@pytest.mark.parametrize("size", RESIZES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_are_torchvisions(photographs, tmp_path, size, split):
    dataset, index = photographs
    write_pixels(dataset, index, split, size, tmp_path / "pixels.safetensors")
    found = load_tensors(tmp_path / "pixels.safetensors")
    keys, labels = Index.read(index).split(split)
    assert found["labels"].tolist() == labels == [0, 0, 0, 1, 1, 1]
    published = T.Compose(RESIZES[size])
    for key, image in zip(keys, found["images"], strict=True):
        expected = published(dataset.source.open(key)).float()
        assert (image.float() - expected).abs().max() <= (0.5001 if "tensor" in size else 0)


def test_antialiasing_matters_on_tensors(photographs, tmp_path):
    made = []
    for size in ("24-tensor", "24-tensor-aliased"):
        write_pixels(*photographs, "test", size, tmp_path / f"{size}.safetensors")
        made.append(load_tensors(tmp_path / f"{size}.safetensors")["images"].float())
    assert (made[0] - made[1]).abs().max() > 50


def test_each_protocol_names_its_pixels():
    assert PROTOCOLS["hard"].pixels == "224"
    assert PROTOCOLS["glad"].pixels == "128-tensor"
    assert PROTOCOLS["glad-aliased"].pixels == "128-tensor-aliased"


def test_a_split_larger_than_memory_is_refused_at_once(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "total_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"train split of own .* at 24 px.*memory"):
        write_pixels(*photographs, "train", "24-tensor", tmp_path / "pixels.safetensors")
