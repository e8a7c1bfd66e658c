"""CIFAR from the authors' archives, and JPEG copies of it, against files written row by row."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from PIL import Image

from fake_cifar import FILES, Made, make_cifar
from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data import archives, fingerprint, make_dataset
from mgd3.data.archives import fetch_dataset
from mgd3.data.cifar import CIFAR10, CIFAR100, CifarBinary
from mgd3.data.images import (
    CROPS,
    adm_centre_crop,
    decode_images,
    read_images,
    resize_centre_crop,
)
from mgd3.data.index import Index, write_index
from mgd3.data.registry import Dataset
from mgd3.planning.config import preflight, resolve

ROOT = Path(__file__).parents[3]
# `cifar10-jpeg.tar.xz` lies beside the project where it is developed; it is no part of it.
PHOTOS = Path(os.environ.get("MGD3_PHOTOS", ROOT.parent / "shared" / "photos"))
NAMES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@pytest.fixture(scope="module", params=["cifar10", "cifar100"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def made(name, tmp_path_factory) -> Made:
    """Only to be read."""
    return make_cifar(tmp_path_factory.mktemp(name), name, list(NAMES[name]))


@pytest.fixture
def ten(tmp_path) -> Made:
    """A CIFAR-10 to break."""
    return make_cifar(tmp_path, "cifar10", list(CIFAR10))


def dataset(name: str, root: Path, **settings) -> Dataset:
    return make_dataset({"name": name, "root": str(root), "incomplete": "warn", **settings})


def indexed(of: Dataset, folder: Path) -> Index:
    write_index(of, folder / "index.parquet")
    return Index.read(folder / "index.parquet")


def config(*datasets) -> dict:
    return {
        "name": "test",
        "datasets": list(datasets),
        "ipc": [2],
        "generation_seeds": [0],
        "runs": [{"method": "random"}],
        "evaluation": [{"protocol": "dc32", "networks": ["convnet3"]}],
    }


def as_published(source: CifarBinary) -> CifarBinary:
    """The source of made files, as if these had been published."""
    binary = source.binary

    def digests(files) -> dict[str, str]:
        content = {name: (source.root / name).read_bytes() for name in files}
        return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}

    source.binary = replace(binary, train=digests(binary.train), test=digests(binary.test))
    return source


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "archive"])
def test_every_image_has_its_rank_in_its_class(name, made, packed, tmp_path):
    root = made.pack(tmp_path / "made.tar.gz") if packed else made.folder
    of = dataset(name, root)
    index = indexed(of, tmp_path)
    assert index.classes == made.classes
    assert set(index.table["image"]) == set(made.pixels)
    assert len(index.table) == len(made.pixels)
    for row in index.table.itertuples():
        split, of_class, _ = row.image.split("/")
        assert row[1] == of_class
        assert (row.split == "test") == (split == "test")
    keys = [*made.pixels]
    pixels = read_images(of.source, keys, 32).numpy()
    assert np.array_equal(pixels, np.stack([made.pixels[key] for key in keys]))
    assert np.array_equal(of.source.open(keys[3]), made.pixels[keys[3]].transpose(1, 2, 0))
    some = of.source.training_images(made.classes[3])
    assert some == sorted(k for k in keys if k.startswith(f"train/{made.classes[3]}/"))


def test_a_tenth_of_each_class_is_held_out(name, made, tmp_path):
    index = indexed(dataset(name, made.folder), tmp_path)
    counts = index.table.groupby(["class", "split"]).size().unstack()
    assert (counts["validation"] == 1).all()
    assert (counts["train"] == 5).all() and (counts["test"] == 2).all()
    whole = indexed(dataset(name, made.folder, validation_fraction=0), tmp_path)
    assert "validation" not in set(whole.table["split"])


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        *[(32, crop) for crop in (adm_centre_crop, *CROPS.values())],
        (32, partial(resize_centre_crop, resized=36)),
        (24, adm_centre_crop),
        (64, resize_centre_crop),
    ],
)
def test_an_array_is_cropped_as_a_picture_is(ten, size, crop):
    source = dataset("cifar10", ten.folder).source
    keys = [*ten.pixels][:9]
    pixels = decode_images(source, keys, size, crop).pixels.numpy()
    for key, found in zip(keys, pixels, strict=True):
        picture = Image.fromarray(ten.pixels[key].transpose(1, 2, 0))
        assert np.array_equal(found, np.asarray(crop(picture, size)).transpose(2, 0, 1))


def test_class_names_are_prompts():
    meanings = make_dataset({"name": "cifar100", "root": "x"}).meanings
    assert len(meanings) == 100
    assert meanings["aquarium_fish"].prompt == "aquarium fish"
    assert meanings["aquarium_fish"].wnid is None
    assert make_dataset({"name": "cifar10-jpeg", "root": "x"}).meanings["dog"].prompt == "dog"


# Damaged


def test_other_images_than_the_published_ones_are_refused(ten, tmp_path):
    of = make_dataset({"name": "cifar10", "root": str(ten.folder)})
    with pytest.raises(UserError, match="cifar10 is not complete") as caught:
        write_index(of, tmp_path / "index")
    assert "data_batch_3.bin (12 images) is not the published file" in str(caught.value)
    assert "class airplane has 6 train images instead of 5,000" in str(caught.value)
    as_published(of.source)
    of.source.binary = replace(of.source.binary, per_class=(6, 2))
    write_index(of, tmp_path / "index")


def cut(folder: Path) -> None:
    with (folder / "data_batch_2.bin").open("r+b") as file:
        file.truncate(5000)


def relabel(folder: Path) -> None:
    with (folder / "test_batch.bin").open("r+b") as file:
        file.write(b"\x0a")


def rename(folder: Path) -> None:
    (folder / "batches.meta.txt").write_text("\n".join([*CIFAR10[1:], CIFAR10[0]]))


def take(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def pickled(folder: Path) -> None:
    for k in range(1, 6):
        (folder / f"data_batch_{k}.bin").rename(folder / f"data_batch_{k}")


DAMAGES = {
    "cut short": (cut, "data_batch_2.bin .*5,000 bytes are not whole images of 3,073"),
    "label": (relabel, "test_batch.bin .*has the label 10, and there are 10 classes"),
    "names": (rename, "batches.meta.txt .*lists 10 names .*and not the 10 classes of cifar10"),
    "no names": (take("batches.meta.txt"), "lacks batches.meta.txt of cifar10"),
    "no batch": (take("data_batch_4.bin", "test_batch.bin"), "lacks data_batch_4.bin, test_batch"),
    "pickled": (pickled, "holds the pickled files of the version for Python"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "archive"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_one_clear_error(ten, damage, packed, tmp_path):
    do, message = DAMAGES[damage]
    do(ten.folder)
    root = ten.pack(tmp_path / "made.tar.gz") if packed else ten.folder
    of = dataset("cifar10", root)
    with pytest.raises(UserError, match=message):
        write_index(of, tmp_path / "index")
    if not packed:
        with pytest.raises(UserError, match=message):
            of.preflight(2)


def test_a_damaged_archive_is_one_clear_error(ten, tmp_path):
    whole = ten.pack(tmp_path / "made.tar.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive", b""):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*bad\.tar\.gz"):
            dataset("cifar10", tmp_path / "bad.tar.gz").source.table()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (tmp_path / "bad.tar.gz").write_bytes(flipped)
    with pytest.raises(UserError):
        indexed(make_dataset({"name": "cifar10", "root": str(tmp_path / "bad.tar.gz")}), tmp_path)


def test_a_wrong_root_says_what_is_meant(ten, tmp_path):
    for root, mend in (
        (ten.folder.parent, f"set `root` to {ten.folder}"),
        (ten.copies(tmp_path / "jpeg"), "`cifar10-jpeg`"),
        (tmp_path / "nowhere", "run mgd3 fetch-dataset --name cifar10"),
    ):
        with pytest.raises(UserError) as caught:
            dataset("cifar10", root).source.table()
        assert mend in str(caught.value)
    with pytest.raises(UserError, match=r"no file or folder .*nowhere"):
        resolve(config({"name": "cifar10", "root": str(tmp_path / "nowhere")}))
    with pytest.raises(UserError, match="takes no root"):
        resolve(config({"name": "imagenette-fastai", "root": str(tmp_path)}))


def test_too_many_images_per_class_are_refused_before_anything_is_fetched(ten, tmp_path):
    of = make_dataset({"name": "cifar100", "root": str(tmp_path / "nowhere")})
    of.preflight(450)
    with pytest.raises(UserError, match=r"450 training images, but ipc is 451 \(50 of 500 held"):
        of.preflight(451)
    dataset("cifar10", ten.folder).preflight(5)
    with pytest.raises(UserError, match="has 5 training images, but ipc is 6"):
        dataset("cifar10", ten.folder).preflight(6)


# Fetched


def publish(monkeypatch, name: str, content: bytes, url: str) -> None:
    """Let a made archive be the published one."""
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    of = replace(archives.archives()[name], url=url, checksums=(checksum,))
    monkeypatch.setattr(archives, "archives", lambda: {name: of})


def test_an_interrupted_download_is_resumed_and_unpacked(name, made, served, tmp_path, monkeypatch):
    served.content = made.pack(tmp_path / "made.tar.gz").read_bytes()
    served.cut, served.cuts = 100_000, 2
    publish(monkeypatch, name, served.content, served.url)
    fetch_dataset(name, tmp_path / "fetched")
    assert served.asked == [None, "bytes=100000-", "bytes=200000-"]
    receipt = artifacts.load_json(tmp_path / "fetched" / "fetched.json")
    assert receipt["files"] == len(FILES[name][0]) + 3
    source = dataset(name, tmp_path / "fetched" / "images").source
    assert set(source.table()["image"]) == set(made.pixels)


def test_another_archive_is_refused(served, ten, tmp_path, capsys):
    served.content = ten.pack(tmp_path / "made.tar.gz").read_bytes()
    folder = tmp_path / "fetched"
    command = ["fetch-dataset", "--name", "cifar10", "--folder", str(folder), "--url", served.url]
    assert main(command) == 2
    assert "is not the published file: its checksum is sha256:" in capsys.readouterr().err
    assert not (folder / "images").exists() and not (folder / "fetched.json").exists()


# Planned


@pytest.fixture
def kept(tmp_path) -> Path:
    return tmp_path / "kept"


def test_the_published_files_are_known_by_name_wherever_they_lie(ten, tmp_path, kept, monkeypatch):
    absent = fingerprint.of_classes(CifarBinary(tmp_path / "nowhere", "cifar10"), kept)
    assert len(set(absent.values())) == 10
    archive = ten.pack(tmp_path / "made.tar.gz")
    other = fingerprint.of_classes(CifarBinary(ten.folder, "cifar10"), kept)
    packed = fingerprint.of_classes(CifarBinary(archive, "cifar10"), kept)
    assert len({absent["dog"], other["dog"], packed["dog"]}) == 3
    source = as_published(CifarBinary(ten.folder, "cifar10"))
    assert fingerprint.of_classes(source, kept) == absent
    content = archive.read_bytes()
    of = replace(
        archives.archives()["cifar10"],
        checksums=(f"sha256:{hashlib.sha256(content).hexdigest()}",),
    )
    monkeypatch.setattr(fingerprint, "archives", lambda: {"cifar10": of})
    assert fingerprint.of_classes(CifarBinary(archive, "cifar10"), kept) == absent
    hundred = fingerprint.of_classes(CifarBinary(tmp_path / "nowhere", "cifar100"), kept)
    assert not {*hundred.values()} & {*absent.values()}


def test_files_that_change_after_planning_are_noticed(ten, kept):
    source = CifarBinary(ten.folder, "cifar10")
    planned = fingerprint.bundle(fingerprint.of_classes(source, kept))
    fingerprint.require_unchanged(source, planned, kept=kept)
    with (ten.folder / "data_batch_1.bin").open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    with pytest.raises(UserError, match="changed since this run was planned"):
        fingerprint.require_unchanged(source, planned, kept=kept)


def test_copies_and_originals_stand_in_no_table_together(ten, tmp_path):
    copies = {"name": "cifar10-jpeg", "root": str(ten.copies(tmp_path / "jpeg"))}
    preflight(resolve(config(copies)))
    for both in (["cifar10", copies], [copies, "cifar10"]):
        with pytest.raises(UserError, match="their figures do not compare"):
            resolve(config(*both))


def test_copies_need_a_root():
    for choice in ("cifar10-jpeg", {"name": "cifar10-jpeg"}):
        with pytest.raises(UserError, match=r"write {name: cifar10-jpeg, root: path/to/images}"):
            resolve(config(choice))
    for name in ("cifar10-jpeg", "cifar10"):
        with pytest.raises(UserError, match="needs its images"):
            make_dataset(name)
    with pytest.raises(UserError, match="takes no classes"):
        make_dataset({"name": "cifar10-jpeg", "root": "x", "classes": "x"})


# JPEG copies


def held_out(index: Index) -> dict[str, list[str]]:
    return {
        split: sorted(index.table.loc[index.table["split"] == split, "image"])
        for split in ("train", "validation", "test")
    }


def test_copies_have_the_keys_and_the_splits_of_the_originals(ten, tmp_path):
    copies = dataset("cifar10-jpeg", ten.copies(tmp_path / "jpeg"))
    originals = dataset("cifar10", ten.folder)
    one, two = (indexed(of, tmp_path) for of in (originals, copies))
    assert held_out(one) == held_out(two)
    assert one.classes == two.classes
    for of_class in CIFAR10:
        trained = originals.source.training_images(of_class)
        assert trained == copies.source.training_images(of_class)
    keys = [*ten.pixels][:5]
    with Image.open(tmp_path / "jpeg" / f"{keys[4]}.jpg") as picture:
        stored = np.asarray(picture).transpose(2, 0, 1)
    assert np.abs(read_images(copies.source, keys, 32)[4].numpy().astype(int) - stored).max() <= 1
    two.require_unchanged(copies.source, keys)
    assert copies.origin != originals.origin, "their latents lie apart"


def test_copies_are_known_by_what_they_hold(ten, tmp_path, kept):
    source = dataset("cifar10-jpeg", ten.copies(tmp_path / "jpeg")).source
    before = fingerprint.of_classes(source, kept)
    Image.new("RGB", (32, 32)).save(tmp_path / "jpeg" / "train" / "dog" / "0003.jpg")
    after = fingerprint.of_classes(source, kept)
    assert {name for name in before if before[name] != after[name]} == {"dog"}


def test_pictures_that_are_no_such_copies_are_refused(ten, tmp_path):
    root = ten.copies(tmp_path / "jpeg")
    with pytest.raises(UserError, match="class dog has 6 train images instead of 5,000"):
        write_index(make_dataset({"name": "cifar10-jpeg", "root": str(root)}), tmp_path / "index")
    (root / "train/cat/0003.jpg").rename(root / "train/cat/3.jpg")
    with pytest.raises(UserError, match=r"train/cat/3\.jpg is not named as a JPEG copy"):
        dataset("cifar10-jpeg", root).source.table()
    (root / "test" / "cat").rename(root / "test" / "cats")
    for look in (
        lambda of: of.preflight(1),
        lambda of: of.source.table(),
        lambda of: of.source.notes(),
    ):
        with pytest.raises(UserError, match=r"lacks 1 of 20 folders .*test/cat"):
            look(dataset("cifar10-jpeg", root))


@pytest.mark.skipif(
    not (PHOTOS / "cifar10-jpeg.tar.xz").is_file(),
    reason=f"the JPEG copies of CIFAR-10 are not at {PHOTOS} (set MGD3_PHOTOS)",
)
def test_the_real_copies_have_the_keys_of_the_whole_archive(tmp_path):
    """Of an archive of the published size, whose keys follow from its labels alone."""
    full = make_cifar(tmp_path, "cifar10", list(CIFAR10), train=5000, test=1000, noise=False)
    originals = make_dataset({"name": "cifar10", "root": str(full.folder)}).source
    listed = originals.table()
    assert not [one for one in originals.complaints(listed) if "instead of" in one]
    with tarfile.open(PHOTOS / "cifar10-jpeg.tar.xz") as tar:
        files = [member for member in tar if member.isfile()]
        assert sorted(member.name for member in files) == sorted(
            f"{k}.jpg" for k in listed["image"]
        )
        dogs = [member for member in files if "/dog/" in member.name]
        tar.extractall(tmp_path / "jpeg", dogs, filter="data")
    copies = make_dataset({"name": "cifar10-jpeg", "root": str(tmp_path / "jpeg")}).source
    assert copies.classes() == originals.classes()
    assert copies.images("dog") == sorted(listed.loc[listed["class"] == "dog", "image"])
    trained = copies.training_images("dog")
    assert trained == originals.training_images("dog") and len(trained) == 5000
    held = copies.validation_images(trained, 0.1)
    assert held == originals.validation_images(trained, 0.1) and len(held) == 500
    rmtree(tmp_path / "jpeg")  # thousands of files, which pytest would keep
