"""Methods that choose real images, or take images from elsewhere: the same demands on each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mgd3 import teachers
from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.methods import METHODS, Job, distiller, external
from mgd3.methods.selection.herding import herding
from mgd3.methods.selection.k_center import k_center
from mgd3.methods.selection.rded import best_crops, crop_losses, mosaics, square_crops
from mgd3.networks.architectures import create_network
from mgd3.networks.augment import normalise
from mgd3.planning.config import preflight, resolve
from mgd3.teachers.features import Features
from mgd3.teachers.model import save

CLASSES = ["digit-3", "digit-0", "digit-7"]
IPC = 4
# Every method here, with settings that are cheap.
METHOD_SETTINGS = {
    "random": ("random", {"selection": "seeded"}),
    "random-first": ("random", {"selection": "first"}),
    "external": ("external", {"path": "FOLDER"}),
    "herding": ("herding", {"teacher": "resnet10-64"}),
    "k-center": ("k-center", {"teacher": "resnet10-64"}),
    "rded": ("rded", {"teacher": "resnet10-64", "candidates": 20, "crops": 2}),
}
EACH = pytest.mark.parametrize("case", METHOD_SETTINGS)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    dataset, path = make_dataset("digits"), tmp_path_factory.mktemp("digits") / "index.parquet"
    write_index(dataset, path)
    return dataset, path


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    """Random weights: what they prefer is as good a preference as any."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model = create_network("resnet10", 10, 64, "soft")
    card = {"network": "resnet10", "classes": [f"digit-{k}" for k in range(10)], "size": 64}
    card |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    save(folder, model.state_dict(), card)
    return folder


def write_images(root, classes, count, size=(40, 36)):
    draws = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = draws.integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("made") / "elsewhere", CLASSES, 12)


@pytest.fixture
def job_of(digits, teacher_folder, images_folder):
    def make(case, **changes):
        method, settings = METHOD_SETTINGS[case]
        if "path" in settings:
            settings = {"path": str(images_folder)}
        dataset, index = digits
        job = Job(
            dataset=dataset, index=Index.read(index), classes=CLASSES, ipc=IPC, generation_seed=0,
            settings=settings, generator=None, modes=None, device="cpu", batch="auto",
            teacher=teacher_folder,
        )  # fmt: skip
        return method, replace(job, **changes)

    return make


def distilled(job_of, case, **changes):
    method, job = job_of(case, **changes)
    return distiller(method)(job)


@EACH
def test_the_set_is_a_valid_one(job_of, case):
    images = distilled(job_of, case)
    assert list(images) == CLASSES
    for of_class in images.values():
        assert of_class.shape == (IPC, 3, 32, 32) and of_class.dtype == torch.uint8
        assert len(of_class.flatten(1).unique(dim=0)) == IPC, "an image is chosen twice"


@EACH
def test_seeds_are_all_that_is_random(job_of, case):
    method, job = job_of(case)
    torch.manual_seed(1)
    one = distilled(job_of, case)
    torch.manual_seed(2)
    again, other = distilled(job_of, case), distilled(job_of, case, generation_seed=1)
    deterministic = METHODS[method].is_deterministic(job.settings)
    for name in CLASSES:
        assert torch.equal(one[name], again[name])
        assert torch.equal(one[name], other[name]) == deterministic


@EACH
def test_neither_block_nor_order_of_the_classes_matters(job_of, case):
    together = distilled(job_of, case)
    turned = distilled(job_of, case, classes=CLASSES[::-1])
    for name in CLASSES:
        assert torch.equal(together[name], turned[name])
        assert torch.equal(together[name], distilled(job_of, case, classes=[name])[name])


@pytest.mark.parametrize("case", [c for c in METHOD_SETTINGS if c != "rded"])
def test_a_smaller_ipc_is_the_start_of_a_larger_one(job_of, case):
    few, many = distilled(job_of, case, ipc=2), distilled(job_of, case)
    assert all(torch.equal(few[name], many[name][:2]) for name in CLASSES)


@EACH
def test_the_stages_make_a_set_of_it(job_of, case, digits, teacher_folder, tmp_path):
    method, job = job_of(case)
    common = ["--dataset", '"digits"', "--index", str(digits[1]), "--method", method]
    common += ["--settings", json.dumps(job.settings), "--ipc", "1", "--generation-seed", "0"]
    if "teacher" in METHODS[method].needs:
        common += ["--teacher-folder", str(teacher_folder)]
    blocks = [tmp_path / f"block{k}.safetensors" for k in range(2)]
    for block, classes in zip(blocks, (CLASSES[:2], CLASSES[2:]), strict=True):
        options = ["--classes", json.dumps(classes), "--output", str(block), "--device", "cpu"]
        assert main(["sample", *common, *options]) == 0
    images, manifest = tmp_path / "images.safetensors", tmp_path / "manifest.parquet"
    assert main(["collect", "--blocks", *map(str, blocks), "--classes", json.dumps(CLASSES),
                 "--output", str(images), "--manifest", str(manifest)]) == 0  # fmt: skip
    assert artifacts.load_tensors(images)["images"].shape == (3, 3, 32, 32)


@pytest.mark.parametrize("case", [c for c in METHOD_SETTINGS if c != "external"])
def test_too_few_images_are_one_clear_error(job_of, case):
    with pytest.raises(UserError, match="training images, but ipc is 2000"):
        distilled(job_of, case, ipc=2000)


def test_the_first_files_are_the_first(job_of, digits):
    dataset, path = digits
    keys = Index.read(path).images("digit-7", "train")[:IPC]
    wanted = [np.asarray(dataset.source.open(key)) for key in sorted(keys)]
    found = distilled(job_of, "random-first")["digit-7"].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, np.stack(wanted))


# Features


def features_of(job):
    """Of a job's teacher, and the images of one of its classes."""
    features = Features("resnet10-64", job.teacher, job.dataset, job.index, job.device)
    return features, job.training_images("digit-3", at_least=job.ipc)


def test_features_are_what_the_last_layer_is_given(teacher_folder, job_of):
    teacher = teachers.load(teacher_folder)
    x = torch.randn(5, 3, 64, 64)
    features = teacher.features(x)
    assert features.shape == (5, 512)
    torch.testing.assert_close(teacher.model.fc(features), teacher(x))
    features, images = features_of(job_of("herding")[1])
    found, keys = features.of(images)
    assert keys == images
    assert len(found) == len(keys) == len(set(keys)) > 100


def scarce(limit):
    """A hook: a pass of more than `limit` images does not fit."""

    def check(module, given):
        if len(given[0]) > limit:
            raise torch.OutOfMemoryError("out of memory")

    return check


def test_a_teacher_sees_fewer_images_at_a_time_when_memory_runs_out(teacher_folder, job_of):
    features, images = features_of(job_of("herding")[1])
    expected, _ = features.of(images)
    features._teacher.model.register_forward_pre_hook(scarce(50))
    torch.testing.assert_close(features.of(images)[0], expected, rtol=1e-4, atol=1e-5)
    teacher = teachers.load(teacher_folder)
    crops = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    losses = crop_losses(teacher, crops, 4, "cpu")
    teacher.model.register_forward_pre_hook(scarce(2))
    torch.testing.assert_close(crop_losses(teacher, crops, 4, "cpu"), losses, rtol=1e-4, atol=1e-5)


def herding_by_hand(x, count):
    """The definition, one candidate at a time."""
    mean, chosen = x.mean(0), []
    for k in range(count):
        wanted = (k + 1) * mean - sum((x[row] for row in chosen), np.zeros_like(mean))
        left = [row for row in range(len(x)) if row not in chosen]
        chosen.append(min(left, key=lambda row: np.linalg.norm(x[row] - wanted)))
    return chosen


def k_center_by_hand(x, count, first):
    chosen = [first]
    while len(chosen) < count:
        left = [row for row in range(len(x)) if row not in chosen]
        chosen.append(max(left, key=lambda row: min(np.linalg.norm(x[row] - x[c]) for c in chosen)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_greedy_choices_are_those_of_the_definition(seed):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
    numbers = x.double().numpy()
    assert herding(x, 15).tolist() == herding_by_hand(numbers, 15)
    assert k_center(x, 15, first=seed).tolist() == k_center_by_hand(numbers, 15, seed)


def test_every_row_can_be_chosen_also_among_duplicates():
    x = torch.randn(4, 3).repeat(2, 1)
    assert sorted(herding(x, 8).tolist()) == list(range(8))
    assert sorted(k_center(x, 8, first=2).tolist()) == list(range(8))


def test_herding_keeps_the_mean():
    """Its mean is nearer to that of the class than the mean of as many random rows."""
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    off = (x[herding(x, 20)].mean(0) - x.mean(0)).norm()
    assert off < 0.3 * (x[:20].mean(0) - x.mean(0)).norm()


def test_centres_are_no_nearer_to_each_other_than_a_row_is_to_its_centre():
    """Which is why the radius is at most twice the least possible."""
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    centres = x[k_center(x, 20, 0)]
    radius = torch.cdist(x, centres).min(1).values.max()
    assert torch.pdist(centres).min() >= radius > 0


# RDED


def test_crops_are_whole_squares_of_the_picture():
    """A picture whose channels tell where a pixel is."""
    width, height = 200, 120
    rows, columns = np.mgrid[:height, :width]
    picture = Image.fromarray(np.stack([columns, rows, rows * 0], 2).astype(np.uint8))
    draws = np.random.default_rng(0).random((60, 10, 3))
    crops = square_crops(picture, draws, 16).astype(float)
    assert crops.shape == (60, 3, 16, 16)
    across, down = np.ptp(crops[:, 0], (1, 2)), np.ptp(crops[:, 1], (1, 2))
    assert np.abs(across - down).max() <= 2, "sides are equal"
    side = across * 16 / 15
    assert np.sqrt(0.08 * width * height) - 3 < side.min() < side.max() < height + 3
    assert np.ptp(crops[:, 0].mean((1, 2))) > 40, "places vary"


def test_a_crop_that_never_fits_is_the_centre():
    strip = np.zeros((20, 400, 3), np.uint8)
    strip[:, 190:210] = 255
    crops = square_crops(Image.fromarray(strip), np.full((2, 10, 3), 0.99), 10)
    assert (crops == 255).all()


def test_a_crop_s_loss_is_that_of_the_padded_image(teacher_folder):
    teacher = teachers.load(teacher_folder)
    crops = torch.randint(256, (150, 3, 32, 32), dtype=torch.uint8)
    losses = crop_losses(teacher, crops, 4, "cpu")
    for k in (0, 149):
        canvas = torch.zeros(1, 3, 64, 64)
        canvas[:, :, 16:48, 16:48] = normalise(crops[k : k + 1], teacher.mean, teacher.std)
        expected = F.cross_entropy(teacher(canvas), torch.tensor([4]))
        torch.testing.assert_close(losses[k], expected, rtol=1e-4, atol=1e-5)
    half = crop_losses(teacher, crops[:2, :, ::2, ::2], 4, "cpu")
    assert half.shape == (2,), "crops of another size are resized"


def test_one_crop_of_an_image_and_the_best_images():
    losses = torch.tensor([[5.0, 1.0], [0.5, 0.4], [3.0, 2.0], [9.0, 8.0]])
    crops = torch.arange(8).view(4, 2, 1)
    assert best_crops(crops, losses, 3).flatten().tolist() == [3, 1, 5]


def test_ranks_fill_the_mosaics_corner_by_corner():
    patches = torch.arange(8).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    first, second = mosaics(patches)
    assert first[0, ::2, ::2].tolist() == [[0, 2], [4, 6]]
    assert second[0, ::2, ::2].tolist() == [[1, 3], [5, 7]]


def test_mosaics_need_four_images_each(job_of):
    with pytest.raises(UserError, match=r"ipc is 40, for which the method needs 160"):
        distilled(job_of, "rded", ipc=40)


# External


def test_external_images_are_the_first_by_name(images_folder, job_of, capsys):
    assert external.first_images(images_folder, ["digit-0"], 4) == {
        "digit-0": [f"digit-0/{k}.png" for k in (0, 1, 10, 11)]
    }
    distilled(job_of, "external")
    assert "12 images, 12 of 40x36; here 32x32" in capsys.readouterr().err


def test_external_images_of_the_right_size_are_not_touched(tmp_path, job_of):
    root = write_images(tmp_path / "made", CLASSES, IPC, size=(32, 32))
    images = distilled(job_of, "external", settings={"path": str(root)})
    for k in range(IPC):
        wanted = np.asarray(Image.open(root / "digit-3" / f"{k}.png")).transpose(2, 0, 1)
        assert np.array_equal(images["digit-3"][k].numpy(), wanted)


def test_what_is_wrong_with_a_folder_is_said(tmp_path, job_of, capsys):
    root = write_images(tmp_path / "made", ["digit-0", "digit-3", "n07"], 5)
    external.check(root, ["digit-0", "digit-3"], 5)
    assert "1 folders of no class, left out: n07" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no folder of class 'digit-7' \(1 classes missing; .*n07"):
        external.check(root, CLASSES, 5)
    with pytest.raises(UserError, match=r"made/digit-0 has 5 images, but ipc is 6"):
        external.check(root, ["digit-0"], 6)
    with pytest.raises(UserError, match=r"no folder .*absent"):
        external.check(tmp_path / "absent", CLASSES, 1)
    for k in (1, 2):
        (root / "digit-3" / f"{k}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 images cannot be decoded") as caught:
        distilled(job_of, "external", classes=["digit-3"], settings={"path": str(root)})
    assert "digit-3/1.png" in str(caught.value) and "digit-3/2.png" in str(caught.value)


# Configuration


def raw(*runs):
    return {
        "name": "test", "datasets": ["digits"], "ipc": [5], "generation_seeds": [0],
        "runs": list(runs),
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }  # fmt: skip


def test_rows_have_names_of_their_own():
    config = resolve(raw(
        {"method": "random"},
        {"method": "random", "selection": "first"},
        {"method": "external", "path": "a"},
        {"method": "external", "path": "b"},
        {"method": "herding"},
        {"method": "herding", "teacher": "resnet10-64"},
    ))  # fmt: skip
    assert [run.label for run in config.runs] == [
        "random real images", "random real images (first files)", "images of a", "images of b",
        "herding (resnet18)", "herding (resnet10-64)",
    ]  # fmt: skip
    assert len({run.slug for run in config.runs}) == 6


def test_mistakes_are_found_before_any_job(tmp_path):
    with pytest.raises(UserError, match="lacks the key 'path'"):
        resolve(raw({"method": "external"}))
    with pytest.raises(UserError, match=r"method 'k-center' takes no 'crops'"):
        resolve(raw({"method": "k-center", "crops": 3}))
    with pytest.raises(UserError, match=r"no folder .*absent"):
        preflight(resolve(raw({"method": "external", "path": str(tmp_path / "absent")})))


def test_a_folder_is_checked_without_torch():
    code = (
        "import sys, mgd3.methods.external, mgd3.planning.config; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
