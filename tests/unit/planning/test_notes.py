"""What is told before a run without being a mistake."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mgd3.planning.config import resolve
from mgd3.planning.notes import notes
from mgd3.reporting.sizes import size_note


def config(*datasets, runs=({"method": "random"},)):
    return resolve(
        {
            "name": "test",
            "datasets": list(datasets),
            "ipc": [1],
            "generation_seeds": [0],
            "runs": list(runs),
            "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
        }
    )


def own(root: Path) -> str:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(root / split / name / "0.png")
    return str(root)


def test_a_size_that_is_judged_at_another_is_told(tmp_path):
    mine = {"name": "mine", "root": own(tmp_path / "images")}
    assert notes(config({**mine, "size": 64})) == [
        "images of mine have 64 px (`size` of the data set), and protocol hard-small judges them "
        "at 32 px"
    ]
    assert notes(config({**mine, "size": 32}, "mnist")) == []
    (note,) = notes(config({"name": "mnist", "size": 64}))
    assert note.startswith("images of mnist have 64 px") and note.endswith("at 32 px")


def test_imagenet_is_judged_as_published_without_a_note():
    for protocol in ("hard", "glad"):
        assert size_note("imagenette", 256, protocol) == ""
    assert "512 px" in size_note("imagenette", 512, "hard")
    assert size_note("mine", 64, "of-another-package") == ""


def test_what_was_left_out_is_told_by_data_set(tmp_path):
    root = tmp_path / "images"
    mine = {"name": "mine", "root": own(root), "size": 32}
    (root / "train" / "cat" / "notes.heic").touch()
    (note,) = notes(config(mine))
    assert note.startswith("mine: left out: 1 file") and note.endswith("train/cat/notes.heic")


def test_a_repository_without_a_commit_is_told():
    """The same name may be other weights tomorrow."""
    names = ["dit", "dit:some/body", "dit:some/body@v2", f"dit:some/body@{40 * 'a'}"]
    runs = [{"method": "nearest", "generator": name} for name in names]
    told = notes(config("mnist", runs=runs))
    assert [note.split(": ")[0] for note in told] == ["dit:some/body", "dit:some/body@v2"]
    assert "known by 'main'" in told[0] and "known by 'v2'" in told[1]
