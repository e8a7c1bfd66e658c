"""The plan counts the jobs of the layout, and shrinks as their files appear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.generators import loading
from mgd3.generators.registry import GeneratorEntry
from mgd3.planning.config import read_configs, resolve
from mgd3.planning.layout import Layout
from mgd3.planning.plan import Row, _counts, _generators, _image_seconds, plan, table
from mgd3.stages import VERSIONS

ROOT = Path(__file__).parents[3]
CONFIG = {
    "name": "test",
    "datasets": ["digits"],
    "ipc": [2, 3],
    "generation_seeds": [0, 1],
    "runs": [
        {"method": "random"},
        {"method": "mgd3", "generator": "tiny-dit", "steps": 5, "t_sg": 2},
        {"method": "mgd3", "generator": "tiny-dit", "steps": 5, "t_sg": 3},
    ],
    "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    "resources": {"classes_per_block": 5},
}


def jobs(rows: list[Row]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for row in rows:
        counted[row.stage] = counted.get(row.stage, 0) + row.jobs
    return counted


@pytest.mark.slow
def test_jobs_are_those_of_the_layout_and_finished_ones_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = Layout(resolve(CONFIG), tmp_path, VERSIONS)
    rows = plan(layout, "cpu")
    assert jobs(rows) == {
        "train_vae": 1, "train_generator": 1, "latents": 1, "modes": 2, "sample": 24,
        "collect": 12, "pixels": 2, "evaluate": 12, "report": 7,
    }  # fmt: skip
    assert all(row.seconds is not None and row.seconds > 0 for row in rows)
    longer = next(row for row in rows if row.stage == "evaluate")
    assert longer.memory > 0
    text = table(rows, "cpu")
    assert "total" in text and "extrapolated" in text

    for path in layout.scores()[:-1]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    monkeypatch.setattr("mgd3.planning.plan._samples", lambda *_: iter(()))
    monkeypatch.setattr("mgd3.planning.plan._generators", lambda *_: iter(()))
    assert jobs(plan(layout, "cpu"))["evaluate"] == 1


class Instant:
    """A stopwatch that lets work be done once, and says that it took a second."""

    device, images, startup = "cpu", 2, 0.0

    def seconds(self, work):
        work()
        return 1.0, 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["dit", "sd"])
def test_a_generator_is_timed_in_the_precision_that_the_run_has(
    family, precision, tmp_path, request, monkeypatch
):
    folder = request.getfixturevalue(f"{family}_folder")
    run = {"method": "unguided", "generator": str(folder), "precision": precision, "steps": 5}
    config = resolve({**CONFIG, "runs": [run]})
    seen, load = [], loading.load_generator

    def spy(*arguments, **options):
        seen.append(load(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(loading, "load_generator", spy)
    layout = Layout(config, tmp_path, VERSIONS)
    dataset, (chosen,) = layout.datasets["digits"], config.runs
    each, _, word = _image_seconds(layout, dataset, chosen, Instant())
    assert each > 0 and word == "its own weights"
    assert seen[0].dtype == getattr(torch, precision)


def test_encoding_is_timed_in_the_precision_of_the_latents(dit_folder, tmp_path, monkeypatch):
    run = {"method": "mgd3", "generator": str(dit_folder)}
    layout = Layout(resolve({**CONFIG, "runs": [run]}), tmp_path, VERSIONS)
    monkeypatch.setattr(GeneratorEntry, "encoded_in", "bfloat16")
    seen = []
    monkeypatch.setattr("mgd3.planning.plan._load", lambda *of: seen.append(of[-1]) or (None, "no"))
    list(_generators(layout, layout.datasets["digits"], {"train": 10}, Instant()))
    assert seen == ["bfloat16"]


def test_the_command_tells_what_is_judged_at_another_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mgd3.planning.plan._Stopwatch", lambda device: Instant())
    written = {
        **CONFIG,
        "datasets": [{"name": "digits", "size": 64}],
        "runs": [{"method": "random"}],
    }
    for path in Layout(
        resolve(written), tmp_path, VERSIONS
    ).scores():  # no training is left to be timed
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(written))
    assert main(["plan", "my.yaml"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == (
        "note: images of digits have 64 px (`size` of the data set), and protocol hard-small "
        "judges them at 32 px"
    )


def test_images_of_an_archive_are_counted_before_it_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choices = ["cifar10", {"name": "cifar100", "validation_fraction": 0}, "imagenette-fastai"]
    layout = Layout(resolve({**CONFIG, "datasets": choices}), tmp_path, VERSIONS)
    assert [_counts(layout, dataset) for dataset in layout.config.datasets] == [
        {"train": 45_000, "validation": 5000, "test": 10_000},
        {"train": 50_000, "validation": 0, "test": 10_000},
        {"train": 9469, "validation": 0, "test": 3925},
    ]


def test_what_cannot_be_timed_is_said():
    text = table([Row("sample", 3, None, why="dit: not fetched yet"), Row("report", 1, 61)], "cpu")
    assert "?" in text and "0:01:01" in text and "without sample" in text


def test_configurations_merge_as_snakemake_merges_them(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"x": {"a": 1, "b": 2}, "y": [1, 2]}))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"x": {"b": 3}, "y": [4]}))
    merged = read_configs([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert merged == {"x": {"a": 1, "b": 3}, "y": [4]}


@pytest.mark.parametrize("held", ["", "[1]", "a: [", "\0"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, held, capsys):
    (tmp_path / "bad.yaml").write_text(held)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        read_configs([tmp_path / "bad.yaml"])
    assert main(["plan", str(tmp_path / "absent.yaml")]) == 2
    assert "absent.yaml" in capsys.readouterr().err
