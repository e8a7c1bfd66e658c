"""Mode discovery on the latents of one class: k points that stand for it.

Every algorithm takes x, float32 [n, d] with k <= n, and draws with seeds of the class's name, so
the order of classes changes nothing. scikit-learn does all but k-means, which is FAISS's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from ..base.seeding import Draw, seed_of, torch_generator
from . import DISCOVERIES

# Clustering is part of the method's definition, not of its randomness: one seed for all runs, as
# in the released code.
_SEED = 0
_ITERATIONS = 100
# Up to here all products of two rows are held at once (256 MB), above they are made when needed.
_GRAM_ROWS = 8192
_DBSCAN_CORE = 3
# A component of a mixture that less than this of a row belongs to has none.
_EMPTY = 1e-3
# Latents per prototype in one update of D4M's k-means; its ImageNet script has 1 (and strength
# 0.7), its code's default is 10.
_D4M_EXPAND = 1


@dataclass(frozen=True)
class Found:
    """What an algorithm found.

    Attributes:
        modes: float32 [k, d].
        rows: where modes are rows of x, which, int64 [k]; else None.
        filled: how many modes are real rows only because the algorithm found fewer than k.
    """

    modes: np.ndarray
    rows: np.ndarray | None = None
    filled: int = 0


# x, k, class name, generation seed.
Discovery = Callable[[np.ndarray, int, str, int], Found]


def _rng(purpose: str, name: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(purpose, _SEED, name))


def _state(purpose: str, name: str) -> int:
    """A seed as scikit-learn takes it."""
    return seed_of(purpose, _SEED, name) % 2**32


class _SquaredDistances:
    """Squared Euclidean distances of some rows of x to all of them."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x - x.mean(axis=0)  # smaller products, less cancellation
        self._square = np.einsum("nd,nd->n", self._x, self._x, dtype=np.float64)
        self._products = self._x @ self._x.T if len(x) <= _GRAM_ROWS else None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        held = self._products
        products = self._x[rows] @ self._x.T if held is None else held[rows]
        return np.maximum(self._square[rows, None] - 2.0 * products + self._square, 0)


def greedy_seeds(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007), as k rows of x.

    Four times the usual 2 + ln k candidates are tried for each centre: they cost little once the
    products of all rows are there, and lower the inertia k-means ends at by about 1 %.
    """
    distances = _SquaredDistances(x)
    chosen = [int(rng.integers(len(x)))]
    nearest = distances(np.array(chosen))[0]
    trials = 4 * (2 + int(np.log(k)))
    for _ in range(1, k):
        total = nearest.sum()
        # Fewer distinct points than modes: any row will do.
        weights = nearest / total if total > 0 else None
        candidates = rng.choice(len(x), size=trials, p=weights)
        after = np.minimum(nearest, distances(candidates))
        best = int(after.sum(axis=1).argmin())
        chosen.append(int(candidates[best]))
        nearest = after[best]
    return np.array(chosen)


def centroids(x: np.ndarray, k: int, name: str) -> np.ndarray:
    """k-means by FAISS from greedy seeds, float32 [k, d]."""
    start = x[greedy_seeds(x, k, _rng(Draw.KMEANS, name))]
    kmeans = faiss.Kmeans(
        x.shape[1],
        k,
        niter=_ITERATIONS,
        seed=_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),
        gpu=faiss.get_num_gpus() > 0,
    )
    kmeans.train(x, init_centroids=start)
    return kmeans.centroids


def _kmeans(x: np.ndarray, k: int, name: str, _: int) -> Found:
    return Found(centroids(x, k, name))


def _nearest(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """The real latent nearest to each centroid, no row twice."""
    wide, c = x.astype(np.float64), centroids(x, k, name).astype(np.float64)
    distance = (c**2).sum(1)[:, None] - 2 * c @ wide.T + (wide**2).sum(1)
    rows = np.empty(k, dtype=np.int64)
    for _ in range(k):
        mode, row = np.unravel_index(distance.argmin(), distance.shape)
        rows[mode] = row
        distance[mode], distance[:, row] = np.inf, np.inf
    return Found(x[rows], rows)


def _random(x: np.ndarray, k: int, name: str, generation_seed: int) -> Found:
    """Latents of k random real images, drawn anew for each generation seed: a control."""
    draws = torch_generator(Draw.RANDOM_MODES, generation_seed, name)
    rows = torch.randperm(len(x), generator=draws)[:k].numpy()
    return Found(x[rows], rows)


def _minibatch(x: np.ndarray, k: int, name: str, _: int) -> Found:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, n_init=1, random_state=_state(Draw.MINIBATCH, name)).fit(x)
    return Found(model.cluster_centers_)


def _d4m(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """D4M's prototypes: mini-batch k-means that sees each latent once, in shuffled order.

    As suduo94/D4M has it: one `partial_fit` for each group of km_expand * k latents; what is left
    over at the end is not used. The first group's rows are the first centroids.
    """
    from sklearn.cluster import MiniBatchKMeans

    size = min(_D4M_EXPAND * k, len(x))
    model = MiniBatchKMeans(k, random_state=_SEED, n_init="auto", batch_size=size)
    order = _rng(Draw.D4M, name).permutation(len(x))
    for start in range(0, len(x) - size + 1, size):
        model.partial_fit(x[order[start : start + size]])
    return Found(model.cluster_centers_)


def _divisive(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Bisecting k-means: the cluster of the largest inertia is split until there are k."""
    from sklearn.cluster import BisectingKMeans

    model = BisectingKMeans(k, random_state=_state(Draw.DIVISIVE, name)).fit(x)
    return Found(model.cluster_centers_)


def _gmm(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of a Gaussian mixture with diagonal covariances, begun at the k-means centroids.

    A full covariance of 4,096 dimensions has more numbers than a class of ImageNet has.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        k,
        covariance_type="diag",
        reg_covar=1e-3,
        init_params="random_from_data",
        means_init=centroids(x, k, name),
        random_state=_state(Draw.GMM, name),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    # Of a component that no row belongs to, scikit-learn makes the mean zero: no latent at all.
    return _filled(x, list(model.means_[model.weights_ * len(x) > _EMPTY]), k)


def _spectral(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of the clusters of the graph of 10 nearest neighbours."""
    from sklearn.cluster import SpectralClustering

    if k >= len(x) - 1:  # the graph has too few eigenvectors
        return _means(x, np.arange(len(x)), k)
    model = SpectralClustering(
        k,
        affinity="nearest_neighbors",
        n_neighbors=min(10, len(x)),
        assign_labels="cluster_qr",
        random_state=_state(Draw.SPECTRAL, name),
    )
    with warnings.catch_warnings():
        # A graph in several parts is a clustering, too.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return _means(x, model.fit_predict(x), k)


def _dbscan(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of density clusters.

    eps is chosen per class: of the percentiles of the distance that makes a point a core point
    (to its 2nd neighbour), the one that gives a number of clusters nearest to k, and of several
    the largest, which leaves the least noise. The k largest clusters count.
    """
    from sklearn.cluster import DBSCAN

    distances = np.sqrt(_SquaredDistances(x)(np.arange(len(x))))
    np.fill_diagonal(distances, 0)
    nth = min(_DBSCAN_CORE - 1, len(x) - 1)
    core = np.partition(distances, nth, axis=1)[:, nth]
    best = np.full(len(x), -1)
    for eps in np.unique(np.percentile(core, np.arange(1, 101)))[::-1]:
        model = DBSCAN(eps=max(float(eps), 1e-12), min_samples=_DBSCAN_CORE, metric="precomputed")
        labels = model.fit_predict(distances)
        if abs(labels.max() + 1 - k) < abs(best.max() + 1 - k):
            best = labels
    return _means(x, best, k)


def _means(x: np.ndarray, labels: np.ndarray, k: int) -> Found:
    """Means of the k largest clusters; fewer are filled with the rows farthest from all modes.

    Args:
        labels: int [n], the cluster of each row; -1 for none.
    """
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:k]
    return _filled(x, [x[labels == cluster].mean(axis=0) for cluster in largest], k)


def _filled(x: np.ndarray, modes: list[np.ndarray], k: int) -> Found:
    """Modes, and where they are fewer than k the rows farthest from all of them."""
    filled = k - len(modes)
    if not modes:
        modes.append(x.mean(axis=0))
        filled -= 1
    nearest = np.min([((x - mode) ** 2).sum(axis=1) for mode in modes], axis=0)
    for _ in range(filled):
        row = int(nearest.argmax())
        modes.append(x[row])
        nearest = np.minimum(nearest, ((x - x[row]) ** 2).sum(axis=1))
    return Found(np.stack(modes), filled=filled)


ALGORITHMS: dict[str, Discovery] = {
    "kmeans": _kmeans,
    "nearest": _nearest,
    "random": _random,
    "gmm": _gmm,
    "spectral": _spectral,
    "dbscan": _dbscan,
    "divisive": _divisive,
    "minibatch": _minibatch,
    "d4m": _d4m,
}
assert set(ALGORITHMS) == set(DISCOVERIES)


def find_modes(
    x: np.ndarray, discovery: str, k: int, name: str, generation_seed: int, pca: int | None = None
) -> Found:
    """k modes of a class.

    Args:
        x: latents, float32 [n, d], n >= k.
        discovery: a key of ALGORITHMS.
        name: the class; seeds depend on it.
        pca: cluster in this many principal components of the class. A mode is then the mean of
            the latents that are nearest to a cluster's centre there, so that nothing of a latent
            is lost; with all components it is what it is without PCA.

    Returns:
        Modes in the space of x.
    """
    algorithm = ALGORITHMS[discovery]
    if pca is None:
        return algorithm(x, k, name, generation_seed)
    from sklearn.decomposition import PCA

    reducer = PCA(min(pca, *x.shape), random_state=_SEED)
    reduced = np.ascontiguousarray(reducer.fit_transform(x), dtype=np.float32)
    found = algorithm(reduced, k, name, generation_seed)
    if found.rows is not None:
        return Found(x[found.rows], found.rows)
    centres = found.modes
    distance = (centres**2).sum(1) - 2 * reduced @ centres.T
    nearest = distance.argmin(axis=1)
    modes = reducer.inverse_transform(centres)
    for cluster in np.unique(nearest):
        modes[cluster] = x[nearest == cluster].mean(axis=0)
    return Found(modes.astype(np.float32), filled=found.filled)
