"""What users bring beside images: nothing is left out without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.index import Index, write_index
from mgd3.data.pixels import write_pixels


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make(root: Path, *folders: str, images: int = 4) -> Path:
    """Images that differ, in <folder>/cat and <folder>/dog."""
    for k, place in enumerate(f"{folder}/{name}" for folder in folders for name in ("cat", "dog")):
        for i in range(images):
            noise(root / place / f"{i}.png", 1000 * k + i)
    return root


def own(root: Path, **settings):
    return make_dataset({"name": "own", "root": str(root), **settings})


def only(notes: list[str], word: str) -> str:
    (found,) = [note for note in notes if word in note]
    return found


def test_all_that_is_not_taken_is_told_with_counts_and_an_example(tmp_path, capsys):
    root = make(tmp_path / "root", "train", "val")
    cat = root / "train" / "cat"
    noise(cat / "more" / "a.png", 1)
    for name in ("a.heic", "b.heic", "c"):
        (cat / name).write_bytes(b"x")
    (cat / "gone.png").symlink_to(root / "nowhere.png")
    (root / "val" / "dog" / "broken").symlink_to(root / "nowhere")
    noise(root / "val" / "emu" / "a.png", 1)
    noise(root / "train" / "stray.png", 1)
    noise(root / "test" / "cat" / "a.png", 1)
    for litter in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (cat / litter).write_bytes(b"x")
    data = own(root)
    notes = data.source.notes()
    assert only(notes, "sub-folder").endswith("1 sub-folder inside class folders, with all they "
                                              "hold: train/cat/more")  # fmt: skip
    endings = only(notes, "endings")
    assert endings.startswith("left out: 3 files") and "(.heic: 2, none: 1)" in endings
    assert "for example train/cat/a.heic" in endings
    assert "2 links leading nowhere: for example train/cat/gone.png" in only(notes, "link")
    assert only(notes, "val/emu").startswith("left out: 1 class folder that train/ does not have")
    assert "1 file beside the class folders" in only(notes, "train/stray.png")
    assert only(notes, "test/") == "left out: the folder test/ beside train/"
    assert len(notes) == 6, "litter is none of them"
    write_index(data, tmp_path / "index")
    told = capsys.readouterr().err
    assert all(f"own: {note}" in told for note in notes)
    index = Index.read(tmp_path / "index")
    assert [note for note in index.notes if note.startswith("left out")] == notes
    assert len(index.table) == 16


def test_a_folder_with_nothing_beside_images_has_no_notes(tmp_path):
    assert own(make(tmp_path / "root", "train", "val")).source.notes() == []


@pytest.mark.parametrize("ending", ["jfif", "jpe", "avif", "jp2", "JPG", "Tiff"])
def test_endings_of_known_formats_are_taken(tmp_path, ending):
    root = make(tmp_path / "root", "train", "val")
    with Image.open(root / "train/cat/0.png") as picture:
        picture.save(root / "train/cat" / f"new.{ending}")
    source = own(root).source
    assert f"train/cat/new.{ending}" in source.training_images("cat")
    assert source.open(f"train/cat/new.{ending}").size == (20, 16)


@pytest.mark.parametrize(
    ("folders", "taken"),
    [
        (["test"], "test"),
        (["valid"], "valid"),
        (["validation"], "validation"),
        (["valid", "test"], "test"),
        (["test", "val"], "val"),
    ],
)
def test_other_names_of_the_test_folder_serve(tmp_path, folders, taken):
    root = make(tmp_path / "root", "train", *folders)
    data = own(root)
    data.preflight(1)
    write_index(data, tmp_path / "index")
    index = Index.read(tmp_path / "index")
    assert index.images("cat", "test") == [f"{taken}/cat/{i}.png" for i in range(4)]
    assert len(index.images("cat", "train") + index.images("cat", "validation")) == 4
    told = "\n".join(index.notes)
    assert ("the test images are those of" in told) == (taken != "val")
    for folder in set(folders) - {taken}:
        assert f"left out: the folder {folder}/ beside train/" in told


def test_a_test_folder_without_classes_does_not_serve(tmp_path):
    root = make(tmp_path / "root", "train")
    noise(root / "test" / "unlabelled.png", 5)
    data = own(root)
    data.preflight(1)
    assert only(data.source.notes(), "the folder test/")
    assert only(data.source.notes(), "held out for test")


def test_a_missing_train_folder_is_told_by_what_lies_there(tmp_path):
    def look(root: Path) -> None:
        own(root).preflight(1)

    flat = make(tmp_path / "flat", ".")
    with pytest.raises(UserError, match=r"but 2 folders of images .*: cat, dog(.|\n)*move them"):
        look(flat)
    nested = make(tmp_path / "nested", "photos/train", "photos/val")
    with pytest.raises(UserError, match=r"but there is .*nested/photos/train\n.*set `root` to"):
        look(nested)
    capital = make(tmp_path / "capital", "Train", "val")
    with pytest.raises(UserError, match=r"but there is .*/Train(.|\n)*rename it"):
        look(capital)
    with pytest.raises(UserError, match=r"no folder .*absent/train"):
        look(tmp_path / "absent")


def test_an_empty_class_tells_what_lies_in_it(tmp_path):
    root = make(tmp_path / "root", "train", "val")
    shutil.move(root / "train" / "cat", root / "cat")
    shutil.move(root / "cat", root / "train" / "cat" / "batch1")
    with pytest.raises(UserError, match=r"'cat' has no training images .*1 sub-folder.*cat/batch1"):
        own(root).preflight(1)


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "photos", "train", "val")
    (tmp_path / "classes.tsv").write_text("class\twnid\ncat\tnew\ndog\tnew\n")
    data = own(Path("~/photos"), classes="~/classes.tsv")
    data.preflight(1)
    assert data.source.classes() == ["cat", "dog"]
    with pytest.raises(UserError, match="a user that is not here"):
        own(Path("~nobody-of-that-name/photos"))


def test_images_in_two_splits_or_classes_are_counted(tmp_path, capsys):
    root = make(tmp_path / "root", "train", "val")
    shutil.rmtree(root / "val")
    shutil.copytree(root / "train", root / "val")
    write_index(own(root), tmp_path / "index")
    told = capsys.readouterr().err
    assert "8 of 8 test images are training images, too (equal files): val/cat/0.png is train/" \
        "cat/0.png" in told  # fmt: skip
    assert "note: own: 8 of 8 test images" in told
    assert "several classes" not in told
    shutil.copy(root / "train/cat/1.png", root / "train/dog/twin.png")
    write_index(own(root, validation_fraction=0), tmp_path / "index")
    told = capsys.readouterr().err
    assert "1 image in several classes at once (equal files): " in told
    assert "train/dog/twin.png" in told


def test_different_images_are_no_duplicates(tmp_path, capsys):
    write_index(own(make(tmp_path / "root", "train", "val")), tmp_path / "index")
    assert "equal files" not in capsys.readouterr().err


def test_test_images_that_are_left_out_are_counted(tmp_path, capsys):
    root = make(tmp_path / "root", "train", "val")
    bad = root / "val" / "cat" / "1.png"
    bad.write_bytes(bad.read_bytes()[:300])
    data = own(root, undecodable="skip")
    write_index(data, tmp_path / "index")
    capsys.readouterr()
    write_pixels(data, tmp_path / "index", "test", "16", tmp_path / "pixels")
    told = capsys.readouterr().err
    assert "1 of 8 test images of own left out" in told and "val/cat/1.png" in told
    # Begun so, a line of a job's log is shown on the terminal, too.
    assert told.startswith("note: 1 of 8")
    for other in (root / "val" / "cat").glob("*.png"):
        other.write_bytes(other.read_bytes()[:300])
    write_index(data, tmp_path / "index")
    with pytest.raises(UserError, match="no test image of class 'cat' of own can be decoded"):
        write_pixels(data, tmp_path / "index", "test", "16", tmp_path / "pixels")


def test_links_in_a_circle_lead_nowhere(tmp_path):
    root = make(tmp_path / "root", "train", "val")
    before = own(root).source.table()
    (root / "train" / "cat" / "circle.png").symlink_to("circle.png")
    (root / "train" / "circle").symlink_to("circle")
    source = own(root).source
    assert only(source.notes(), "link") == (
        "left out: 1 link leading nowhere: train/cat/circle.png"
    )
    assert only(source.notes(), "beside").endswith("train/circle")
    assert source.table().equals(before)
