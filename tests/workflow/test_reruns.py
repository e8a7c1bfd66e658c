"""What a change makes again, and what a killed job leaves."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from mgd3.base.records import record_of
from mgd3.planning.config import resolve
from mgd3.stages import VERSIONS
from workplace import MGD3_RUN, Workplace, own_config, own_images, tiny, tiny_mgd3

# Reports lie in a folder of their own for each configuration, four grids of images among them.
REPORT = {
    "view": 1, "tables": 1, "cost": 1, "claims": 1, "settings_table": 1, "tables_page": 1,
    "cost_plot": 1, "overview": 1, "grid": 4, "all": 1,
}  # fmt: skip
# Making one more distilled set of two blocks, judged once, and its row beside the others.
MADE = {"sample": 2, "collect": 1, "evaluate": 1}
ONE_MORE = {**MADE, **REPORT, "grid": 5}
ONE_OTHER = {**MADE, **REPORT}


def mgd3_folder(place: Workplace, config: dict[str, Any]) -> str:
    (folder,) = place.paths(config, "collect", f"/{resolve(config).runs[MGD3_RUN].slug}/")
    return folder


def mgd3_block(place: Workplace, config: dict[str, Any]) -> str:
    return place.paths(config, "sample", f"/{resolve(config).runs[MGD3_RUN].slug}/")[0]


def results(place: Workplace) -> list[dict[str, str]]:
    with (place.path / "results/reports/tiny/tables/results.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_finished_run_has_nothing_to_do(finished: Workplace) -> None:
    status, output = finished.snakemake(tiny())
    assert status == 0
    assert "Nothing to be done" in output
    assert len({row["run"] for row in results(finished)}) == 4
    with (finished.path / "results/reports/tiny/tables/settings.csv").open() as file:
        (made,) = (row for row in csv.DictReader(file) if row["method"] == "mgd3")
    images = finished.path / mgd3_folder(finished, tiny()) / "images.safetensors"
    assert made["set_sha256"] == hashlib.sha256(images.read_bytes()).hexdigest()
    assert json.loads(made["settings"]) == resolve(tiny()).runs[MGD3_RUN].settings


@pytest.mark.slow
def test_one_more_lambda_makes_its_own_files_only(again: Workplace) -> None:
    before, rows = again.times(), results(again)
    config = tiny_mgd3(**{"lambda": [0.1, 0.3]})
    assert again.planned(config) == {**ONE_MORE, "sweep_plot": 1}
    again.run(config)
    after = again.times()
    assert {file: after[file] for file in before} == before
    assert len(results(again)) > len(rows)
    slug = resolve(config).runs[MGD3_RUN + 1].slug
    assert slug in {row["run"] for row in results(again)}
    # Going back shows the report that is there.
    assert again.planned(tiny()) == {"view": 1, "all": 1}
    again.run(tiny())
    assert results(again) == rows
    assert again.times() == after


FOUR_MORE = {"sample": 8, "collect": 4, "evaluate": 4, **REPORT}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "t_sg": (tiny_mgd3(t_sg=[5, 10]), {**ONE_MORE, "sweep_plot": 1}),
    # The picture grids show the first generation seed; k-means knows no seed.
    "generation seed": (tiny(generation_seeds=[0, 1]), FOUR_MORE),
    "ipc": (tiny(ipc=[2, 3]), {**FOUR_MORE, "modes": 2, "grid": 8, "sweep_plot": 1}),
    "training seeds": (
        tiny(
            evaluation=[{"protocol": "hard-small", "networks": ["convnet3"], "training_seeds": 2}]
        ),
        {"evaluate": 4, **REPORT},
    ),
    "protocol": (
        tiny(evaluation=[{"protocol": "hard-small64", "networks": ["convnet3"]}]),
        {"pixels": 2, "evaluate": 4, **REPORT},
    ),
    "clamp, in the slug as a hash": (tiny_mgd3(clamp=2.0), ONE_OTHER),
    "method": (
        tiny(runs=[*tiny()["runs"], {"method": "decoded-modes", "generator": "tiny-dit"}]),
        ONE_MORE,
    ),
    "method, other modes": (
        tiny(runs=[*tiny()["runs"], {**tiny()["runs"][MGD3_RUN], "modes": "random"}]),
        {**ONE_MORE, "modes": 1},
    ),
    # The other rows are then called by their generators, too: no reason to train again.
    "generator": (
        tiny(runs=[*tiny()["runs"], {"method": "nearest", "generator": "small-dit"}]),
        {**ONE_MORE, "train_vae": 1, "latents": 1, "modes": 1},
    ),
    "device": (tiny(resources={"device": "auto", "batch": "auto", "classes_per_block": 5}), {}),
    "batch": (tiny(resources={"device": "cpu", "batch": 3, "classes_per_block": 5}), {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_plans_what_is_downstream_of_it(finished: Workplace, change: str) -> None:
    config, jobs = CHANGES[change]
    assert finished.planned(config) == jobs


# What Snakemake watches by itself: a path is an identity, so our profile has but `mtime`.
DEFAULT_TRIGGERS = ("--rerun-triggers", "code", "input", "mtime", "params", "software-env")


def test_snakemakes_own_triggers_plan_no_less(finished: Workplace) -> None:
    config, jobs = CHANGES["t_sg"]
    planned = finished.planned(config, *DEFAULT_TRIGGERS)
    assert {rule: planned.get(rule, 0) >= count for rule, count in jobs.items()} == dict.fromkeys(
        jobs, True
    )
    assert finished.planned(tiny(), *DEFAULT_TRIGGERS) == {}


def test_results_outlive_their_times_and_snakemakes_own_notes(again: Workplace) -> None:
    """As in a clone to which `cp -r` brought them: each file has the time of its copying."""
    shutil.rmtree(again.path / ".snakemake")
    files = sorted(path for path in (again.path / "results").rglob("*") if path.is_file())
    for path, age in zip(files, Random(0).sample(range(len(files)), len(files)), strict=True):
        os.utime(path, (time.time() - age,) * 2)
    status, output = again.snakemake(tiny(), "--dry-run")
    assert status == 0 and "Nothing to be done" in output, output
    # What is trained again is another one, whose readers are made again.
    tables = {rule: count for rule, count in REPORT.items() if rule != "view"}
    (generator,) = again.paths(tiny(), "train_generator")
    assert again.planned(tiny(), "--forcerun", f"{generator}/model_index.json") == {
        **tables, "train_generator": 1, "sample": 4, "collect": 2, "evaluate": 2, "grid": 2,
    }  # fmt: skip
    # And so is what was made of another one, whatever the times say.
    record = record_of(again.path / mgd3_block(again, tiny()))
    weights = hashlib.sha256(
        (again.path / generator / "transformer/diffusion_pytorch_model.safetensors").read_bytes()
    ).hexdigest()
    assert weights in record.read_text()
    record.write_text(record.read_text().replace(weights, 64 * "0"))
    assert again.planned(tiny()) == {**tables, **MADE, "sample": 1, "grid": 1}


def test_a_raised_stage_takes_nothing_old_from_a_cache_that_clones_share(
    finished: Workplace, fresh: Workplace
) -> None:
    shared = tiny(cache_dir=str(finished.path / "results/cache"))
    below = {"modes": 2, "sample": 8, "collect": 4, "evaluate": 4, **REPORT}
    assert fresh.planned(shared) == below
    version = VERSIONS["latents"]
    line = "class Latents(Job, version={}"
    fresh.edit("workflow/mgd3/stages/generators.py", line.format(version), line.format(version + 1))
    assert fresh.planned(shared) == {"latents": 1, **below}


def test_other_images_of_equal_size_and_time_are_another_data_set(fresh: Workplace) -> None:
    root = fresh.path / "own images"
    own_images(root, {"one": 30, "two": 30})
    whole = fresh.run(own_config())
    assert whole["evaluate"] == 1 and fresh.planned(own_config()) == {}
    for path in (root / "train/two").iterdir():
        state, data = path.stat(), bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fresh.planned(own_config()) == whole


def test_metrics_measure_every_run_and_make_nothing_else_again(again: Workplace) -> None:
    """What they hold is seen in test_analysis."""
    assert again.planned(tiny(), "metrics") == {
        "embed": 4, "pixels": 3, "train_teacher": 1, "judge": 4, "judge_originals": 1, "measure": 1,
        "measures_table": 1, "claims_of_measures": 1, "trade_off": 1, "sample_map": 1, "metrics": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_block_size_regroups_jobs_and_keeps_the_images(again: Workplace) -> None:
    config = tiny(resources={"device": "cpu", "batch": "auto", "classes_per_block": 10})
    assert again.planned(config) == {}, "a set is the same, however it was cut"
    target = f"{mgd3_folder(again, config)}/images.safetensors"
    before = load_file(again.path / target)
    (again.path / target).unlink()
    assert again.run(config, target) == {"sample": 1, "collect": 1}
    after = load_file(again.path / target)
    assert (before["labels"] == after["labels"]).all()
    # Another batch shape may round differently in float32.
    difference = abs(before["images"].astype(int) - after["images"].astype(int))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


@pytest.mark.slow
def test_export_writes_what_others_can_read(again: Workplace) -> None:
    assert again.planned(tiny(), "export") == {"export_set": 4, "export": 1}
    again.run(tiny(), "export")
    slug = resolve(tiny()).runs[MGD3_RUN].slug
    (found,) = again.path.glob(f"results/digits/exported/{slug}/ipc2/gen0~????????????")
    folder = str(found.relative_to(again.path))
    images = sorted((again.path / folder / "images").rglob("*.png"))
    assert [f"{f.parent.name}/{f.stem}" for f in images] == [
        f"digit-{d}/{k}" for d in range(10) for k in range(2)
    ]
    assert again.planned(tiny(), f"{folder}/README.md") == {}


def _sampling(process: psutil.Process, log: Path) -> psutil.Process:
    """The `mgd3 sample` process below `process`, once it has begun to sample."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for child in process.children(recursive=True):
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            own = len(words) > 2 and Path(words[1]).name == "mgd3" and words[2] == "sample"
            if own and child.cpu_times().user > 2:
                return child
        time.sleep(0.05)
    raise AssertionError(f"no sampling job was seen; its log: {log.read_text()}")


@pytest.mark.slow
def test_a_killed_job_leaves_nothing_that_looks_finished(again: Workplace) -> None:
    config = tiny_mgd3(steps=900)
    target = mgd3_block(again, config)
    folder, name = Path(target).parent, Path(target).name
    log = again.path / f"results/logs/digits/{folder.parts[3]}/ipc2_gen0_{Path(target).stem}.log"
    process = again.start(config, target)
    _sampling(psutil.Process(process.pid), log).kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0, output
    left = [f.name for f in (again.path / folder).glob("*")]
    assert name not in left
    assert again.run(config, target) == {"sample": 1}
    assert len(load_file(again.path / target)) == 5


@pytest.mark.slow
def test_own_images_run_end_to_end(fresh: Workplace) -> None:
    classes = {"one": 30, """it's "two" & more""": 30, "drei größer": 30}
    own_images(fresh.path / "own images", classes)
    fresh.run(own_config())
    (row,) = results(fresh)
    assert row["dataset"] == "own"
    (images,) = fresh.path.glob("results/own/distilled/random/ipc2/gen0~*/images.safetensors")
    held = load_file(images)
    assert held["images"].shape == (6, 3, 32, 32)
    assert fresh.planned(own_config()) == {}
