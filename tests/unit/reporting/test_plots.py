"""Curves and maps: every value and method is there, and the bytes are the same twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.reporting.plots import (
    _by_image,
    accuracy_over,
    sample_map,
    trade_off,
    trade_off_images,
    trade_off_over_stops,
)
from mgd3.reporting.sweeps import curves


def words(png: Path) -> str:
    return re.sub(r"<[^>]+>", " ", png.with_suffix(".svg").read_text())


def whole(png: Path) -> None:
    """Nothing is cut off at an edge."""
    with Image.open(png) as image:
        grey = np.asarray(image.convert("L"))
    for edge in (grey[:, :3], grey[:, -3:], grey[:3], grey[-3:]):
        assert (edge > 250).all()
    assert (grey < 100).any()


def sweep(values=(0.0, 0.1, 1.0)) -> tuple[pd.DataFrame, list[dict]]:
    place = {"dataset": "d", "ipc": 10, "protocol": "hard-small", "network": "convnet3", "n": 3}
    runs = [
        {
            "run": "u",
            "label": "unguided (CFG 1.5)",
            "method": "unguided",
            "settings": {},
            "generator": "g",
        }
    ]
    for variant in ("ddpm", "ddim"):
        for value in values:
            name = "" if variant == "ddpm" else "ddim, "
            runs.append(
                {
                    "run": f"{variant}{value}",
                    "label": f"MGD3 ({name}λ={value:g}, t_SG=10, CFG 1.5)",
                    "method": "mgd3",
                    "generator": "g",
                    "settings": {"lambda": value, "t_sg": 10, "variant": variant},
                }
            )
    rows = [
        {**place, "run": r["run"], "label": r["label"], "method": r["method"],
         "reference": "u", "last_mean": 90.0 + i, "last_std": 0.5 if i else None}
        for i, r in enumerate(runs)
    ]  # fmt: skip
    return pd.DataFrame(rows), runs


def test_a_sweep_has_a_line_for_each_of_the_other_settings_and_the_unguided_level(tmp_path):
    results, runs = sweep()
    for name in ("a", "b"):
        accuracy_over(results, runs, "lambda", tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = words(tmp_path / "a.png")
    for word in ("MGD3 (t_SG=10, CFG 1.5)", "MGD3 (ddim, t_SG=10, CFG 1.5)", "unguided (CFG 1.5)",
                 "guidance scale λ", "n = 3 trainings a point", "0.1"):  # fmt: skip
        assert word in text
    whole(tmp_path / "a.png")


def test_levels_are_those_that_curves_are_compared_with(tmp_path):
    """Another sampler's level is drawn for that sampler's curve only, and in another dash."""
    results, runs = sweep()
    other = {**runs[0], "run": "v", "label": "unguided (ddim, CFG 1.5)"}
    row = {**results.iloc[0].to_dict(), "run": "v", "label": other["label"], "last_mean": 80.0}
    results = pd.concat([results, pd.DataFrame([row])], ignore_index=True)
    accuracy_over(results, [*runs, other], "lambda", tmp_path / "a.png")
    assert other["label"] not in words(tmp_path / "a.png")
    results.loc[results.run.str.startswith("ddim"), "reference"] = "v"
    accuracy_over(results, [*runs, other], "lambda", tmp_path / "b.png")
    assert other["label"] in words(tmp_path / "b.png")
    dashes = re.findall(r"stroke-dasharray: ([^;]+)", (tmp_path / "b.svg").read_text())
    assert len(set(dashes)) == 2


def test_curves_of_equal_labels_are_all_drawn(tmp_path):
    results, runs = sweep()
    for row in runs[1:]:
        row["label"] = row["label"].replace("ddim, ", "")
    accuracy_over(results, runs, "lambda", tmp_path / "a.png")
    assert words(tmp_path / "a.png").count("MGD3 (t_SG=10, CFG 1.5)") == 2


def test_a_sweep_of_one_value_is_no_sweep(tmp_path):
    results, runs = sweep((1.0,))
    with pytest.raises(UserError, match="no two runs differ in lambda only"):
        accuracy_over(results, runs, "lambda", tmp_path / "a.png")


def test_values_that_come_with_other_settings_are_no_sweep():
    rows = [
        {"method": "mgd3", "generator": g, "settings": {"lambda": 0.1, "t_sg": t}}
        for g, t in (("dit", 25), ("sd", 500))
    ]
    assert curves(rows, "t_sg") == []
    more = {"method": "mgd3", "generator": "dit", "settings": {"lambda": 0.1, "t_sg": 5}}
    assert curves([*rows, more], "t_sg") == [[more, rows[0]]]
    assert curves([*rows, more], "lambda") == []


@pytest.mark.parametrize("methods", [2, 9, 30])
def test_a_trade_off_names_every_method_that_has_a_marker(tmp_path, methods):
    rng = np.random.default_rng(0)
    rows = [
        {"dataset": "d", "ipc": 10, "space": space, "generation_seed": 0, "class": name,
         "run": f"run{m}", "method": f"Method {m}", "diversity_01": rng.random(),
         "representativeness_01": rng.random()}
        for space in ("latent", "map") for m in range(methods) for name in "abc"
    ]  # fmt: skip
    trade_off(pd.DataFrame(rows), tmp_path / "t.png")
    text = words(tmp_path / "t.png")
    assert len(set(re.findall(r"Method \d+", text))) == min(methods, 12)
    assert "Method 0" in text and f"Method {methods - 1}" in text
    assert ("12 of 30 runs" in text) == (methods > 12)
    assert "n = 3 classes" in text
    whole(tmp_path / "t.png")


def test_a_map_of_many_runs_shows_six(tmp_path):
    rng = np.random.default_rng(0)
    runs = [f"run{m}" for m in range(9)]
    parts = [
        pd.DataFrame(rng.normal(size=(9, 2)), columns=["x", "y"]).assign(**{"run": r, "class": "a"})
        for r in ("originals", *runs)
    ]
    header = {"classes": ["a"], "runs": runs}
    artifacts.save_table(tmp_path / "p.parquet", pd.concat(parts), header)
    sample_map(tmp_path / "p.parquet", {}, tmp_path / "m.png")
    text = words(tmp_path / "m.png")
    assert sum(run in text for run in runs) == 6 and "run0" in text and "run8" in text
    assert "6 of 9 runs" in text


def test_a_map_shows_ten_classes_and_counts_the_rest(tmp_path):
    rng = np.random.default_rng(0)
    classes, runs = [f"class {i}" for i in range(12)], ["a", "b"]
    parts = [
        pd.DataFrame(rng.normal(size=(n, 2)), columns=["x", "y"]).assign(**{"run": run, "class": c})
        for c in classes
        for run, n in (("originals", 30), ("a", 4), ("b", 4))
    ]
    artifacts.save_table(
        tmp_path / "p.parquet", pd.concat(parts), {"classes": classes, "runs": runs}
    )
    sample_map(tmp_path / "p.parquet", {"a": "Method A", "b": "B"}, tmp_path / "m.png")
    text = words(tmp_path / "m.png")
    assert "Method A" in text
    assert "class 9" in text
    assert "class 10" not in text
    assert "4 samples a class; 2 more classes are measured" in " ".join(text.split())
    whole(tmp_path / "m.png")


def measured(path: Path, runs: list[dict], classes: int = 12, each: int = 4) -> Path:
    """A file of stage `measure`, of random measures."""
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(classes)]
    rows = [
        {"run": row["run"], "class": name, "k": k, "space": space, "diversity": 9 * rng.random(),
         "representativeness": 5 * rng.random()}
        for row in runs for name in names for k in range(each) for space in ("latent", "map")
    ]  # fmt: skip
    of = {"dataset": "d", "ipc": each, "generation_seed": 0}
    artifacts.save_table(path, pd.DataFrame(rows), {"classes": names, "of": of})
    return path


def stop_runs(stops: int) -> list[dict]:
    rows = [
        {"run": f"stop{t}", "label": f"MGD3 (t_SG={t})", "method": "mgd3", "settings": {"t_sg": t}}
        for t in range(0, 5 * stops, 5)
    ]
    return [*rows, {"run": "u", "label": "unguided", "method": "unguided", "settings": {}}]


def test_images_are_normalised_once_over_all_that_is_shown(tmp_path):
    runs = stop_runs(2)
    path = measured(tmp_path / "m.parquet", [*runs, {"run": "another"}])
    table, _ = _by_image(path, runs, "map")
    assert len(table) == 3 * 10 * 4
    held = artifacts.load_table(path)
    shown = {f"class {i}" for i in range(10)}
    rows = [
        r for r in held.to_dict("records")
        if r["space"] == "map" and r["class"] in shown and r["run"] != "another"
    ]  # fmt: skip
    least, most = (f(r["diversity"] for r in rows) for f in (min, max))
    near, far = (f(r["representativeness"] for r in rows) for f in (min, max))
    for row, found in zip(rows, table.to_dict("records"), strict=True):
        assert found["x"] == pytest.approx((row["diversity"] - least) / (most - least))
        assert found["y"] == pytest.approx((far - row["representativeness"]) / (far - near))


@pytest.mark.parametrize(("stops", "shown"), [(2, 3), (11, 6)])
def test_a_panel_a_class_shows_at_most_six_runs_and_says_so(tmp_path, stops, shown):
    runs = stop_runs(stops)
    path = measured(tmp_path / "m.parquet", runs)
    trade_off_images(path, runs, "latent", tmp_path / "t.png")
    text = words(tmp_path / "t.png")
    assert "class 9 (n = 4 each)" in text and "class 10" not in text
    assert "unguided" in text and "MGD3 (t_SG=0)" in text
    assert text.count("MGD3 (t_SG=") == shown - 1
    assert (f"6 of {len(runs)} runs" in text) == (stops > 2)
    assert "d, 4 per class, generation seed 0, latent space" in text
    whole(tmp_path / "t.png")


@pytest.mark.parametrize("stops", [2, 11])
def test_a_panel_a_stop(tmp_path, stops):
    runs = stop_runs(stops)
    path = measured(tmp_path / "m.parquet", runs)
    trade_off_over_stops(path, runs, "map", tmp_path / "t.png")
    text = words(tmp_path / "t.png")
    assert all(f"t_SG = {5 * k} (n = 40)" in text for k in range(stops))
    assert text.count("t_SG = ") == stops
    assert "10 of 12 classes" in text and "unguided" in text
    whole(tmp_path / "t.png")


def test_single_images_have_no_diversity(tmp_path):
    runs = stop_runs(2)
    path = measured(tmp_path / "m.parquet", runs, each=1)
    table, about = artifacts.load_table(path), artifacts.table_metadata(path)
    artifacts.save_table(path, table.assign(diversity=np.nan), about)
    with pytest.raises(UserError, match="a single image of a class has no diversity"):
        trade_off_images(path, runs, "map", tmp_path / "t.png")
