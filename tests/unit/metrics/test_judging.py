"""A teacher's judgement of distilled sets, against images and formulas taken one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from mgd3 import teachers
from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.metrics.judging import Verdicts, judge, judge_originals, look
from mgd3.metrics.stage import measure
from mgd3.metrics.summary import summarise
from mgd3.networks.architectures import create_network
from mgd3.stages import formats
from mgd3.teachers.model import save

KNOWN = [f"digit-{k}" for k in (4, 1, 7, 0, 9, 2, 3, 8, 6, 5)]
CLASSES = ["digit-1", "digit-2", "digit-9"]


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    """Random weights; its classes stand in an order of their own."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model = create_network("resnet10", 10, 64, "soft")
    card = {"network": "resnet10", "classes": KNOWN, "size": 64, "accuracy": {"test": 97.25}}
    card |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    save(folder, model.state_dict(), card)
    return folder


def seen_by(folder: Path, picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of one picture, resized by PIL."""
    teacher = teachers.load(folder)
    pixels = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)) / 255
    x = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    x = torch.tensor(x).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return teacher.features(x)[0].numpy(), teacher.model(x)[0].numpy()


def write_set(path: Path, each: int = 3, seed: int = 0, classes=tuple(CLASSES)) -> np.ndarray:
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 256, (each * len(classes), 3, 8, 8), dtype=np.uint8)
    images = coarse.repeat(4, axis=2).repeat(4, axis=3)
    labels = np.repeat(np.arange(len(classes)), each)
    tensors = {"images": torch.tensor(images), "labels": torch.tensor(labels)}
    artifacts.save_tensors(path, tensors, {"classes": list(classes)})
    return images.reshape(len(classes), each, 3, 32, 32)


def test_features_and_classes_are_those_of_each_image_alone(teacher_folder, tmp_path):
    images = write_set(tmp_path / "set")
    judge(tmp_path / "set", "resnet10-64", teacher_folder, None, tmp_path / "judged")
    found = artifacts.load_tensors(tmp_path / "judged")
    order = [KNOWN.index(name) for name in CLASSES]
    for row, name in enumerate(CLASSES):
        for k, image in enumerate(images[row]):
            picture = Image.fromarray(image.transpose(1, 2, 0))
            features, logits = seen_by(teacher_folder, picture)
            # Resizing rounds to whole levels, and not quite as PIL does.
            np.testing.assert_allclose(found[f"features/{name}"][k], features, rtol=0.05, atol=0.02)
            assert found[f"predicted/{name}"][k] == np.argmax(logits[order])
    about = artifacts.tensor_metadata(tmp_path / "judged")
    assert about["teacher"] == {"name": "resnet10-64", "accuracy": {"test": 97.25}}


def test_what_a_teacher_makes_of_images_is_asked_of_fewer_when_memory_runs_out(teacher_folder):
    images = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    teacher, failed = teachers.load(teacher_folder), []
    features, seen = look(images, teacher, "resnet10-64")

    def scarce(module, given):
        if len(given[0]) > 2:
            failed.append(len(given[0]))
            raise torch.OutOfMemoryError("out of memory")

    teacher.model.register_forward_pre_hook(scarce)
    fewer, again = look(images, teacher, "resnet10-64")
    assert failed == [7, 3]
    torch.testing.assert_close(fewer, features, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen, again)


def test_a_set_is_judged_in_the_words_of_its_teacher(teacher_folder, tmp_path):
    write_set(tmp_path / "set", classes=["one", "two"])
    with pytest.raises(UserError, match="the teacher does not know class 'one'"):
        judge(tmp_path / "set", "resnet10-64", teacher_folder, None, tmp_path / "judged")
    names = ["digit-1", "digit-2"]
    judge(tmp_path / "set", "resnet10-64", teacher_folder, names, tmp_path / "judged")
    found = artifacts.load_tensors(tmp_path / "judged")
    assert set(found) == {f"{w}/{n}" for w in ("features", "predicted") for n in ("one", "two")}


def test_originals_are_the_training_images_resized_as_for_a_test(teacher_folder, tmp_path):
    dataset = make_dataset("digits")
    write_index(dataset, tmp_path / "index")
    output = tmp_path / "originals.safetensors"
    options = ["--dataset", '"digits"', "--index", str(tmp_path / "index"), "--device", "cpu"]
    options += ["--teacher", "resnet10-64", "--teacher-folder", str(teacher_folder)]
    assert main(["judge-originals", *options, "--output", str(output)]) == 0
    # What reads it asks for nothing that it does not hold.
    *_, reader = get_args(formats.JudgedOriginals)
    reader.check(output)
    found = artifacts.load_tensors(output)
    keys = Index.read(tmp_path / "index").images("digit-3", "train")
    assert len(found["features/digit-3"]) == len(keys)
    for k in (0, 41, len(keys) - 1):
        features, _ = seen_by(teacher_folder, dataset.source.open(keys[k]))
        np.testing.assert_allclose(found["features/digit-3"][k], features, rtol=1e-3, atol=1e-4)


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """The Frechet distance as it is written."""
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)


def write_judged(path: Path, features: dict[str, np.ndarray], predicted: dict[str, list[int]]):
    tensors = {f"features/{n}": torch.tensor(x).float() for n, x in features.items()}
    tensors |= {f"predicted/{n}": torch.tensor(p) for n, p in predicted.items()}
    about = {"name": "resnet10-64", "accuracy": {"test": 97.25}}
    artifacts.save_tensors(path, tensors, {"classes": CLASSES, "teacher": about})
    return path


@pytest.fixture
def judged(tmp_path):
    draws = np.random.default_rng(3)
    real = {n: draws.normal(k, 1, (40, 5)) for k, n in enumerate(CLASSES)}
    near = {n: draws.normal(k, 1, (6, 5)) for k, n in enumerate(CLASSES)}
    far = {n: draws.normal(k + 4, 2, (6, 5)) for k, n in enumerate(CLASSES)}
    seen = {"digit-1": [0, 0, 2, 0, 1, 0], "digit-2": [1] * 6, "digit-9": [0] * 6}
    files = {
        "near": write_judged(tmp_path / "near", near, seen),
        "far": write_judged(tmp_path / "far", far, seen),
    }
    return files, write_judged(tmp_path / "real", real, {}), (real, near, far)


def test_agreement_and_frechet_distance_are_those_of_plain_loops(judged):
    files, originals, (real, near, far) = judged
    verdicts = Verdicts(files, originals, CLASSES, generation_seed=0)
    everything = np.concatenate([real[n] for n in CLASSES])
    for run, of in (("near", near), ("far", far)):
        plain = textbook(np.concatenate([of[n] for n in CLASSES]), everything)
        assert verdicts.frechet[run] == pytest.approx(plain, rel=1e-4)
    assert verdicts.agreement("near", "digit-1").tolist() == [1, 1, 0, 1, 0, 1]
    assert verdicts.agreement("far", "digit-2").mean() == 1
    assert verdicts.agreement("far", "digit-9").mean() == 0
    assert 0 < verdicts.real < verdicts.frechet["far"] / 5, "six real images a class"
    assert Verdicts(files, originals, CLASSES, 1).real != verdicts.real


def test_the_tables_have_columns_of_the_teacher_or_say_that_there_is_none(judged, tmp_path):
    files, originals, _ = judged
    draws = np.random.default_rng(4)
    keys = {n: [f"{n}/{k:02d}" for k in range(30)] for n in CLASSES}
    latents = {f"mean/{n}": torch.tensor(draws.normal(size=(30, 2, 2, 2))).float() for n in CLASSES}
    header = {"classes": CLASSES, "images": keys, "undecodable": dict.fromkeys(CLASSES, ())}
    artifacts.save_tensors(tmp_path / "latents", latents, header)
    rows = pd.DataFrame([(n, "train", key) for n in CLASSES for key in keys[n]])
    rows.columns = ["class", "split", "image"]
    artifacts.save_table(tmp_path / "index", rows, {"classes": CLASSES})
    sets = {n: torch.tensor(draws.normal(size=(6, 2, 2, 2))).float() for n in CLASSES}
    artifacts.save_tensors(tmp_path / "set", sets, {"classes": CLASSES})
    for teacher, options in ((True, (files, originals)), (False, ())):
        of = {"dataset": "d", "ipc": 6, "generation_seed": 0}
        samples, output = dict.fromkeys(files, tmp_path / "set"), tmp_path / f"samples{teacher}"
        measure([tmp_path / "latents"], tmp_path / "index", samples, of, output,
                tmp_path / "points", *options)  # fmt: skip
        runs = [{"run": run, "label": run} for run in files]
        summarise([output], runs, tmp_path / str(teacher) / "metrics.csv")
        table = pd.read_csv(tmp_path / str(teacher) / "metrics.csv").set_index(["space", "run"])
        text = (tmp_path / str(teacher) / "metrics.md").read_text()
        if teacher:
            verdicts = Verdicts(files, originals, CLASSES, 0)
            assert table.loc[("latent", "near"), "agreement"] == pytest.approx(10 / 18)
            assert table.loc[("map", "far"), "frechet"] == pytest.approx(verdicts.frechet["far"])
            classes = pd.read_csv(tmp_path / "True" / "metrics_classes.csv")
            of_class = classes.groupby("class").agreement.first()
            assert of_class["digit-1"] == pytest.approx(4 / 6) and of_class["digit-9"] == 0
            assert "teacher resnet10-64 (accuracy: test 97.2 %)" in text
            assert f"have frechet {verdicts.real:.3g}." in text
        else:
            assert table[["agreement", "frechet"]].isna().all().all()
            assert text.count("| n/a | n/a |") == 4 and "teacher resnet" not in text


def test_the_stages_judge_a_set(teacher_folder, tmp_path):
    write_set(tmp_path / "set")
    common = ["judge", "--distilled", str(tmp_path / "set"), "--teacher", "resnet10-64"]
    common += ["--teacher-folder", str(teacher_folder), "--device", "cpu"]
    assert main([*common, "--output", str(tmp_path / "a.safetensors")]) == 0
    names = ["--teacher-classes", json.dumps(CLASSES)]
    assert main([*common, *names, "--output", str(tmp_path / "b.safetensors")]) == 0
    a, b = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_no_image_depends_on_those_beside_it(teacher_folder, tmp_path):
    """As many classes as one batch does not hold."""
    write_set(tmp_path / "many", each=50)
    judge(tmp_path / "many", "resnet10-64", teacher_folder, None, tmp_path / "judged")
    many = artifacts.load_tensors(tmp_path / "judged")
    held = artifacts.load_tensors(tmp_path / "many")
    last = {"images": held["images"][-1:], "labels": torch.zeros(1, dtype=torch.int64)}
    artifacts.save_tensors(tmp_path / "last", last, {"classes": CLASSES[-1:]})
    judge(tmp_path / "last", "resnet10-64", teacher_folder, None, tmp_path / "one")
    one = artifacts.load_tensors(tmp_path / "one")[f"features/{CLASSES[-1]}"][0]
    torch.testing.assert_close(many[f"features/{CLASSES[-1]}"][-1], one, rtol=1e-3, atol=1e-4)


def test_originals_that_cannot_be_judged_are_named(teacher_folder, tmp_path):
    with pytest.raises(UserError, match="not found"):
        judge_originals(
            make_dataset("digits"), tmp_path / "none", "resnet10-64", teacher_folder, tmp_path / "o"
        )
