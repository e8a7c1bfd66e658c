"""Protocols through the workflow: GLaD's four networks, and the whole train split."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from workplace import Workplace, own_config, own_images


@pytest.mark.slow
def test_glads_networks_and_the_full_data_set_run_end_to_end(tmp_path: Path) -> None:
    fresh = Workplace.make(tmp_path / "fresh")  # with whole trainings: accuracy is looked at
    own_images(fresh.path / "own images", {"one": 12, "two": 12})
    own_images(fresh.path / "own images", {"one": 4, "two": 4}, folder="val")
    networks = ["alexnet", "vgg11", "resnet18", "vit"]
    glad = own_config(
        ipc=[1], evaluation=[{"protocol": "glad-small", "networks": networks, "training_seeds": 1}]
    )
    fresh.run(glad)
    with (fresh.path / "results/reports/tiny/tables/results.csv").open() as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*networks, "cross_mean"}
    mean = sum(float(rows[name]["last_mean"]) for name in networks) / 4
    assert float(rows["cross_mean"]["last_mean"]) == pytest.approx(mean, abs=1e-3)
    (vgg11,) = fresh.path.glob(
        "results/own/evaluated/random/ipc1/gen0/glad-small/vgg11_seed0~????????????.json"
    )
    score = json.loads(vgg11.read_text())
    assert score["settings"]["learning_rate"] == 0.001 and len(score["curve"]) == 1
    assert "flip" not in score["settings"]["augmentation"]["dsa"]
    assert list((fresh.path / "results/cache/pixels").glob("own/test_64-tensor~*.safetensors"))

    full = {**glad, "runs": [{"method": "full"}]}
    full["evaluation"] = [{"protocol": "hard-small", "networks": ["convnet3"]}]
    jobs = fresh.run(full)
    assert "collect" not in jobs and "grid" not in jobs and jobs["evaluate"] == 1
    (path,) = fresh.path.glob(
        "results/own/evaluated/full/ipc0/gen0/hard-small/*_seed0~????????????.json"
    )
    score = json.loads(path.read_text())
    train = score["n_train"]
    assert train + score["n_validation"] == 24 and train > 2 and score["n_test"] == 8
    assert score["accuracy"]["last"] > 60
    table = (fresh.path / "results/reports/tiny/tables/results.md").read_text()
    assert re.search(r"^\| own +\| all \| Full", table, re.M)
