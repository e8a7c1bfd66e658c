"""Mode discovery: as good as scikit-learn's k-means, real rows where promised, keyed by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.discovery import DISCOVERIES
from mgd3.discovery.clustering import find_modes
from mgd3.discovery.modes import discover

SHAPE = (4, 2, 2)


def write_latents(path: Path, latents: dict[str, torch.Tensor]) -> Path:
    images = {name: [f"{name}/{i}" for i in range(len(x))] for name, x in latents.items()}
    tensors = {f"mean/{name}": x for name, x in latents.items()}
    undecodable = dict.fromkeys(latents, ())
    metadata = {"classes": [*latents], "images": images, "undecodable": undecodable}
    artifacts.save_tensors(path, tensors, metadata)
    return path


def write_index(path: Path, latents: dict[str, torch.Tensor]) -> Path:
    rows = [(name, "train", f"{name}/{i}") for name, x in latents.items() for i in range(len(x))]
    table = pd.DataFrame(rows, columns=["class", "split", "image"])
    artifacts.save_table(path, table, {"classes": [*latents]})
    return path


def some_latents(n: int = 30, names: str = "abc") -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn((n, *SHAPE), generator=draws) for name in names}


def found(folder: Path, latents, discovery: str, ipc: int = 5, seed: int = 0):
    output = folder / "modes.safetensors"
    files = [write_latents(folder / "latents", latents)]
    discover(files, write_index(folder / "index", latents), discovery, ipc, seed, output)
    return artifacts.load_tensors(output), artifacts.tensor_metadata(output)


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    return float(((x[:, None] - centres[None]) ** 2).sum(-1).min(1).sum())


def points(what: str) -> np.ndarray:
    if what == "blobs":
        x, _ = make_blobs(600, n_features=16, centers=10, cluster_std=0.7, random_state=0)
    else:
        images, labels = load_digits(return_X_y=True)
        x = images[labels == int(what[-1])]
    return x.astype(np.float32)


@pytest.mark.parametrize("what", ["blobs", "digit 3", "digit 8"])
def test_kmeans_is_as_good_as_scikit_learns(what):
    """Over several seeds; at the full size tests/benchmarks/bench_kmeans.py compares them."""
    x, k = points(what), 10 if what == "blobs" else 20
    results = [find_modes(x, "kmeans", k, name, 0) for name in "abcdefg"]
    assert all(result.rows is None for result in results)
    ours = np.median([inertia(x, result.modes) for result in results])
    theirs = np.median([KMeans(k, n_init=1, random_state=s).fit(x).inertia_ for s in range(7)])
    assert ours <= 1.002 * theirs


@pytest.mark.parametrize("discovery", ["nearest", "random"])
def test_modes_that_are_real_images_are_rows_and_distinct(tmp_path, discovery):
    latents = some_latents()
    modes, metadata = found(tmp_path, latents, discovery)
    for name, x in latents.items():
        rows = [int(image.split("/")[1]) for image in metadata["images"][name]]
        assert len(set(rows)) == 5
        assert torch.equal(modes[name], x[rows])


def test_nearest_is_the_nearest_row_to_each_centroid():
    x = points("digit 3")
    centres = find_modes(x, "kmeans", 5, "a", 0).modes
    rows = find_modes(x, "nearest", 5, "a", 0).rows
    expected = ((x[:, None].astype(np.float64) - centres[None]) ** 2).sum(-1).argmin(0)
    assert len(set(expected)) == 5, "no two centroids here share their nearest row"
    assert rows.tolist() == expected.tolist()


def test_as_many_modes_as_images_are_all_the_images(tmp_path):
    latents = some_latents(5)
    modes, _ = found(tmp_path, latents, "nearest")
    for name, x in latents.items():
        assert sorted(modes[name].flatten(1).tolist()) == sorted(x.flatten(1).tolist())


@pytest.mark.parametrize("discovery", ["kmeans", "nearest"])
def test_equal_images_are_no_obstacle(tmp_path, discovery):
    modes, _ = found(tmp_path, {"a": torch.ones(6, *SHAPE)}, discovery)
    # faiss moves a copy of a full cluster's centre by 1/1024 to fill an empty one.
    torch.testing.assert_close(modes["a"], torch.ones(5, *SHAPE), rtol=0, atol=0.01)


@pytest.mark.parametrize("discovery", list(DISCOVERIES))
def test_only_random_modes_depend_on_the_generation_seed(tmp_path, discovery):
    first, _ = found(tmp_path, some_latents(), discovery, seed=0)
    again, _ = found(tmp_path, some_latents(), discovery, seed=0)
    other, _ = found(tmp_path, some_latents(), discovery, seed=1)
    for name in first:
        assert torch.equal(first[name], again[name])
        assert torch.equal(first[name], other[name]) == (discovery != "random")


@pytest.mark.parametrize("discovery", list(DISCOVERIES))
def test_permuting_the_classes_permutes_the_output_and_nothing_else(tmp_path, discovery):
    latents = some_latents()
    one, about_one = found(tmp_path, latents, discovery)
    two, about_two = found(tmp_path, {n: latents[n] for n in "cab"}, discovery)
    assert about_two["classes"] == ["c", "a", "b"]
    assert about_one["images"] == about_two["images"]
    for name in latents:
        assert torch.equal(one[name], two[name])


def test_how_the_classes_are_spread_over_files_changes_nothing(tmp_path):
    latents = some_latents()
    one, _ = found(tmp_path, latents, "kmeans")
    files = [write_latents(tmp_path / name, {name: x}) for name, x in latents.items()]
    discover(files, tmp_path / "index", "kmeans", 5, 0, tmp_path / "out")
    two = artifacts.load_tensors(tmp_path / "out")
    assert all(torch.equal(one[name], two[name]) for name in latents)


def test_fewer_images_than_modes_names_the_class(tmp_path):
    latents = some_latents() | {"few": torch.zeros(4, *SHAPE)}
    with pytest.raises(UserError, match="'few' has 4 training images, fewer than ipc = 5"):
        found(tmp_path, latents, "kmeans")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_name_the_class(tmp_path, value):
    latents = some_latents()
    latents["b"][3, 0, 0, 0] = value
    with pytest.raises(UserError, match="class 'b'"):
        found(tmp_path, latents, "kmeans")


@pytest.mark.parametrize("discovery", list(DISCOVERIES))
def test_every_algorithm_finds_well_separated_clusters(discovery):
    centres = 40 * np.eye(6, 24, dtype=np.float32)
    rng = np.random.default_rng(0)
    x = (centres[np.arange(240) % 6] + rng.normal(size=(240, 24))).astype(np.float32)
    result = find_modes(x, discovery, 6, "a", 0)
    assert result.modes.shape == (6, 24)
    if discovery in ("random", "d4m"):  # D4M's begins at k random latents; see test_d4m.py
        return
    distance = np.linalg.norm(centres[:, None] - result.modes[None], axis=-1)
    assert sorted(distance.argmin(1)) == list(range(6)), "one mode in each cluster"
    # A mean of 40 is within 24 ** .5 / 40 ** .5 = 0.8 of the truth, a real image within 5.
    assert distance.min(1).max() < (7 if discovery == "nearest" else 1.6)
    assert result.filled == 0


@pytest.mark.parametrize("discovery", list(DISCOVERIES))
@pytest.mark.parametrize("n", [5, 6, 40])
def test_every_algorithm_gives_k_finite_modes_whatever_the_latents_are(tmp_path, discovery, n):
    for latents in (some_latents(n, "a"), {"a": torch.ones(n, *SHAPE)}):
        modes, _ = found(tmp_path, latents, discovery)
        assert modes["a"].shape == (5, *SHAPE)
        assert modes["a"].dtype == torch.float32
        assert torch.isfinite(modes["a"]).all()


def test_dbscan_says_how_many_modes_it_had_to_fill(tmp_path, capsys):
    # Two dense clusters and a few far points: no eps makes five clusters of three or more.
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, 16)) * 0.01, 5 + rng.normal(size=(20, 16)) * 0.01])
    far = 100.0 * np.eye(4, 16)
    x = torch.from_numpy(np.concatenate([x, far]).astype(np.float32)).reshape(-1, *SHAPE)
    modes, metadata = found(tmp_path, {"a": x}, "dbscan")
    filled = metadata["filled"]["a"]
    assert 1 <= filled <= 3
    assert f"{filled} of 5 modes are the real latents farthest from the others" in (
        capsys.readouterr().err
    )
    real = [any(torch.equal(mode, row) for row in x) for mode in modes["a"]]
    assert sum(real) == filled


def test_pca_with_all_components_changes_nothing():
    x = points("digit 3")
    plain = find_modes(x, "kmeans", 5, "a", 0).modes
    reduced = find_modes(x, "kmeans", 5, "a", 0, pca=10_000).modes
    np.testing.assert_allclose(plain, reduced, atol=1e-3)


def test_modes_found_with_few_components_are_means_of_whole_latents():
    # The clusters lie along the first axis; what a few components drop must be in the modes.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 24)).astype(np.float32)
    x[:, 0] += 60 * (np.arange(300) % 3)
    result = find_modes(x, "kmeans", 3, "a", 0, pca=1).modes
    means = np.stack([x[np.arange(300) % 3 == cluster].mean(0) for cluster in range(3)])
    np.testing.assert_allclose(result[result[:, 0].argsort()], means, atol=1e-4)
    real = find_modes(x, "nearest", 3, "a", 0, pca=1)
    np.testing.assert_array_equal(real.modes, x[real.rows])


def test_seeding_needs_no_products_of_all_rows(monkeypatch):
    from mgd3.discovery import clustering

    x = points("digit 3")
    held = clustering.greedy_seeds(x, 8, np.random.default_rng(0))
    monkeypatch.setattr(clustering, "_GRAM_ROWS", 1)
    assert clustering.greedy_seeds(x, 8, np.random.default_rng(0)).tolist() == held.tolist()


def test_mirrored_images_are_clustered_with_the_others(tmp_path):
    """Three images a class and their mirror images: all six are modes, each from where it is."""
    latents = some_latents(3, "ab")
    mirrored = {name: x.flip(-1) + 7 for name, x in latents.items()}
    files = [write_latents(tmp_path / "plain", latents)]
    turned = [write_latents(tmp_path / "turned", mirrored)]
    index, output = write_index(tmp_path / "index", latents), tmp_path / "modes"
    discover(files, index, "nearest", 3, 0, output, mirrored_files=turned)
    modes, about = artifacts.load_tensors(output), artifacts.tensor_metadata(output)
    seen = set()
    for name in "ab":
        for k, (mode, key) in enumerate(zip(modes[name], about["images"][name], strict=True)):
            row = int(key.split("/")[1])
            side = (mirrored if k in about["mirrored"][name] else latents)[name]
            assert torch.equal(mode, side[row])
            seen.add(k in about["mirrored"][name])
    assert seen == {True, False}
    # A mirror image is no image of its own.
    with pytest.raises(UserError, match="'a' has 3 training images, fewer than ipc = 4"):
        discover(files, index, "kmeans", 4, 0, output, mirrored_files=turned)


def test_modes_with_flips_are_those_of_all_latents_together(tmp_path):
    latents = some_latents(12, "a")
    mirrored = {name: x.flip(-1) for name, x in latents.items()}
    files = [write_latents(tmp_path / "plain", latents)]
    turned = [write_latents(tmp_path / "turned", mirrored)]
    index = write_index(tmp_path / "index", latents)
    discover(files, index, "kmeans", 4, 0, tmp_path / "modes", mirrored_files=turned)
    both = torch.cat([latents["a"], mirrored["a"]]).flatten(1).numpy()
    expected = find_modes(both, "kmeans", 4, "a", 0).modes
    found = artifacts.load_tensors(tmp_path / "modes")["a"]
    np.testing.assert_array_equal(found.flatten(1).numpy(), expected)


@pytest.mark.parametrize("discovery", list(DISCOVERIES))
def test_a_cluster_that_nothing_belongs_to_is_no_mode(discovery):
    """Fewer distinct latents than modes, far from zero: every mode lies among them."""
    draws = np.random.default_rng(0)
    x = (50 + draws.normal(size=(3, 16))).astype(np.float32)[np.arange(24) % 3]
    found = find_modes(x, discovery, 6, "a", 0)
    assert found.modes.shape == (6, 16)
    assert np.isfinite(found.modes).all()
    near = x / 100  # FAISS moves copies of a centroid by a share of 1/1024 or some of them
    assert (found.modes >= (x - near).min(axis=0)).all()
    assert (found.modes <= (x + near).max(axis=0)).all()


def test_an_empty_component_of_a_mixture_is_filled_and_counted():
    draws = np.random.default_rng(0)
    x = (50 + draws.normal(size=(3, 16))).astype(np.float32)[np.arange(24) % 3]
    assert find_modes(x, "gmm", 6, "a", 0).filled > 0
    spread = draws.normal(size=(40, 16)).astype(np.float32)
    assert find_modes(spread, "gmm", 6, "a", 0).filled == 0
