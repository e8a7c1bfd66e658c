"""The stage `evaluate`: files in, files out, and messages for what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from mgd3.base.artifacts import load_tensors, save_tensors, tensor_metadata
from mgd3.base.errors import UserError
from mgd3.base.threads import TRAINING_THREADS, fixed_threads, processor
from mgd3.evaluation.protocols import PROTOCOLS, Optimiser, StepBudget
from mgd3.evaluation.stage import evaluate, resize

CLASSES = ["n01", "n02", "n03"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    protocol = replace(
        PROTOCOLS["hard-small"],
        name="tiny",
        size=16,
        duration=StepBudget(steps=6, min_epochs=3),
        few_classes=Optimiser(0.01, 5e-4, batch_size=8),
        evaluations=3,
    )
    monkeypatch.setitem(PROTOCOLS, "tiny", protocol)


def write(path, n, *, seed=0, size=20, classes=CLASSES, labels=None, images=None):
    g = torch.Generator().manual_seed(seed)
    if images is None:
        images = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=g)
    labels = torch.arange(n) % 3 if labels is None else labels
    save_tensors(path, {"images": images, "labels": labels}, {"classes": classes})
    return path


@pytest.fixture
def files(tmp_path):
    return {
        name: write(tmp_path / f"{name}.safetensors", n, seed=n)
        for name, n in (("train", 12), ("test", 30), ("validation", 9))
    }


def run(files, tmp_path, **changes):
    arguments = {
        "protocol": "tiny",
        "network": "convnet3",
        "generation_seed": 1,
        "training_seed": 2,
        "flip": False,
        "device": "cpu",
        "threads": 1,
        "context": {"dataset": "toy", "run": "random", "ipc": 4},
        "output": tmp_path / "out" / "score.json",
        "predictions": tmp_path / "out" / "score.safetensors",
        **changes,
    }
    return evaluate(files["train"], files["test"], files.get("validation"), **arguments)


def test_the_score_holds_everything_that_made_it(files, tmp_path):
    found = run(files, tmp_path)
    assert found == json.loads((tmp_path / "out/score.json").read_text())
    expected = {
        "schema": 1, "dataset": "toy", "run": "random", "ipc": 4, "generation_seed": 1,
        "training_seed": 2, "protocol": "tiny", "network": "convnet3", "num_classes": 3,
        "n_train": 12, "n_test": 30, "n_validation": 9, "device": "cpu",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["settings"]["augmentation"]["flip"] == 0 and found["settings"]["epochs"] == 3
    assert [sorted(record) for record in found["curve"]] == [
        ["epoch", "test", "train_loss", "validation"]
    ] * 3
    assert found["versions"]["torch"] == torch.__version__
    saved = load_tensors(tmp_path / "out/score.safetensors")
    assert set(saved) == {"best", "last", "selected", "labels"}
    assert all(t.dtype == torch.int16 and t.shape == (30,) for t in saved.values())
    assert tensor_metadata(tmp_path / "out/score.safetensors")["classes"] == CLASSES
    for name, accuracy in found["accuracy"].items():
        share = (saved[name] == saved["labels"]).double().mean().item()
        assert accuracy == pytest.approx(100 * share)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "score.json", "score.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("granted", [None, 1, 3])
def test_a_training_takes_the_same_threads_whatever_is_granted(files, tmp_path, granted):
    before, seen = torch.get_num_threads(), []
    found = run(files, tmp_path, threads=granted)
    assert found["threads"] == TRAINING_THREADS
    assert found["processor"] == processor() != ""
    with fixed_threads("cpu", granted):
        seen.append(torch.get_num_threads())
    with fixed_threads("cuda", 3):
        seen.append(torch.get_num_threads())
    assert seen == [TRAINING_THREADS, 3]
    assert torch.get_num_threads() == before


def test_without_validation_selected_is_absent(files, tmp_path):
    del files["validation"]
    found = run(files, tmp_path)
    assert found["accuracy"]["selected"] is None and found["n_validation"] == 0
    assert set(load_tensors(tmp_path / "out/score.safetensors")) == {"best", "last", "labels"}


def test_flip_and_context(files, tmp_path):
    plain = run(files, tmp_path)
    assert run(files, tmp_path, flip=True)["settings"]["augmentation"]["flip"] == 0.5
    renamed = run(files, tmp_path, context={"run": "mgd3"})
    assert renamed["curve"] == plain["curve"], "a run's name must not enter a draw"


def test_progress_goes_to_stderr(files, tmp_path, capfd):
    run(files, tmp_path)
    out, err = capfd.readouterr()
    assert not out and err.count("epoch") == 3


@pytest.mark.parametrize("broken", ["train", "test", "validation"])
def test_other_classes_are_refused(files, tmp_path, broken):
    write(files[broken], 12, classes=["n01", "n03", "n02"])
    with pytest.raises(UserError, match=r"label 1 is 'n0[23]' instead of 'n0[23]'"):
        run(files, tmp_path)


def test_another_number_of_classes_is_refused(files, tmp_path):
    write(files["test"], 12, classes=CLASSES[:2], labels=torch.arange(12) % 2)
    with pytest.raises(UserError, match=r"test\.safetensors lists other classes.*2 instead of 3"):
        run(files, tmp_path)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(files, tmp_path, label):
    write(files["train"], 4, labels=torch.tensor([0, 1, 2, label]))
    with pytest.raises(UserError, match=f"train.safetensors has label {label}.*0 to 2"):
        run(files, tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_images_is_named(files, tmp_path, split):
    write(files[split], 4, labels=torch.tensor([0, 2, 2, 0]))
    with pytest.raises(UserError, match=f"{split}.safetensors has no image of class 'n02'"):
        run(files, tmp_path)


def test_images_must_be_bytes_of_three_channels(files, tmp_path):
    write(files["train"], 6, images=torch.zeros(6, 1, 20, 20, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"\[6, 1, 20, 20\].*not uint8"):
        run(files, tmp_path)
    write(files["train"], 6, images=torch.zeros(6, 3, 20, 20))
    with pytest.raises(UserError, match="float32"):
        run(files, tmp_path)
    write(files["train"], 6, labels=torch.arange(3))
    with pytest.raises(UserError, match="6 images and 3 labels"):
        run(files, tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"protocol": "hrd"}, "unknown protocol 'hrd'"),
        ({"network": "convnet9"}, "unknown network 'convnet9'"),
        ({"network": "resnet18"}, "'resnet18' needs images of at least 64 px"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "'cuda:99' is not on this machine"),
    ],
)
def test_wrong_names_stop_before_reading(tmp_path, changes, message):
    nowhere = dict.fromkeys(("train", "test"), tmp_path / "absent")
    with pytest.raises(UserError, match=message):
        run(nowhere, tmp_path, **changes)


def test_a_missing_file_is_named(files, tmp_path):
    files["test"].unlink()
    with pytest.raises(UserError, match=r"not found: .*test\.safetensors"):
        run(files, tmp_path)


@pytest.mark.parametrize(
    "height, width, size", [(256, 256, 224), (28, 28, 64), (500, 375, 224), (333, 401, 64)]
)
def test_resizing_equals_pil(height, width, size):
    g = torch.Generator().manual_seed(height)
    images = torch.randint(256, (5, 3, height, width), dtype=torch.uint8, generator=g)
    found = resize(images, size)
    for image, result in zip(images, found, strict=True):
        pil = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = np.asarray(TF.center_crop(TF.resize(pil, size), size)).astype(int)
        assert np.abs(result.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_equal_size_is_untouched():
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(resize(images, 32), images)


def test_a_class_may_be_too_small_for_a_validation_image(files, tmp_path):
    write(files["validation"], 4, labels=torch.tensor([0, 2, 2, 0]))
    assert run(files, tmp_path)["n_validation"] == 4
