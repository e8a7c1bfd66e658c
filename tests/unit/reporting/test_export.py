"""An exported set: readable by the libraries people use, complete, and safe under any name."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.methods.blocks import collect
from mgd3.reporting.export import export, folder_names

# The second sorts before the first, and the third is no folder's name.
CLASSES = ["n02106662", "n01440764", """drei/größer: "x" | <b>`y`"""]
IPC = 12
CONTEXT = {"dataset": "mine", "run": "mgd3_x", "label": "MGD3 (λ=0.1)", "generator": "dit"}


def make_set(folder: Path, classes: list[str] = CLASSES, seed: int = 0) -> tuple[Path, Path]:
    """A collected set of two blocks."""
    draws = torch.Generator().manual_seed(seed)
    for b, part in enumerate((classes[:1], classes[1:])):
        images = {
            name: torch.randint(256, (IPC, 3, 16, 16), generator=draws, dtype=torch.uint8)
            for name in part
        }
        metadata = {"method": "mgd3", "settings": {"lambda": 0.1}, "ipc": IPC}
        artifacts.save_tensors(
            folder / f"block{b}.safetensors",
            images,
            {**metadata, "generation_seed": 7, "classes": part},
        )
    files = folder / "images.safetensors", folder / "manifest.parquet"
    collect([folder / "block0.safetensors", folder / "block1.safetensors"], classes, *files)
    return files


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("export")
    distilled, manifest = make_set(folder)
    arguments = ["--distilled", distilled, "--manifest", manifest, "--output", folder / "out"]
    assert main(["export", *map(str, arguments), "--context", json.dumps(CONTEXT)]) == 0
    return folder / "out", load_file(distilled)


def expected(tensors: dict[str, torch.Tensor], label: int, k: int) -> np.ndarray:
    row = int((tensors["labels"] == label).nonzero()[k])
    return tensors["images"][row].permute(1, 2, 0).numpy()


def test_torchvision_reads_it(exported):
    folder, tensors = exported
    names = folder_names(CLASSES)
    read = ImageFolder(folder / "images")
    assert read.classes == sorted(names)
    assert len(read) == IPC * len(CLASSES)
    for path, target in read.samples:
        label = names.index(read.classes[target])
        pixels = np.asarray(read.loader(path))
        assert (pixels == expected(tensors, label, int(Path(path).stem))).all()


@pytest.mark.parametrize("whole", [False, True])
def test_datasets_reads_it(exported, tmp_path, monkeypatch, whole):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder, tensors = exported
    cache = {"cache_dir": str(tmp_path), "split": "train"}
    if whole:  # as from the Hub: the card names the folder of images
        read = datasets.load_dataset(str(folder), **cache)
    else:
        read = datasets.load_dataset("imagefolder", data_dir=str(folder / "images"), **cache)
    names = folder_names(CLASSES)
    assert len(read) == IPC * len(CLASSES)
    assert set(read.column_names) == {"image", "label"}
    seen = {label: [] for label in range(len(CLASSES))}
    for row in read:
        label = names.index(read.features["label"].int2str(row["label"]))
        seen[label].append(np.asarray(row["image"]).tobytes())
    for label, pictures in seen.items():
        assert sorted(pictures) == sorted(expected(tensors, label, k).tobytes() for k in range(IPC))


def test_the_tensor_file_is_the_collected_set(exported):
    folder, tensors = exported
    held = load_file(folder / "distilled.safetensors")
    assert all(torch.equal(held[name], tensors[name]) for name in tensors)


def test_every_file_is_in_the_sums(exported):
    folder, _ = exported
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert files - listed == {"README.md", "SHA256SUMS"}


def test_the_card_tells_what_the_set_is(exported):
    folder, _ = exported
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["configs"] == [{"config_name": "default", "data_dir": "images"}]
    assert "| generation seed | 7 |" in body
    assert "| images | 36 (12 per class) |" in body
    assert '"lambda": 0.1' in body
    for file in ("distilled.safetensors", "SHA256SUMS"):
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() in body
    assert "| 0 | `images/n02106662` | n02106662 | 12 |" in body
    rows = [line for line in body.splitlines() if line.startswith("| 2 |")]
    assert len(rows) == 1 and "\\|" in rows[0] and "größer" in rows[0]


def test_an_earlier_export_is_replaced(tmp_path):
    export(*make_set(tmp_path, ["a", "b", "c"]), tmp_path / "out")
    export(*make_set(tmp_path, ["a", "b", "d"], seed=1), tmp_path / "out")
    assert {f.name for f in (tmp_path / "out" / "images").iterdir()} == {"a", "b", "d"}
    assert not [f for f in (tmp_path / "out").iterdir() if f.name.startswith(".")]
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


def test_a_manifest_of_another_set_is_refused(tmp_path):
    for name in ("one", "two"):
        make_set(tmp_path / name, seed=len(name) + ord(name[0]))
    with pytest.raises(UserError, match="is not the manifest of"):
        export(
            tmp_path / "one" / "images.safetensors",
            tmp_path / "two" / "manifest.parquet",
            tmp_path / "out",
        )
    assert not (tmp_path / "out" / "README.md").exists()


def test_folder_names_are_safe_and_distinct():
    odd = ["..", "a/b", "a_b", "a b", "Cat", "cat", "con", "NUL.x", "é" * 300, "", ".hidden", "ok"]
    names = folder_names(odd)
    assert len({name.lower() for name in names}) == len(odd)
    for name in names:
        assert name.isascii() and "/" not in name and name[0] != "." and 0 < len(name) < 100
    assert names[odd.index("ok")] == "ok" and names[odd.index("a_b")] == "a_b"
    # A name depends on its class alone, so that two sets of one data set have the same folders.
    assert folder_names(["a/b"])[0] == names[1]


def test_datasets_reads_every_class_whatever_it_is_called(tmp_path, monkeypatch):
    """It hides folders that begin with `__`, and takes some words for names of splits."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    classes = [
        *("秋田犬", "собака", "كلب", "__init__", "_one", "._dot"),
        *("train", "test tube", "bullet-train", "Validation", "dev 2", "rain", "contest"),
    ]
    distilled, manifest = make_set(tmp_path, classes)
    export(distilled, manifest, tmp_path / "out")
    names = folder_names(classes)
    assert len(set(names)) == len(classes)
    assert names[-2:] == ["rain", "contest"]
    for path in (tmp_path / "out", tmp_path / "out" / "images"):
        read = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))
        assert list(read) == ["train"]
        assert read["train"].num_rows == IPC * len(classes)
        assert read["train"].features["label"].names == sorted(names)
