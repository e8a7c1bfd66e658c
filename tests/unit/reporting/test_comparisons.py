"""Curves over IPC and over the kind of labels: every run and level is there, nothing is cut off."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mgd3.base.errors import UserError
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.reporting.comparisons import KINDS, accuracy_over_ipc, accuracy_over_labels, kind_of
from mgd3.stages import VERSIONS
from workplace import ROOT, tiny

RUNS = {"r": "random real images", "u": "unguided (CFG 1.5)", "m": "MGD3 (λ=1, t_SG=10, CFG 1.5)"}
DATASET = "a data set of a user's own"
HARD, SOFT = ("hard-small", "convnet3"), ("soft-small", "resnet10")


def results(ipcs, places=(HARD,), full: bool = False) -> pd.DataFrame:
    rows = [
        {"dataset": DATASET, "ipc": ipc, "protocol": protocol, "network": network, "run": run,
         "label": label, "n": 3, "last_mean": 50 + 10 * i + ipc, "last_std": 0.5 if i else None}
        for protocol, network in places for ipc in ipcs
        for i, (run, label) in enumerate(RUNS.items())
    ]  # fmt: skip
    if full:
        rows.append({**rows[0], "ipc": 0, "run": "full", "label": "Full (all)", "last_mean": 95.0})
    return pd.DataFrame(rows)


def drawn(folder: Path, make, table: pd.DataFrame) -> str:
    for name in "ab":
        make(table, folder / f"{name}.png")
        assert (folder / f"{name}.png").read_bytes() == (folder / "a.png").read_bytes()
    with Image.open(folder / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    for edge in (grey[:, :3], grey[:, -3:], grey[:3], grey[-3:]):
        assert (edge > 250).all()
    return re.sub(r"<[^>]+>", " ", (folder / "a.svg").read_text())


def test_a_curve_over_ipc_has_every_run_and_the_level_of_all_images(tmp_path):
    text = drawn(tmp_path, accuracy_over_ipc, results((1, 2, 50), full=True))
    for word in (
        *RUNS.values(),
        "Full (all)",
        "images per class",
        DATASET,
        "n = 3 trainings a point",
    ):
        assert text.count(word) == 1
    svg = (tmp_path / "a.svg").read_text()
    assert all(f">{ipc}<" in svg for ipc in (1, 2, 50))


def test_each_network_has_a_panel_and_the_runs_one_legend(tmp_path):
    text = drawn(tmp_path, accuracy_over_ipc, results((1, 2), (HARD, SOFT)))
    assert text.count("images per class") == 2
    assert all(text.count(label) == 1 for label in RUNS.values())


def test_one_ipc_is_no_curve(tmp_path):
    with pytest.raises(UserError, match="the same images per class"):
        accuracy_over_ipc(results((10,), full=True), tmp_path / "a.png")


def test_labels_are_compared_hard_first_whatever_the_order(tmp_path):
    text = drawn(tmp_path, accuracy_over_labels, results((1, 10), (SOFT, HARD)))
    for word in (*RUNS.values(), "1 per class, n = 3", "10 per class, n = 3"):
        assert text.count(word) == 1
    assert text.index(KINDS[0]) < text.index(KINDS[1])
    assert text.index("hard-small") < text.index("soft-small")
    assert (kind_of("hard"), kind_of("soft-fkd"), kind_of("glad")) == (KINDS[0], KINDS[1], KINDS[0])


def test_one_kind_of_labels_is_no_comparison(tmp_path):
    with pytest.raises(UserError, match="the same kind of labels"):
        accuracy_over_labels(results((1,)), tmp_path / "a.png")


def figures(**changes) -> set[str]:
    layout = Layout(resolve(tiny(**changes)), ROOT, VERSIONS)
    return {Path(path).stem for path in layout.sweeps()}


def test_which_comparisons_a_configuration_has():
    both = [{"protocol": p, "networks": [n]} for p, n in (HARD, SOFT)]
    assert figures() == set()
    assert figures(ipc=[1, 2]) == {"accuracy_over_ipc"}
    assert figures(evaluation=both) == {"accuracy_over_labels"}
    assert figures(evaluation=both[1:]) == set()
