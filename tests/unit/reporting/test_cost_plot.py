"""Accuracy over cost: the seconds are those of the records, and every method is there."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from mgd3.base.errors import UserError
from mgd3.reporting.cost_plot import accuracy_over_cost, seconds_of_sets

PLACE = {"dataset": "d", "ipc": 10}
LABELS = {"r": "random real images", "m": "MGD3 (λ=1, t_SG=10)", "full": "Full (all real images)"}


def costs() -> pd.DataFrame:
    """Of `m`: 40 s of preparing, and two sets of 6 s; of `r`: one set of 2 s."""
    rows = [
        ("m", "train-generator", "prepare", 30, 2), ("m", "latents", "prepare", 10, 2),
        ("m", "sample", "distil", 10, 2), ("m", "collect", "distil", 2, 2),
        ("m", "evaluate", "evaluate", 500, 2),
        ("r", "sample", "distil", 2, 1), ("r", "evaluate", "evaluate", 500, 1),
        ("full", "evaluate", "evaluate", 900, 1),
    ]  # fmt: skip
    columns = ["run", "stage", "part", "seconds", "sets"]
    return pd.DataFrame(rows, columns=columns).assign(**PLACE)


def results(*runs: str) -> pd.DataFrame:
    rows = [
        {**PLACE, "ipc": 0 if run == "full" else 10, "protocol": "hard-small",
         "network": "convnet3", "run": run, "method": run, "label": LABELS[run], "n": 2,
         "last_mean": 80.0 + i, "last_std": None if run == "r" else 0.5}
        for i, run in enumerate(runs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_seconds_are_of_one_set_with_and_without_what_is_prepared():
    found = seconds_of_sets(costs())
    assert found.loc[("d", 10, "m")].to_dict() == {"first": 46.0, "further": 6.0}
    assert found.loc[("d", 10, "r")].to_dict() == {"first": 2.0, "further": 2.0}
    assert len(found) == 2  # training on all real images distils nothing


def test_every_method_and_the_level_of_all_images_are_drawn(tmp_path):
    for name in "ab":
        accuracy_over_cost(results("r", "m", "full"), costs(), tmp_path / f"{name}.png")
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "a.svg").read_text())
    for word in (LABELS["r"], LABELS["m"], "80.0", "81.0", "all real images", "n = 2"):
        assert word in text
    assert LABELS["full"] not in text


def test_no_method_that_makes_images_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no run makes images"):
        accuracy_over_cost(results("full"), costs(), tmp_path / "a.png")
