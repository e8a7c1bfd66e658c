"""Slugs, labels and settings of every shipped row, as they were when paths of results were fixed.

They stand in paths, in tables and on command lines: a change here makes old results unreachable.
Recorded once (`python tests/unit/planning/test_golden_runs.py`), and again only where a
configuration that is shipped changes, or where a change of paths is meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd3.planning.config import resolve

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "tests" / "data" / "golden_runs.json"
SHIPPED = {
    path.stem: path
    for path in (ROOT / "config.yaml", *sorted((ROOT / "workflow/presets").glob("*.yaml")))
}


def every_setting() -> dict[str, Any]:
    """A configuration that sets each setting of each method off its default, one at a time."""
    dit, base = {"generator": "tiny-dit"}, {"method": "dc"}
    mgd3 = {"method": "mgd3", **dit}
    manifold = {"method": "manifoldgd", **dit}
    rows = [
        {"method": "full"},
        {"method": "random", "selection": "first"},
        {"method": "external", "path": "made/here"},
        {"method": "herding", "teacher": "resnet10-64"},
        {"method": "k-center"},
        {"method": "rded", "candidates": 30, "crops": 1},
        {"method": "nearest", **dit, "modes": ["nearest", "random"], "pca": 16},
        {"method": "decoded-modes", **dit, "modes": ["gmm"], "flips": True},
        {"method": "unguided", "generator": ["tiny-dit", "sd", "dit-minmax"]},
        {"method": "unguided", **dit, "variant": ["ddim", "ddim-x0"], "cfg": [0, 1.5, 15, 1e-9]},
        {"method": "d4m", **dit, "strength": [1, 0.12345678], "flips": True},
        {"method": "d4m", "generator": "dit", "modes": "kmeans", "steps": [20, 100]},
        {**mgd3, "lambda": [0, 1, 0.3, 1234567.0], "t_sg": [0, 50]},
        {**mgd3, "generator": "sd", "lambda": [1, 0.5]},
        *({**mgd3, key: value} for key, value in {
            "pca": 32, "flips": True, "stop_rule": "paper", "stop_unit": "timestep", "clamp": None,
            "cfg_channels": 3, "spacing": "leading", "precision": "bfloat16",
        }.items()),
        manifold,
        *({**manifold, key: value} for key, value in {
            "manifold_rule": "paper", "manifold_scale": 1.5, "manifold_radius": 0.05,
            "tangent_dim": 1, "modes": ["kmeans", "random"], "variant": "ddim-x0",
        }.items()),
        {"method": "dm"},
        base,
        *({**base, key: value} for key, value in {
            "network": "convnet3", "size": 64, "real_batch": 64, "init": "real", "iterations": 20,
            "learning_rate": 0.5, "outer_loop": None, "inner_loop": 5, "dsa": False,
        }.items()),
        {"method": "idc"},
        {"method": "idc", "warmup_epochs": 0, "learning_rate": 1, "real_batch": 8},
        {"method": "sre2l"},
        {"method": "sre2l", "bn_weight": 0, "teacher": "conv3-32"},
        {"method": "glad-vae", **dit, "objective": ["dc", "dm"]},
        {"method": "h-glad-vae", **dit, "objective": ["dc", "dm"], "stages": 2},
        {"method": "ld3m", **dit, "objective": ["dc", "dm"], "steps": [5, 20], "cfg": [1, 2.5]},
    ]  # fmt: skip
    return {
        "name": "every",
        "datasets": [{"name": "digits", "flip": True, "size": 64}],
        "ipc": [5],
        "generation_seeds": [0],
        "runs": rows,
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }


def configurations() -> dict[str, Any]:
    held = {name: yaml.safe_load(path.read_text("utf-8")) for name, path in SHIPPED.items()}
    return {**held, "every setting": every_setting()}


def rows_of(raw: Any) -> list[list[Any]]:
    """[slug, label, settings as they stand on a command line] of every run."""
    return [
        [r.slug, r.label, json.dumps(r.settings, ensure_ascii=False)] for r in resolve(raw).runs
    ]


@pytest.mark.parametrize("name", configurations())
def test_slugs_labels_and_settings_are_those_of_results_that_exist(name):
    assert rows_of(configurations()[name]) == json.loads(RECORD.read_text("utf-8"))[name]


if __name__ == "__main__":
    record = {name: rows_of(raw) for name, raw in configurations().items()}
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"recorded {sum(map(len, record.values()))} runs")
