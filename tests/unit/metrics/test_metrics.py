"""Measures of distilled sets against plain loops and known cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import sqrtm

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.metrics import IN_LATENTS, OF_IMAGES, OF_SETS, measures
from mgd3.metrics.stage import measure
from mgd3.metrics.summary import by_class, summarise


def some(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_diversity_is_the_distance_to_the_nearest_other_sample():
    x = some(7)
    plain = [min(np.linalg.norm(x[i] - x[j]) for j in range(7) if j != i) for i in range(7)]
    np.testing.assert_allclose(measures.diversity(x), plain)
    assert np.isnan(measures.diversity(x[:1])).all()


@pytest.mark.parametrize("originals", [80, 20])
def test_representativeness_is_the_mean_distance_to_the_50_nearest_or_to_all(originals):
    x, real = some(5), some(originals, seed=1)
    plain = [np.sort(np.linalg.norm(real - row, axis=1))[:50].mean() for row in x]
    np.testing.assert_allclose(measures.representativeness(x, real), plain)


def test_a_copied_training_image_scores_no_distance_and_a_typical_one_about_1():
    real = some(200, seed=1)
    assert measures.memorisation(real[:3], real).tolist() == [0, 0, 0]
    fresh = some(200, seed=2)
    assert abs(np.median(measures.memorisation(fresh, real)) - 1) < 0.15


def test_modes_hit_are_those_that_samples_are_nearest_to():
    modes = 10 * np.eye(4)
    assert measures.modes_hit(modes + 0.1, modes) == 1
    assert measures.modes_hit(np.repeat(modes[:1], 4, axis=0), modes) == 0.25


def test_precision_falls_for_samples_outside_and_recall_for_samples_on_one_spot():
    real = some(300, d=2)
    same = measures.precision_recall(some(300, d=2, seed=1), real)
    assert min(same) > 0.8
    outside = measures.precision_recall(some(300, d=2, seed=1) + 20, real)
    assert outside == (0, 0)
    narrow = measures.precision_recall(0.05 * some(300, d=2, seed=1), real)
    assert narrow[0] > 0.95
    assert narrow[1] < 0.3
    assert np.isnan(measures.precision_recall(real[:3], real)[1])


def test_coverage_falls_for_samples_on_one_spot_and_does_not_reward_outliers():
    real = some(300, d=2)
    assert measures.coverage(some(300, d=2, seed=1), real) > 0.9
    assert measures.coverage(some(300, d=2, seed=1) + 20, real) == 0
    assert measures.coverage(0.05 * some(300, d=2, seed=1), real) < 0.3
    # Few samples far apart have large balls, which recall takes for coverage.
    few = 10 * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert measures.precision_recall(few, real)[1] > 0.9
    assert measures.coverage(few, real) == 0
    assert np.isnan(measures.coverage(real, real[:5]))


@pytest.fixture
def small_blocks(monkeypatch):
    """Matrices come in blocks of a few rows, the last one smaller."""
    monkeypatch.setattr(measures, "_BLOCK", 100)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).sum()))


@pytest.mark.parametrize("seed", range(3))
def test_memorisation_modes_hit_precision_recall_and_coverage_are_those_of_plain_loops(
    seed, small_blocks
):
    x, real, modes = some(9, 3, seed), some(40, 3, seed + 10), some(6, 3, seed + 20)
    usual = np.median(
        [min(distance(a, b) for j, b in enumerate(real) if j != i) for i, a in enumerate(real)]
    )
    copied = [min(distance(a, b) for b in real) / usual for a in x]
    np.testing.assert_allclose(measures.memorisation(x, real), copied)

    hit = {min(range(6), key=lambda m, a=a: distance(a, modes[m])) for a in x}
    assert measures.modes_hit(x, modes) == len(hit) / 6

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        count = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = sorted(distance(centre, c) for j, c in enumerate(centres) if j != i)
                if distance(point, centre) <= others[2]:
                    count += 1
                    break
        return count / len(points)

    found = measures.precision_recall(x, real)
    assert found == pytest.approx((inside(x, real), inside(real, x)))
    assert 0 < found[0] < 1 or 0 < found[1] < 1

    def radius(i: int) -> float:
        return sorted(distance(real[i], b) for j, b in enumerate(real) if j != i)[4]

    held = [min(distance(a, b) for a in x) <= radius(i) for i, b in enumerate(real)]
    assert measures.coverage(x, real) == sum(held) / 40
    assert 0 < sum(held) < 40

    nearest = [min(distance(a, b) for b in real) for a in x]
    np.testing.assert_allclose(measures.nearest_distance(x, real), nearest)
    # Far from the origin, where the matrix product alone would lose the digits; a copy is a copy.
    far = np.float32(real + 3e4)
    assert measures.nearest_distance(far[:4], far).tolist() == [0] * 4


@pytest.mark.parametrize("seed", range(3))
def test_kid_is_that_of_plain_loops(seed, small_blocks):
    x, y = some(7, 4, seed), some(11, 4, seed + 10) + 0.3

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 4 + 1) ** 3

    def within(points: np.ndarray) -> float:
        n = len(points)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / (n * (n - 1))

    between = sum(kernel(a, b) for a in x for b in y) / (7 * 11)
    plain = within(x) + within(y) - 2 * between
    assert measures.kid(x, y) == pytest.approx(plain, rel=1e-12)
    assert measures.kid(np.float32(x), np.float32(y)) == pytest.approx(plain, rel=1e-5)
    assert np.isnan(measures.kid(x[:1], y))


def test_kid_is_unbiased_at_any_number_of_images():
    """Where the Frechet distance of two draws of one distribution is mostly bias."""
    kids, frechets = [], []
    for seed in range(200):
        x, y = some(10, 8, seed), some(40, 8, seed + 1000)
        kids.append(measures.kid(x, y))
        frechets.append(measures.frechet_distance(measures.gaussian([x]), measures.gaussian([y])))
    error = np.std(kids) / np.sqrt(len(kids))
    assert abs(np.mean(kids)) < 3 * error
    assert min(kids) < 0
    assert np.mean(frechets) > 2
    assert np.mean([measures.kid(some(10, 8, s) + 1, some(40, 8, s + 99)) for s in range(20)]) > 1


@pytest.mark.parametrize("n", [4, 60])
@pytest.mark.parametrize("parts", [[60], [1, 30, 29], [7] * 8 + [4]])
def test_frechet_distance_is_the_textbook_formula_however_features_are_cut(n, parts):
    a, b = some(60), 1.5 * some(n, seed=1) + 0.3
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    plain = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    one, other = measures.gaussian(np.split(a, np.cumsum(parts)[:-1])), measures.gaussian([b])
    np.testing.assert_allclose(one.mean, a.mean(0))
    np.testing.assert_allclose(one.root.T @ one.root, np.cov(a.T), atol=1e-12)
    assert measures.frechet_distance(one, other) == pytest.approx(plain, rel=1e-6, abs=1e-5)
    assert measures.frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_the_map_is_one_for_all_methods_and_the_same_twice():
    real = some(40)
    real[20:] += 30
    samples = {"a": some(4, seed=1), "b": some(4, seed=2) + 30}
    one, of_methods = measures.shared_map(real, samples)
    assert one.shape == (40, 2)
    assert {name: xy.shape for name, xy in of_methods.items()} == {"a": (4, 2), "b": (4, 2)}
    near = {name: np.linalg.norm(one - xy.mean(0), axis=1) for name, xy in of_methods.items()}
    assert near["a"][:20].mean() < near["a"][20:].mean()
    assert near["b"][20:].mean() < near["b"][:20].mean()
    np.testing.assert_array_equal(one, measures.shared_map(real, samples)[0])


NAMES = ["x", "y"]


def write_originals(folder: Path) -> tuple[Path, Path]:
    """Latents of 60 training images a class and of 5 that are for validation, and the index."""
    tensors = {
        f"mean/{n}": torch.tensor(np.concatenate([some(60, 8, i), 99 + some(5, 8, i)])).float()
        for i, n in enumerate(NAMES)
    }
    keys = {n: [f"{n}/{k:02d}" for k in range(65)] for n in NAMES}
    rows = [
        (n, "train" if k < 60 else "validation", key)
        for n in NAMES
        for k, key in enumerate(keys[n])
    ]
    latents, index = folder / "latents.safetensors", folder / "index.parquet"
    metadata = {"classes": NAMES, "images": keys, "undecodable": dict.fromkeys(NAMES, ())}
    tensors = {key: value.reshape(-1, 2, 2, 2) for key, value in tensors.items()}
    artifacts.save_tensors(latents, tensors, metadata)
    table = pd.DataFrame(rows, columns=["class", "split", "image"])
    artifacts.save_table(index, table, {"classes": NAMES})
    return latents, index


def written(folder: Path, runs: dict[str, float], seed: int = 0, names=tuple(NAMES)) -> Path:
    """Measures of methods that are the originals' distribution, widened."""
    latents, index = write_originals(folder)
    samples = {}
    for run, width in runs.items():
        held = {n: width * torch.tensor(some(5, 8, 9 + seed)).float() for n in names}
        held = {n: x.reshape(-1, 2, 2, 2) for n, x in held.items()}
        samples[run] = folder / f"{run}.safetensors"
        artifacts.save_tensors(samples[run], held, {"classes": list(names)})
    output = folder / f"samples{seed}.parquet"
    of = {"dataset": "d", "ipc": 5, "generation_seed": seed}
    why = dict.fromkeys(runs, "no network")
    measure([latents], index, samples, of, output, folder / "points.parquet", not_judged=why)
    return output


def test_every_sample_is_measured_in_both_spaces_and_mapped(tmp_path):
    table = artifacts.load_table(written(tmp_path, {"narrow": 0.1, "wide": 3.0}))
    assert len(table) == 2 * 2 * 3 * 5
    of_features = [*OF_SETS, *OF_IMAGES]
    in_latents = table[table.space != "features"]
    assert in_latents.drop(columns=of_features).notna().all().all()
    assert in_latents[of_features].isna().all().all()
    assert table[table.space == "features"][[*IN_LATENTS, *of_features]].isna().all().all()
    means = table[table.space == "latent"].groupby("run")[["diversity", "representativeness"]]
    assert (means.mean().loc["wide"] > means.mean().loc["narrow"]).all()
    points = artifacts.load_table(tmp_path / "points.parquet")
    assert points.groupby("run").size().to_dict() == {"originals": 120, "narrow": 10, "wide": 10}


def test_normalisation_is_one_min_max_over_methods_and_classes(tmp_path):
    table = by_class(artifacts.load_table(written(tmp_path, {"narrow": 0.1, "wide": 3.0})))
    for space, here in table[table.space != "features"].groupby("space"):
        assert here.diversity_01.min() == 0, space
        assert here.diversity_01.max() == 1
        assert here.loc[here.diversity.idxmax(), "diversity_01"] == 1
        assert here.loc[here.representativeness.idxmin(), "representativeness_01"] == 1


def test_the_table_is_of_all_generation_seeds(tmp_path):
    runs = {"narrow": 0.1, "wide": 3.0}
    files = [written(tmp_path, runs, seed) for seed in (0, 1)]
    summarise(
        files, [{"run": run, "label": f"The {run}"} for run in runs], tmp_path / "metrics.csv"
    )
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["n"].tolist() == [2] * 6
    assert set(table["method"]) == {"The narrow", "The wide"}
    of_seeds = pd.read_csv(tmp_path / "metrics_classes.csv").query("run == 'wide'")
    of_seeds = of_seeds[of_seeds.space == "latent"].groupby("generation_seed").diversity.mean()
    row = table[(table.run == "wide") & (table.space == "latent")].iloc[0]
    assert row.diversity == pytest.approx(of_seeds.mean())
    assert row.diversity_std == pytest.approx(of_seeds.std(ddof=0))
    text = (tmp_path / "metrics.md").read_text()
    assert text.count("| The wide | 2 |") == 3
    assert "| modes hit |" in text and "* n/a for The narrow, The wide: no network." in text


def test_only_training_images_are_originals(tmp_path):
    table = artifacts.load_table(written(tmp_path, {"wide": 1.0}))
    assert (table.originals == 60).all()
    assert (table[table.space == "latent"].representativeness < 20).all(), "the others are at 99"


def test_a_class_that_a_set_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match="distilled set of a has no class 'y'"):
        written(tmp_path, {"a": 1.0}, names=("x",))


def test_a_run_is_judged_or_says_why_not(tmp_path):
    latents, index = write_originals(tmp_path)
    of = {"dataset": "d", "ipc": 5, "generation_seed": 0}
    with pytest.raises(UserError, match="a is to be either judged"):
        measure([latents], index, {"a": tmp_path / "a"}, of, tmp_path / "o", tmp_path / "p")
