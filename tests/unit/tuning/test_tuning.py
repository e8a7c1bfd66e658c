"""Tuning: which settings go on, what judges them, and that none of it sees test images."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.index import Index, write_index
from mgd3.evaluation.protocols import PROTOCOLS, StepBudget
from mgd3.evaluation.stage import evaluate
from mgd3.methods import Job
from mgd3.methods.blocks import make_block
from mgd3.metrics.judging import Seen
from mgd3.networks.architectures import create_network
from mgd3.planning.config import resolve
from mgd3.planning.tuning import tunings
from mgd3.teachers.model import save
from mgd3.tuning import trials
from mgd3.tuning.report import report
from mgd3.tuning.rungs import choose, require_slot, setting_of
from mgd3.tuning.surface import surface
from workplace import tiny

GRID = {"lambda": [0.1, 1], "t_sg": [0, 5, 10]}


def config(**tuning):
    return tiny(tuning=[{"grid": GRID, **tuning}])


def one(**tuning):
    (found,) = tunings(resolve(config(**tuning)))
    return found


def test_each_rung_takes_a_share_and_sets_of_its_own():
    tuning = one(rungs=[1, 3, 2], keep=0.5)
    assert [(rung.slots, rung.seeds) for rung in tuning.rungs] == [
        (6, (1000,)), (3, (1001,)), (2, (1002, 1003, 1004)), # then one is left
    ]  # fmt: skip
    assert [tuning.slots(rung) for rung in range(4)] == [6, 3, 2, 1]
    assert [(p["lambda"], p["t_sg"]) for p in tuning.points] == [
        (0.1, 0), (0.1, 5), (0.1, 10), (1, 0), (1, 5), (1, 10)
    ]  # fmt: skip
    assert tuning.run.settings["steps"] == 12, "what the grid does not name stays"
    # However little is kept, two are trained on.
    assert [rung.slots for rung in one(keep=0.1).rungs] == [6, 2]


def test_without_a_word_on_tuning_there_is_a_default():
    raw = tiny()
    raw["runs"][3]["steps"] = 50
    (tuning,) = tunings(resolve(raw))
    assert len(tuning.points) == 16 and tuning.run.method == "mgd3"


def test_what_changes_the_choice_changes_the_path():
    changes = [
        {}, {"keep": 0.3}, {"rungs": [2]}, {"first_seed": 7}, {"ipc": 3},
        {"teacher": "resnet10-64"}, {"grid": {"t_sg": [0, 5]}},
    ]  # fmt: skip
    ids = [one(**change).id for change in changes]
    other = config()
    other["runs"][3]["clamp"] = 2.0
    ids.append(tunings(resolve(other))[0].id)
    assert len({*ids}) == len(ids)
    assert one().id == one(keep=0.5, rungs=[1, 2]).id


SOFT = [{"protocol": "soft-small", "networks": ["resnet10"]}]
OPEN = [{"name": "digits", "validation_fraction": 0}]


@pytest.mark.parametrize(
    ("tuning", "changes", "said"),
    [
        ({"method": "d4m"}, {}, "no run has the method 'd4m'"),
        ({"grid": {"strength": [0.5, 0.7]}}, {}, "'mgd3' takes no 'strength'"),
        ({"grid": {"t_sg": [5, 99]}}, {}, "t_sg is 99, outside 0..12"),
        ({"grid": {"t_sg": [5, 5]}}, {}, "a value of the grid is listed twice"),
        ({"grid": {"t_sg": [5]}}, {}, "the grid of tuning has 1 settings"),
        ({"grid": {"lambda": list(range(40)), "cfg": list(range(40))}}, {}, "has 1,600 settings"),
        ({"first_seed": 0}, {}, "generation seed 0, whose sets are reported"),
        ({}, {"datasets": OPEN}, "digits holds out no training images"),
        ({}, {"evaluation": SOFT}, "tuning trains with hard labels"),
    ],
)
def test_what_cannot_be_tuned_is_said_to_who_tunes_and_to_no_one_else(tuning, changes, said):
    resolved = resolve({**config(**tuning), **changes})
    with pytest.raises(UserError, match=said):
        tunings(resolved)


def rung_of(folder: Path, number: int, trials_: Iterable[int], points: list[dict]) -> Path:
    """The file of a rung that takes some trials."""
    settings = [{"trial": trial, "point": points[trial], "score": None} for trial in trials_]
    path = folder / f"rung{number}.json"
    artifacts.save_json(path, {"rung": number, "settings": settings})
    return path


def scores(
    folder: Path, held: dict[int, list[float]], key: str = "score", rung: int = 0,
    points: list[dict] | None = None,
) -> list[Path]:  # fmt: skip
    """The trials of a rung, in the order of its slots."""
    files, points = [], points or POINTS
    for slot, (trial, values) in enumerate(held.items()):
        for gen, value in enumerate(values):
            path = folder / f"slot{trial}_gen{gen}.json"
            record = {"rung": rung, "slot": slot, "trial": trial, "point": points[trial]}
            own = {"score": value} if key == "score" else {"accuracy": {"last": value, "best": 99}}
            artifacts.save_json(path, {**record, **own})
            files.append(path)
    return files


POINTS = [{"t_sg": trial} for trial in range(4)]


@pytest.mark.parametrize("key", ["score", "accuracy"])
def test_the_best_means_go_on_and_of_equals_the_first(tmp_path, key):
    files = scores(tmp_path, {0: [1, 5], 3: [4, 4], 2: [3, 3], 1: [2, 4]}, key)
    before = rung_of(tmp_path, 0, (0, 3, 2, 1), POINTS)
    choose(POINTS, 3, files, tmp_path / "rung1.json", before)
    assert artifacts.load_json(tmp_path / "rung1.json")["rung"] == 1
    assert [setting_of(tmp_path / "rung1.json", slot) for slot in range(3)] == [
        {"trial": 3, "point": {"t_sg": 3}, "score": 4},
        {"trial": 0, "point": {"t_sg": 0}, "score": 3},
        {"trial": 1, "point": {"t_sg": 1}, "score": 3},
    ]


def test_the_first_rung_takes_all_in_order(tmp_path):
    choose(POINTS, 4, [], tmp_path / "rung0.json")
    kept = artifacts.load_json(tmp_path / "rung0.json")["settings"]
    assert [setting["trial"] for setting in kept] == [0, 1, 2, 3]


@pytest.mark.parametrize("held", [{0: [1, 2], 1: [3], 2: [3, 4]}, {0: [1]}])
def test_scores_that_do_not_fit_are_refused(tmp_path, held):
    with pytest.raises(UserError, match="unequal numbers of sets"):
        files, before = scores(tmp_path, held), rung_of(tmp_path, 0, held, POINTS)
        choose(POINTS, 2, files, tmp_path / "rung1.json", before)


def test_what_is_of_another_slot_or_of_this_one_at_another_time_is_refused(tmp_path):
    """All files of a tuning have one identity: the setting of a slot is known by its rung only."""
    before = rung_of(tmp_path, 0, (2, 3), POINTS)
    (score, other) = scores(tmp_path, {2: [1], 3: [2]})
    record = artifacts.load_json(score)
    require_slot(score, record, before, 0)
    with pytest.raises(UserError, match=r"not of slot 1 of .*: its slot is 0, not 1"):
        require_slot(score, record, before, 1)
    with pytest.raises(UserError, match="its rung is 0, not 1"):
        require_slot(score, record, rung_of(tmp_path, 1, (2, 3), POINTS), 0)
    # The rung was made again, and took others.
    again = rung_of(tmp_path, 0, (3, 2), POINTS)
    for path in (score, other):
        with pytest.raises(UserError, match="its trial is"):
            choose(POINTS, 1, [path], tmp_path / "rung1.json", again)
    with pytest.raises(UserError, match="its point is"):
        changed = rung_of(tmp_path, 0, (2, 3), [{"t_sg": 9}] * 4)
        choose(POINTS, 1, [score], tmp_path / "rung1.json", changed)
    with pytest.raises(UserError, match="scores are of a rung"):
        choose(POINTS, 1, [score], tmp_path / "rung1.json")


@pytest.fixture(scope="module")
def job(dit_folder, tmp_path_factory) -> Job:
    dataset = make_dataset("digits")
    path = tmp_path_factory.mktemp("tuning") / "index.parquet"
    write_index(dataset, path)
    classes = dataset.source.classes()
    index = artifacts.load_json(dit_folder / "model_index.json")
    folder = dit_folder.with_name("tuning-dit")
    shutil.copytree(dit_folder, folder)
    named = {**index, "id2label": dict(enumerate(classes))}
    artifacts.save_json(folder / "model_index.json", named)
    settings = resolve(tiny()).runs[2].settings
    return Job(dataset, Index.read(path), classes, 2, 1000, settings, folder, None, "cpu", "auto")


def test_a_trial_is_the_set_that_the_run_itself_would_make(job, tmp_path):
    artifacts.save_json(
        tmp_path / "rung1.json",
        {
            "rung": 1,
            "settings": [{"trial": 1, "point": {"cfg": 1}}, {"trial": 0, "point": {"cfg": 3.0}}],
        },
    )
    quick = replace(job, settings={**job.settings, "steps": 3})
    trials.sample("unguided", quick, tmp_path / "rung1.json", 1, tmp_path / "set.safetensors")
    other = replace(quick, settings={**quick.settings, "cfg": 3.0})
    make_block("unguided", other, tmp_path / "block.safetensors")
    found = artifacts.load_tensors(tmp_path / "set.safetensors")
    expected = artifacts.load_tensors(tmp_path / "block.safetensors")
    about = artifacts.tensor_metadata(tmp_path / "set.safetensors")
    assert about["trial"] == 0 and about["point"] == {"cfg": 3.0}
    assert (about["rung"], about["slot"]) == (1, 1)
    for label, name in enumerate(about["classes"]):
        assert torch.equal(found["images"][found["labels"] == label], expected[name])


SLOT_5 = {"rung": 0, "slot": 0, "trial": 5, "point": {"t_sg": 5}}


def rung_5(folder: Path) -> Path:
    return rung_of(folder, 0, [5], [{"t_sg": k} for k in range(6)])


def distilled(folder: Path, images, labels, classes) -> Path:
    path = folder / "set.safetensors"
    about = {**SLOT_5, "generation_seed": 1001, "classes": classes}
    artifacts.save_tensors(path, {"images": images, "labels": labels}, about)
    return path


class FakeLatents:
    """Two classes of six originals each around three far points."""

    classes = ("a", "b")
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])

    def __init__(self, *_):
        pass

    def mean(self, name: str) -> torch.Tensor:
        shift = 100.0 * (name == "b")
        near = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
        return (self.centres[:, None] + near + shift).reshape(6, 2, 1, 1)


def test_the_proxy_counts_modes_with_an_image_that_is_recognised(tmp_path, monkeypatch):
    # Class a: an image at each of its three modes, one of them mistaken. Class b: all at one mode.
    latents = np.array([[0, 0], [50, 0], [0, 50], [100, 100], [101, 100], [100, 101]], "float32")
    recognised = np.array([True, True, False, True, True, False])
    monkeypatch.setattr(trials, "Latents", FakeLatents)
    monkeypatch.setattr(trials.Index, "read", lambda path: None)
    monkeypatch.setattr(trials, "_encoded", lambda *_: latents)
    seen = Seen(torch.zeros(6, 1), torch.tensor(recognised), -torch.arange(6.0))
    monkeypatch.setattr(trials, "_seen", lambda *_: seen)
    path = distilled(tmp_path, torch.zeros(6, 3, 8, 8, dtype=torch.uint8),
                     torch.tensor([0, 0, 0, 1, 1, 1]), ["a", "b"])  # fmt: skip
    trials.proxy(path, rung_5(tmp_path), 0, [], Path(), Path(), 8, Path(), tmp_path / "score.json")
    found = artifacts.load_json(tmp_path / "score.json")
    assert found == {
        **SLOT_5, "generation_seed": 1001,
        "modes_hit": pytest.approx((1 + 1 / 3) / 2), "agreement": pytest.approx(4 / 6),
        "log_probability": -2.5, "score": pytest.approx((2 / 3 + 1 / 3) / 2),
    }  # fmt: skip
    # Nothing recognised: no mode counts.
    none = replace(seen, agrees=torch.zeros(6, dtype=torch.bool))
    monkeypatch.setattr(trials, "_seen", lambda *_: none)
    trials.proxy(path, rung_5(tmp_path), 0, [], Path(), Path(), 8, Path(), tmp_path / "score.json")
    assert artifacts.load_json(tmp_path / "score.json")["score"] == 0


def test_the_teacher_is_asked_by_the_name_of_the_class(tmp_path):
    """Its classes stand in another order than the data set's."""
    names = ["b", "c", "a"]
    torch.manual_seed(0)
    network = create_network("conv3", 3, 32, "soft").eval()
    card = {"teacher": "conv3-32", "network": "conv3", "classes": names, "size": 32}
    save(tmp_path, network.state_dict(), {**card, "mean": [0.5] * 3, "std": [0.25] * 3})
    draws = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (24, 3, 4, 4), dtype=torch.uint8, generator=draws)
    images, labels = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3), torch.arange(24) % 3
    found = trials._seen(images, labels, tmp_path, ["a", "b", "c"], "cpu").agrees
    with torch.no_grad():
        seen = [names[network((x[None] / 255 - 0.5) / 0.25).argmax()] for x in images]
    expected = [seen[i] == "abc"[i % 3] for i in range(24)]
    assert found.tolist() == expected and 0 < sum(expected) < 24


def test_a_training_is_scored_by_the_validation_split(tmp_path, monkeypatch):
    """The figure is what `evaluate` calls the validation accuracy at the last epoch."""
    quick = replace(PROTOCOLS["hard-small"], duration=StepBudget(6, 3), evaluations=3)
    monkeypatch.setitem(PROTOCOLS, "hard-small", quick)
    draws = torch.Generator().manual_seed(0)
    files = {}
    for name, n in (("validation", 40), ("test", 50)):
        images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=draws)
        files[name] = tmp_path / f"{name}.safetensors"
        tensors = {"images": images, "labels": torch.arange(n) % 2}
        artifacts.save_tensors(files[name], tensors, {"classes": ["a", "b"]})
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=draws)
    train = distilled(tmp_path, images, torch.arange(8) % 2, ["a", "b"])
    same = {"protocol": "hard-small", "network": "convnet3", "flip": False, "device": "cpu"}
    trials.train(train, rung_5(tmp_path), 0, files["validation"], **same, threads=1,
                 output=tmp_path / "score.json")  # fmt: skip
    with pytest.raises(UserError, match="not of slot 0"):
        trials.train(train, rung_of(tmp_path, 0, [1], POINTS), 0, files["validation"], **same,
                     threads=1, output=tmp_path / "other.json")  # fmt: skip
    found = artifacts.load_json(tmp_path / "score.json")
    whole = evaluate(
        train, files["test"], files["validation"], **same, threads=1, generation_seed=1001,
        training_seed=0, context={}, output=tmp_path / "e.json", predictions=tmp_path / "p",
    )  # fmt: skip
    assert found["accuracy"]["last"] == whole["validation_accuracy"]["last"]
    assert (found["trial"], found["tested_on"], found["n_test"]) == (5, "validation", 40)


def finished(folder: Path, raw: dict, best: int) -> list[dict]:
    """What a tuning of `GRID` leaves: trials 3, 4, 5 judged in rung 1, `best` chosen."""
    (tuning,) = tunings(resolve(raw))
    points = tuning.points
    judged = {trial: [0.5 + trial / 10] for trial in range(6)}
    proxies = scores(folder / "rung0", judged, points=points)
    judgement = {"modes_hit": 0.75, "agreement": 0.9, "log_probability": -0.25}
    for path in proxies:
        record = artifacts.load_json(path)
        artifacts.save_json(path, {**record, **judgement})
    trained = {trial: [80.0, 84.0 + (trial == best)] for trial in (3, 4, 5)}
    rung = scores(folder / "rung1", trained, "accuracy", 1, points)
    chosen = folder / "rung2.json"
    choose(points, 1, rung, chosen, rung_of(folder, 1, trained, points))
    keys = ("id", "position", "dataset", "ipc", "points", "slugs", "protocol", "network")
    return [
        {**{key: getattr(tuning, key) for key in keys}, "label": tuning.run.label,
         "choice": resolve(raw).tuning[0],
         "scores": [list(map(str, proxies)), list(map(str, rung))], "chosen": str(chosen)}
    ]  # fmt: skip


def reported(folder: Path, raw: dict, best: int) -> tuple[pd.DataFrame, dict]:
    made = resolve(raw)
    slugs = [run.slug for run in made.runs]
    overlay = folder / "overlay.yaml"
    report(finished(folder, raw, best), made.run_choices, slugs, raw["name"],
           folder / "tuning.csv", overlay)  # fmt: skip
    return pd.read_csv(folder / "tuning.csv"), yaml.safe_load(overlay.read_text())


def test_the_overlay_adds_the_chosen_run_to_the_configuration(tmp_path):
    raw = config()
    table, overlay = reported(tmp_path, raw, best=4)
    tuned = resolve({**copy.deepcopy(raw), **overlay})
    assert tuned.name == "tiny-tuned"
    before = [run.slug for run in resolve(raw).runs]
    after = [run.slug for run in tuned.runs]
    (added,) = [run for run in tuned.runs if run.slug not in before]
    assert [slug for slug in after if slug != added.slug] == before, "the tuned run stays"
    assert (added.settings["lambda"], added.settings["t_sg"]) == (1, 5)
    # The same search as before, of which is known which network chose.
    assert tuned.tunes and [t.id for t in tunings(tuned)] == [t.id for t in tunings(resolve(raw))]
    assert added.settings["steps"] == 12
    assert table["run"][0] == added.slug and table["chosen"].tolist() == [True] + [False] * 5


def test_a_choice_that_the_configuration_has_already_is_not_added(tmp_path):
    raw = config()
    raw["runs"][3] |= {"lambda": [0.1, 1], "t_sg": [10, 5]}
    _, overlay = reported(tmp_path, raw, best=4)
    assert overlay["runs"] == raw["runs"]


def test_the_table_has_every_setting_with_what_judged_it(tmp_path):
    table, _ = reported(tmp_path, config(), best=4)
    assert table["trial"].tolist() == [4, 5, 3, 2, 1, 0]
    row = table.iloc[0]
    assert (row["proxy"], row["validation_1"], row["validation_1_std"], row["validation_1_n"]) == (
        0.9, 82.5, 2.5, 2
    )  # fmt: skip
    assert table["validation_1"].isna().tolist() == [False] * 3 + [True] * 3
    text = (tmp_path / "tuning.md").read_text()
    assert "6 settings, 12 distilled sets, 6 trainings" in text
    assert (
        "| **1** | **5** | **0.75** | **0.90** | **-0.25** | **0.90** | **82.5 ± 2.5 (n=2)** |"
        in text
    )
    assert "Rank correlation of the proxy with rung 1, over its 3 settings: 0.00." in text


def test_the_surface_shows_every_figure_and_boxes_the_choice(tmp_path):
    table, _ = reported(tmp_path, config(), best=4)
    for name in ("a", "b"):
        surface(table, table["tuning"][0], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "a.svg").read_text())
    for word in ("proxy (no training)", "0.50", "1.00", "82.5", "guidance scale λ", "n = 2"):
        assert word in text
    with Image.open(tmp_path / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    assert (np.concatenate([grey[:2].ravel(), grey[-2:].ravel(), grey[:, -2:].ravel()]) > 250).all()
    with pytest.raises(UserError, match="no tuning 'x'"):
        surface(table, "x", tmp_path / "c.png")


@pytest.mark.parametrize(
    "grid", [{"cfg": [1, 2, 3]}, {"lambda": [0.1, 1], "t_sg": [0, 5], "cfg": [1, 2]}]
)
def test_surfaces_of_one_and_of_three_settings_have_a_cell_for_each(tmp_path, grid):
    (tuning,) = tunings(resolve(config(grid=grid)))
    table = pd.DataFrame(
        [{"tuning": "t", "dataset": "d", "ipc": 2, **point, "proxy": 0.5 + trial / 100,
          "chosen": trial == 0} for trial, point in enumerate(tuning.points)]
    )  # fmt: skip
    surface(table, "t", tmp_path / "a.png")
    text = (tmp_path / "a.svg").read_text()
    assert all(f">{0.5 + trial / 100:.2f}<" in text for trial in range(len(table)))
