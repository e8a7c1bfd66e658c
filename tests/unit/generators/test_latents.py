"""Encoding once for all: crops as PIL makes them, shared blocks, undecodable files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fake_imagenet import make_imagenet, picture
from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.imagenet import subsets
from mgd3.data.images import (
    adm_centre_crop,
    adm_centre_crop_tensor,
    decode,
    decode_images,
    jpeg_components,
    read_images,
)
from mgd3.data.index import Index, write_index
from mgd3.generators.latents import Latents, encode
from mgd3.generators.registry import GENERATORS
from mgd3.generators.vae import load_vae
from mgd3.methods import Job
from mgd3.methods.random import distil

WOOF = subsets()["imagewoof"]


def jpeg(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, "JPEG", quality=92, **options)
    return path


SIZES = [(500, 375), (375, 500), (333, 501), (1000, 667), (640, 513), (1027, 1301), (256, 300)]


@pytest.mark.parametrize("size", SIZES)
def test_the_fast_crop_is_pils(size):
    image = picture(3, *(s // 7 for s in size)).resize(size, Image.Resampling.BICUBIC)
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    for side in (32, 256):
        theirs = np.asarray(adm_centre_crop(image, side)).astype(int)
        ours = adm_centre_crop_tensor(tensor, side).permute(1, 2, 0).numpy().astype(int)
        assert ours.shape == (side, side, 3)
        difference = np.abs(ours - theirs)
        # Both round to 8 bits between the two passes, with weights of different precision.
        assert difference.max() <= 2
        assert (difference > 1).mean() <= 2e-5
        assert (difference > 0).mean() <= 0.01


def exif_turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_jpegs_decode_as_pil_decodes_them(tmp_path):
    colour = picture(0, 91, 70)
    for options in ({}, {"subsampling": 0}, {"progressive": True}, {"exif": exif_turned()}):
        path = jpeg(tmp_path / "a.jpg", colour, **options)
        decoded = decode(path)
        assert decoded.shape == (3, 70, 91), "orientation tags are ignored, as in ADM"
        assert np.array_equal(decoded.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    path = jpeg(tmp_path / "grey.jpg", colour.convert("L"))
    grey = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(decode(path).permute(1, 2, 0).numpy(), grey)


def test_what_only_pil_reads_rightly_is_left_to_it(tmp_path):
    # ImageNet has all of these: CMYK files, and a PNG that is named JPEG.
    colour = picture(1, 91, 70)
    jpeg(tmp_path / "cmyk.JPEG", colour.convert("CMYK"))
    colour.save(tmp_path / "png.JPEG", "PNG")
    (tmp_path / "short.JPEG").write_bytes(jpeg(tmp_path / "a", colour).read_bytes()[:900])
    for name in ("cmyk", "png", "short"):
        assert decode(tmp_path / f"{name}.JPEG") is None
    data = memoryview((tmp_path / "cmyk.JPEG").read_bytes())
    assert jpeg_components(data) == 4
    assert [jpeg_components(memoryview(b)) for b in (b"", b"\xff\xd8", b"\x89PNG")] == [None] * 3


def test_pictures_of_any_kind_are_pils_within_one(tmp_path):
    root = tmp_path / "o"
    for folder in ("train", "val"):
        (root / folder / "a").mkdir(parents=True)
    colour = picture(2, 91, 70)
    for mode, suffix in (
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("RGB", "jpg"),
        ("P", "png"),
        ("LA", "png"),
    ):
        colour.convert(mode).save(root / "train" / "a" / f"{mode}.{suffix}")
    source = make_dataset({"name": "mine", "root": str(root)}).source
    keys = source.training_images("a")
    assert len(keys) == 5
    for key, pixels in zip(keys, read_images(source, keys, 32), strict=True):
        theirs = np.asarray(adm_centre_crop(source.open(key), 32)).astype(int)
        assert np.abs(pixels.permute(1, 2, 0).numpy() - theirs).max() <= 1


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_imagenet(tmp_path_factory.mktemp("imagenet"), WOOF, train=5)


def subset(root: Path, **settings):
    choice = {"name": "imagewoof", "root": str(root), "incomplete": "warn", "size": 32}
    return make_dataset({**choice, **settings})


def index_of(dataset, path: Path) -> Index:
    write_index(dataset, path)
    return Index.read(path)


@pytest.fixture(scope="module")
def encoded(root, dit_folder, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("latents")
    blocks = {folder / "a": list(WOOF[:3]), folder / "b": list(WOOF[3:])}
    for path, classes in blocks.items():
        encode(subset(root), dit_folder, classes, 32, path)
    return list(blocks)


def test_latents_are_the_encoders_keyed_by_class_and_image(root, dit_folder, encoded, tmp_path):
    dataset = subset(root)
    latents = Latents(encoded, index_of(dataset, tmp_path / "x"))
    assert latents.classes == list(WOOF)
    name = WOOF[7]
    keys = latents.images(name)
    assert keys == [f"train/{name}/{name}_{k}.JPEG" for k in range(5)]
    mean, logvar = load_vae(dit_folder).encode(read_images(dataset.source, keys, 32))
    torch.testing.assert_close(latents.mean(name), mean)
    torch.testing.assert_close(latents.logvar(name), logvar)


def test_bfloat16_moves_the_latents_of_a_trained_encoder_by_a_fortieth_at_most(tmp_path):
    """The error that docs/performance.md states; modes are means of many."""
    dataset = make_dataset("mnist")
    classes = dataset.source.classes()[:1]
    found = []
    for precision in ("float32", "bfloat16"):
        file = tmp_path / precision
        encode(dataset, GENERATORS["mnist-dit"].folder, classes, 32, file, precision=precision)
        assert artifacts.tensor_metadata(file)["precision"] == precision
        found.append(artifacts.load_tensors(file))
    exact, rounded = found
    for name in classes:
        wanted, given = (held[f"mean/{name}"].flatten(1) for held in (exact, rounded))
        assert given.dtype == torch.float32
        share = (given - wanted).norm(dim=1) / wanted.norm(dim=1)
        assert 0 < share.max() < 0.025
        shift = (given - wanted).mean(dim=0).norm() / wanted.mean(dim=0).norm()
        assert shift < 0.01


def test_latents_follow_the_split_of_the_data_set_not_of_the_file(root, encoded, tmp_path):
    # The files hold every image; half of them are for validation here.
    index = index_of(subset(root, validation_fraction=0.5), tmp_path / "x")
    whole = Latents(encoded, index_of(subset(root), tmp_path / "y"))
    half = Latents(encoded, index)
    assert 0 < sum(len(half.images(n)) for n in WOOF) < 50
    for name in WOOF:
        kept = [whole.images(name).index(key) for key in index.images(name, "train")]
        assert torch.equal(half.mean(name), whole.mean(name)[kept])


def test_permuting_the_classes_changes_no_latent(root, dit_folder, encoded, tmp_path):
    encode(subset(root), dit_folder, list(WOOF[::-1]), 32, tmp_path / "c")
    index = index_of(subset(root), tmp_path / "x")
    one, two = Latents(encoded, index), Latents([tmp_path / "c"], index)
    for name in WOOF:
        torch.testing.assert_close(one.mean(name), two.mean(name), rtol=0, atol=1e-5)


def test_images_without_latents_and_classes_without_file_are_named(root, encoded, tmp_path):
    index = index_of(subset(root), tmp_path / "x")
    with pytest.raises(UserError, match=f"no latents of class '{WOOF[3]}' in 1 files"):
        Latents(encoded[:1], index)
    extra = index.table.iloc[[-1]].assign(image="train/new.JPEG", split="train")
    index.table.loc[len(index.table)] = extra.iloc[0]
    name = extra["class"].iloc[0]
    with pytest.raises(UserError, match=r"holds no latents of train/new\.JPEG"):
        Latents(encoded, index).images(name)


@pytest.fixture
def damaged(tmp_path) -> tuple[Path, list[str]]:
    """Two images of whole headers and cut pixels."""
    root = make_imagenet(tmp_path / "damaged", WOOF, train=4)
    keys = [f"train/{name}/{name}_1.JPEG" for name in (WOOF[0], WOOF[5])]
    for key in keys:
        data = (root / key).read_bytes()
        (root / key).write_bytes(data[: len(data) * 2 // 3])
    return root, keys


def test_undecodable_images_are_all_named_and_nothing_is_written(damaged, dit_folder, tmp_path):
    root, keys = damaged
    with pytest.raises(UserError, match="2 images cannot be decoded") as caught:
        encode(subset(root), dit_folder, list(WOOF), 32, tmp_path / "a")
    assert all(key in str(caught.value) for key in keys)
    assert not (tmp_path / "a").exists()


def test_undecodable_images_are_left_out_where_the_data_set_says_so(
    damaged, dit_folder, tmp_path, capsys
):
    root, keys = damaged
    dataset = subset(root, undecodable="skip")
    encode(dataset, dit_folder, list(WOOF), 32, tmp_path / "a")
    told = capsys.readouterr().err
    assert all(key in told for key in keys)
    latents = Latents([tmp_path / "a"], index_of(dataset, tmp_path / "x"))
    assert len(latents.mean(WOOF[0])) == len(latents.images(WOOF[0])) == 3
    assert len(latents.mean(WOOF[1])) == 4


def random_images(dataset, index: Index, ipc: int) -> torch.Tensor:
    job = Job(
        dataset=dataset, index=index, classes=[WOOF[0]], ipc=ipc, generation_seed=0,
        settings={"selection": "seeded"},
        generator=None, modes=None, device="cpu", batch="auto",
    )  # fmt: skip
    return distil(job)[WOOF[0]]


def test_random_images_are_drawn_past_undecodable_ones(damaged, tmp_path):
    root, keys = damaged
    dataset = subset(root, undecodable="skip")
    index = index_of(dataset, tmp_path / "x")
    good = decode_images(dataset.source, index.images(WOOF[0], "train"), 32)
    assert len(good.images) == 3
    drawn = random_images(dataset, index, 3)
    assert sorted(x.float().mean().item() for x in drawn) == sorted(
        x.float().mean().item() for x in good.pixels
    )
    with pytest.raises(UserError, match=keys[0]):
        random_images(dataset, index, 4)
    with pytest.raises(UserError, match=keys[0]):
        random_images(subset(root), index, 4)


def test_a_file_that_grew_unreadable_is_one_clear_error(root, tmp_path):
    source = subset(root).source
    with pytest.raises(UserError, match="is gone since the index was made"):
        read_images(source, ["train/absent.JPEG"], 32)
    buffer = io.BytesIO()
    picture(0).save(buffer, "JPEG")
    assert jpeg_components(memoryview(buffer.getvalue())) == 3


def test_latents_of_mirrored_images_are_encodings_not_mirrored_latents(
    root, dit_folder, encoded, tmp_path
):
    dataset = subset(root)
    encode(dataset, dit_folder, list(WOOF[:1]), 32, tmp_path / "m", mirrored=True)
    name = WOOF[0]
    turned = artifacts.load_tensors(tmp_path / "m")[f"mean/{name}"]
    keys = artifacts.tensor_metadata(tmp_path / "m")["images"][name]
    pictures = read_images(dataset.source, keys, 32)
    from_pil = torch.stack(
        [
            torch.from_numpy(np.asarray(ImageOps.mirror(Image.fromarray(p))).copy())
            for p in pictures.permute(0, 2, 3, 1).numpy()
        ]
    )
    mean, _ = load_vae(dit_folder).encode(from_pil.permute(0, 3, 1, 2))
    torch.testing.assert_close(turned, mean)
    plain = Latents(encoded, index_of(dataset, tmp_path / "x"))
    assert not torch.allclose(turned, plain.mean(name).flip(-1), atol=1e-3)
    # A draw from its posterior is the mirrored image's own.
    one_class = index_of(dataset, tmp_path / "x")
    one_class.classes[1:] = []
    mirrored = Latents([tmp_path / "m"], one_class)
    noise = (mirrored.sample(name) - mirrored.mean(name)) / (mirrored.logvar(name) / 2).exp()
    other = (plain.sample(name) - plain.mean(name)) / (plain.logvar(name) / 2).exp()
    assert not torch.allclose(noise, other, atol=1e-2)
