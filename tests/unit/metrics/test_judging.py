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
from mgd3.base.seeding import Draw, torch_generator
from mgd3.cli import main
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.metrics import IN_LATENTS, OF_IMAGES, OF_SETS, measures
from mgd3.metrics.judging import Verdicts, judge, judge_originals, look
from mgd3.metrics.stage import measure
from mgd3.metrics.summary import summarise
from mgd3.networks.architectures import create_network
from mgd3.stages import formats
from mgd3.teachers.model import save

KNOWN = [f"digit-{k}" for k in (4, 1, 7, 0, 9, 2, 3, 8, 6, 5)]
CLASSES = ["digit-1", "digit-2", "digit-9"]
WRITTEN = ("features", "agrees", "log_probability")


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
    agrees = []
    for row, name in enumerate(CLASSES):
        for k, image in enumerate(images[row]):
            picture = Image.fromarray(image.transpose(1, 2, 0))
            features, logits = seen_by(teacher_folder, picture)
            # Resizing rounds to whole levels, and not quite as PIL does.
            np.testing.assert_allclose(found[f"features/{name}"][k], features, rtol=0.05, atol=0.02)
            # Of all ten classes, not of the set's three.
            own, every = np.float64(logits[KNOWN.index(name)]), np.exp(np.float64(logits)).sum()
            assert found[f"log_probability/{name}"][k] == pytest.approx(
                own - np.log(every), abs=0.02
            )
            agrees.append(bool(found[f"agrees/{name}"][k]))
            assert agrees[-1] == (KNOWN[np.argmax(logits)] == name)
    assert len(agrees) == 9
    about = artifacts.tensor_metadata(tmp_path / "judged")
    assert about["teacher"] == {"name": "resnet10-64", "accuracy": {"test": 97.25}}


def test_what_a_teacher_makes_of_images_is_asked_of_fewer_when_memory_runs_out(teacher_folder):
    images = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    teacher, failed = teachers.load(teacher_folder), []
    own = teacher.rows_of([KNOWN[k] for k in range(7)])
    seen = look(images, own, teacher, "resnet10-64")

    def scarce(module, given):
        if len(given[0]) > 2:
            failed.append(len(given[0]))
            raise torch.OutOfMemoryError("out of memory")

    teacher.model.register_forward_pre_hook(scarce)
    again = look(images, own, teacher, "resnet10-64")
    assert failed == [7, 3]
    torch.testing.assert_close(again.features, seen.features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.log_probability, seen.log_probability, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen.agrees, again.agrees)


def test_a_set_is_judged_in_the_words_of_its_teacher(teacher_folder, tmp_path):
    write_set(tmp_path / "set", classes=["one", "two"])
    with pytest.raises(UserError, match="the teacher does not know class 'one'"):
        judge(tmp_path / "set", "resnet10-64", teacher_folder, None, tmp_path / "judged")
    names = ["digit-1", "digit-2"]
    judge(tmp_path / "set", "resnet10-64", teacher_folder, names, tmp_path / "judged")
    found = artifacts.load_tensors(tmp_path / "judged")
    assert set(found) == {f"{w}/{n}" for w in WRITTEN for n in ("one", "two")}


def test_real_images_are_those_of_both_splits_resized_as_for_a_test(teacher_folder, tmp_path):
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
    for split in ("train", "test"):
        keys = Index.read(tmp_path / "index").images("digit-3", split)
        assert len(found[f"{split}/digit-3"]) == len(keys)
        for k in (0, len(keys) // 2, len(keys) - 1):
            features, _ = seen_by(teacher_folder, dataset.source.open(keys[k]))
            np.testing.assert_allclose(found[f"{split}/digit-3"][k], features, rtol=1e-3, atol=1e-4)


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """The Frechet distance as it is written."""
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)


def write_judged(
    path: Path, features: dict[str, np.ndarray], agrees: dict[str, list[bool]]
) -> Path:
    tensors = {f"features/{n}": torch.tensor(x).float() for n, x in features.items()}
    tensors |= {f"agrees/{n}": torch.tensor(p) for n, p in agrees.items()}
    tensors |= {
        f"log_probability/{n}": -torch.arange(len(p)).float() / 10 for n, p in agrees.items()
    }
    about = {"name": "resnet10-64", "accuracy": {"test": 97.25}}
    artifacts.save_tensors(path, tensors, {"classes": CLASSES, "teacher": about})
    return path


def write_real(path: Path, train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> Path:
    tensors = {f"train/{n}": torch.tensor(x).float() for n, x in train.items()}
    tensors |= {f"test/{n}": torch.tensor(x).float() for n, x in test.items()}
    artifacts.save_tensors(path, tensors, {"classes": CLASSES})
    return path


AGREES = {"digit-1": [True, True, False, True, False, True], "digit-2": [True] * 6,
          "digit-9": [False] * 6}  # fmt: skip


@pytest.fixture
def judged(tmp_path):
    draws = np.random.default_rng(3)

    def some(n: int, shift: float = 0, width: float = 1) -> dict[str, np.ndarray]:
        return {
            name: np.float32(draws.normal(k + shift, width, (n, 5)))
            for k, name in enumerate(CLASSES)
        }

    train, test, near, far = some(60), some(40), some(6), some(6, 4, 2)
    near["digit-2"][:3] = train["digit-2"][:3]  # copies
    sets = {"near": near, "far": far}
    files = {run: write_judged(tmp_path / run, of, AGREES) for run, of in sets.items()}
    return files, write_real(tmp_path / "real", train, test), (train, test, sets)


def test_what_real_images_are_compared_with_which(judged):
    """The whole set with the test images; each image with the training images of its class."""
    files, originals, (train, test, sets) = judged
    verdicts = Verdicts(files, originals, CLASSES, generation_seed=0)
    held_out = np.concatenate([test[n] for n in CLASSES])
    usual = []
    for name in CLASSES:
        usual += [np.linalg.norm(train[name] - x, axis=1).min() for x in test[name]]
    for run, of in sets.items():
        whole = np.concatenate([of[n] for n in CLASSES])
        found = verdicts.whole[run]
        assert found["kid"] == measures.kid(whole, held_out)
        both = measures.precision_recall(whole, held_out)
        assert (found["precision"], found["recall"]) == both
        assert found["coverage"] == measures.coverage(whole, held_out)
        for name in CLASSES:
            nearest = [np.linalg.norm(train[name] - x, axis=1).min() for x in of[name]]
            images = verdicts.of_class(run, name)
            np.testing.assert_allclose(images["nearest_train"], nearest, rtol=1e-6)
            closer = np.array(nearest) < np.quantile(usual, 0.01)
            assert images["closer_than_99"].tolist() == closer.tolist()
            assert images["agreement"].tolist() == AGREES[name]
            np.testing.assert_allclose(images["log_probability"], -np.arange(6) / 10, rtol=1e-6)
    assert verdicts.of_class("near", "digit-2")["closer_than_99"][:3].tolist() == [1, 1, 1]
    assert verdicts.whole["far"]["kid"] > 10 * abs(verdicts.whole["near"]["kid"])
    assert verdicts.real["nearest_train"] == pytest.approx(np.mean(usual), rel=1e-6)
    assert abs(verdicts.real["kid"]) < verdicts.whole["far"]["kid"] / 10
    assert Verdicts(files, originals, CLASSES, 1).real["kid"] != verdicts.real["kid"]


def test_few_held_out_images_do_not_say_what_99_per_cent_are(judged, tmp_path):
    files, _, (train, test, _) = judged
    few = write_real(tmp_path / "few", train, {name: x[:33] for name, x in test.items()})
    verdicts = Verdicts(files, few, CLASSES, 0)
    assert np.isnan(verdicts.of_class("near", "digit-2")["closer_than_99"]).all()
    assert verdicts.of_class("near", "digit-2")["nearest_train"][:3].tolist() == [0, 0, 0]


def test_there_is_no_frechet_distance_of_few_images(judged):
    files, originals, _ = judged
    verdicts = Verdicts(files, originals, CLASSES, 0)
    assert verdicts.no_frechet == "the sets have 18 images, fewer than 5,000"
    assert np.isnan([verdicts.real["frechet"], verdicts.whole["near"]["frechet"]]).all()


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (3334, None),
        (
            3333,
            "the data set has 9,999 training images, too few to compare 5,001 with 5,000 others",
        ),
    ],
)
def test_from_5000_images_on_there_is_one_and_that_of_as_many_real_images(tmp_path, held, why):
    draws = np.random.default_rng(0)
    made, train, test = (
        {n: np.float32(draws.normal(k, 1 + far, (count, 4))) for k, n in enumerate(CLASSES)}
        for count, far in ((1667, 0.5), (held, 0), (5, 0))
    )
    agrees = {name: [True] * 1667 for name in CLASSES}
    files = {"a": write_judged(tmp_path / "a", made, agrees)}
    real = write_real(tmp_path / "real", train, test)
    verdicts = Verdicts(files, real, CLASSES, 0)
    assert verdicts.no_frechet == why
    if why is not None:
        assert np.isnan(verdicts.whole["a"]["frechet"])
        return
    # The training images are split by class into drawn ones and the rest, which both stand against.
    rest, drawn = [], []
    for name in CLASSES:
        order = torch.randperm(held, generator=torch_generator(Draw.FRECHET, 0, name)).numpy()
        drawn.append(train[name][order[:1667]])
        rest.append(train[name][order[1667:]])
    whole, others = np.concatenate([made[n] for n in CLASSES]), np.concatenate(rest)
    assert verdicts.whole["a"]["frechet"] == pytest.approx(textbook(whole, others), rel=1e-4)
    same = textbook(np.concatenate(drawn), others)
    assert verdicts.real["frechet"] == pytest.approx(same, rel=1e-3)
    assert verdicts.real["frechet"] < verdicts.whole["a"]["frechet"] / 50


def test_the_tables_have_the_teachers_measures_or_say_why_not(judged, tmp_path):
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
    of = {"dataset": "d", "ipc": 6, "generation_seed": 0}
    runs = [*files, "herding"]
    samples, output = dict.fromkeys(runs, tmp_path / "set"), tmp_path / "samples"
    measure([tmp_path / "latents"], tmp_path / "index", samples, of, output, tmp_path / "points",
            files, originals, {"herding": "resnet10-64 chose the images"})  # fmt: skip
    labels = [{"run": run, "label": run.title()} for run in runs]
    summarise([output], labels, tmp_path / "metrics.csv")
    table = pd.read_csv(tmp_path / "metrics.csv").set_index(["space", "run"])
    verdicts = Verdicts(files, originals, CLASSES, 0)
    far, near = table.loc[("features", "far")], table.loc[("features", "near")]
    assert near.agreement == pytest.approx(10 / 18) and near.log_probability == pytest.approx(-0.25)
    for measure_ in OF_SETS[:4]:
        assert far[measure_] == pytest.approx(verdicts.whole["far"][measure_])
        assert far[f"{measure_}_real"] == pytest.approx(verdicts.real[measure_])
    assert table.loc[("features", "herding"), [*OF_SETS, *OF_IMAGES]].isna().all()
    assert table.loc["latent", [*OF_SETS, *OF_IMAGES]].isna().all().all()
    assert table.loc["latent", [*IN_LATENTS]].notna().all().all()
    classes = pd.read_csv(tmp_path / "metrics_classes.csv").query("space == 'features'")
    of_class = classes.groupby("class").agreement.first()
    assert of_class["digit-1"] == pytest.approx(4 / 6) and of_class["digit-9"] == 0
    text = (tmp_path / "metrics.md").read_text()
    assert "## d, 6 per class, features of resnet10-64 (accuracy: test 97.2 %)" in text
    head = "| method | n | kid | precision | recall | coverage | frechet | nearest train | "
    assert f"{head}closer than 99 % | agreement | log probability |" in text
    assert "| Herding | 1 |" + " n/a |" * 9 in text
    assert "* n/a for Herding: resnet10-64 chose the images." in text
    assert f"| *real images* | 1 | {verdicts.real['kid']:.3g} |" in text
    assert "* frechet is n/a: the sets have 18 images, fewer than 5,000." in text


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
