"""Pictures as people see them in users' own folders, and as they were read in ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.imagenet import ImageNet
from mgd3.data.images import adm_centre_crop, read_images
from mgd3.data.index import Index, write_index
from mgd3.data.pictures import read_header, to_rgb

FORMATS = ("jpg", "jfif", "tif", "webp", "png", "avif")


def photograph(width: int = 40, height: int = 24) -> Image.Image:
    """Each quarter of another colour, so that no turning leaves it as it was."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    return Image.fromarray(pixels)


def folder(tmp_path: Path, **pictures) -> Path:
    """A data set whose class `a` holds pictures (what saves one, by name) and `b` a plain one."""
    root = tmp_path / "root"
    for name in ("a", "b"):
        for split in ("train", "val"):
            (root / split / name).mkdir(parents=True)
            photograph().save(root / split / name / "plain.png")
    for name, save in pictures.items():
        save(root / "train" / "a" / name.replace("_", "."))
    return root


def own(root: Path, **settings):
    return make_dataset({"name": "own", "root": str(root), "validation_fraction": 0, **settings})


def turned(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return lambda path: photograph().save(path, exif=exif)


@pytest.mark.parametrize("ending", FORMATS)
def test_photographs_are_turned_as_their_tag_says(tmp_path, ending):
    root = folder(tmp_path, **{f"{o}_{ending}": turned(o) for o in range(1, 9)})
    source = own(root).source
    for orientation in range(1, 9):
        key = f"train/a/{orientation}.{ending}"
        with Image.open(root / key) as stored:
            expected = ImageOps.exif_transpose(stored).convert("RGB")
        header, seen = read_header(root / key), source.open(key)
        assert (header.width, header.height) == seen.size == expected.size
        assert np.array_equal(np.asarray(seen), np.asarray(expected))
        assert header.mended == (("turned",) if orientation > 1 else ())
        # What generators see, by way of the faster decoder where it may be taken.
        cropped = np.asarray(adm_centre_crop(expected, 16)).astype(int)
        found = read_images(source, [key], 16)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - cropped).max() <= 1


def test_a_damaged_or_senseless_tag_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    root = folder(tmp_path, odd_jpg=lambda p: photograph().save(p, exif=exif))
    photograph().save(root / "train" / "a" / "bad.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    for name in ("odd", "bad"):
        assert read_header(root / f"train/a/{name}.jpg").mended == ()
        assert own(root).source.open(f"train/a/{name}.jpg").size == (40, 24)


@pytest.mark.parametrize(("ending", "mode"), [("png", "I;16"), ("tif", "I;16"), ("ppm", "I")])
def test_sixteen_bits_are_scaled_by_their_whole_range(tmp_path, ending, mode):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    root = folder(tmp_path, **{f"ramp_{ending}": Image.fromarray(ramp).save})
    key = f"train/a/ramp.{ending}"
    with Image.open(root / key) as stored:
        assert stored.mode == mode
    seen = np.asarray(own(root).source.open(key))
    assert np.array_equal(seen, np.rint(ramp / 257).astype(np.uint8)[..., None].repeat(3, 2))
    assert read_header(root / key).mended == ("scaled",)


def transparent(mode: str):
    """Left half opaque grey 90; right half hidden, of the colour 200."""
    values = np.full((16, 16), 90, np.uint8)
    values[:, 8:] = 200
    grey = Image.fromarray(values)
    alpha = Image.fromarray(np.where(values == 90, 255, 0).astype(np.uint8))
    if mode == "tRNS":
        return lambda path: grey.save(path, transparency=200)
    if mode == "P":
        return lambda path: grey.convert("P").save(path, transparency=200)
    if mode == "I;16":
        wide = Image.fromarray(values.astype(np.uint16) * 257)
        return lambda path: wide.save(path, transparency=200 * 257)
    picture = grey.convert(mode)
    picture.putalpha(alpha)
    return picture.save


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "tRNS", "I;16"])
def test_transparent_pixels_are_white(tmp_path, mode):
    root = folder(tmp_path, clear_png=transparent(mode))
    seen = np.asarray(own(root).source.open("train/a/clear.png"))
    assert (seen[:, :8] == 90).all()
    assert (seen[:, 8:] == 255).all()
    assert "flattened" in read_header(root / "train/a/clear.png").mended


def test_what_is_read_otherwise_than_stored_is_counted_in_one_line_a_kind(tmp_path, capsys):
    frames = [photograph(), photograph().rotate(180)]
    root = folder(
        tmp_path,
        a_jpg=turned(6), b_jpg=turned(8),
        c_png=transparent("RGBA"),
        d_gif=lambda p: frames[0].save(p, save_all=True, append_images=frames[1:]),
        e_tif=lambda p: frames[0].save(p, save_all=True, append_images=frames[1:]),
    )  # fmt: skip
    write_index(own(root), tmp_path / "index")
    told = capsys.readouterr().err
    notes = Index.read(tmp_path / "index").notes
    for words in ("2 pictures turned upright", "1 picture with a transparency channel, flattened "
                  "on white", "2 pictures of several frames"):  # fmt: skip
        assert words in told
        assert sum(words in note for note in notes) == 1


@pytest.mark.parametrize(
    ("name", "save", "reason"),
    [
        ("f.tif", Image.new("F", (16, 16)).save, "holds values of mode F, whose range"),
        ("i.tif", Image.new("I", (16, 16)).save, "holds values of mode I, whose range"),
        ("l.tif", Image.new("LAB", (16, 16)).save, "holds values of mode LAB"),
        ("s.png", Image.new("RGB", (2000, 3)).save, "is a thin strip of 2000 x 3 pixels"),
        ("t.png", lambda path: path.write_text("no picture"), "is no picture"),
        ("e.jpg", lambda path: path.touch(), "is no picture"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name_at_the_index(tmp_path, name, save, reason):
    root = folder(tmp_path)
    save(root / "train" / "a" / name)
    with pytest.raises(UserError, match=f"1 file.*\n.*train/a/{name} {reason}"):
        write_index(own(root), tmp_path / "index")
    write_index(own(root, undecodable="skip"), tmp_path / "index")
    assert f"train/a/{name}" not in set(Index.read(tmp_path / "index").table["image"])


def test_a_picture_over_pils_size_limit_is_named_as_that(tmp_path, monkeypatch):
    root = folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(UserError, match="has more than 600 pixels: scale it down"):
        write_index(own(root), tmp_path / "index")
    with pytest.raises(UserError, match="has more than 600 pixels"):
        own(root).source.open("train/a/plain.png")


def test_imagenet_keeps_its_published_reading(tmp_path):
    root = folder(
        tmp_path,
        turned_jpg=turned(6),
        clear_png=transparent("RGBA"),
        wide_png=Image.fromarray(np.full((16, 16), 4000, np.uint16)).save,
    )
    source = ImageNet(root, ["a", "b"])
    for name in ("turned.jpg", "clear.png", "wide.png"):
        key = f"train/a/{name}"
        with Image.open(root / key) as stored:
            published = stored.convert("RGB")
        assert np.array_equal(np.asarray(source.open(key)), np.asarray(published))
        cropped = np.asarray(adm_centre_crop(published, 16)).astype(int)
        found = read_images(source, [key], 16)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - cropped).max() <= 1
    with Image.open(root / "train/a/turned.jpg") as stored:
        assert not np.array_equal(np.asarray(to_rgb(stored)), np.asarray(stored.convert("RGB")))
    table = source.table()
    assert table.attrs["notes"] == []
    widths = table.set_index("image")["width"]
    assert widths["train/a/turned.jpg"] == 40
