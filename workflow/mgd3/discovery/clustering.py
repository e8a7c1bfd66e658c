"""Mode discovery on the latents of one class: k points that stand for it.

Every algorithm takes x, float32 [n, d] with k <= n, and draws with seeds of the class's name, so
the order of classes changes nothing. scikit-learn does all but k-means, which is FAISS's.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from ..base.seeding import Draw, seed_of
from . import algorithm_of

# Clustering is part of the method's definition, not of its randomness: one seed for all runs, as
# in the released code.
SEED = 0
_ITERATIONS = 100
# Up to here all products of two rows are held at once (256 MB), above they are made when needed.
_GRAM_ROWS = 8192


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


def rng_of(purpose: str, name: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(purpose, SEED, name))


def state_of(purpose: str, name: str) -> int:
    """A seed as scikit-learn takes it."""
    return seed_of(purpose, SEED, name) % 2**32


class SquaredDistances:
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
    distances = SquaredDistances(x)
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
    start = x[greedy_seeds(x, k, rng_of(Draw.KMEANS, name))]
    kmeans = faiss.Kmeans(
        x.shape[1],
        k,
        niter=_ITERATIONS,
        seed=SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),
        gpu=faiss.get_num_gpus() > 0,
    )
    kmeans.train(x, init_centroids=start)
    return kmeans.centroids


def means_of(x: np.ndarray, labels: np.ndarray, k: int) -> Found:
    """Means of the k largest clusters; fewer are filled with the rows farthest from all modes.

    Args:
        labels: int [n], the cluster of each row; -1 for none.
    """
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:k]
    return filled_up(x, [x[labels == cluster].mean(axis=0) for cluster in largest], k)


def filled_up(x: np.ndarray, modes: list[np.ndarray], k: int) -> Found:
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


def find_modes(
    x: np.ndarray, discovery: str, k: int, name: str, generation_seed: int, pca: int | None = None
) -> Found:
    """k modes of a class.

    Args:
        x: latents, float32 [n, d], n >= k.
        discovery: a key of `mgd3.discovery.DISCOVERIES`.
        name: the class; seeds depend on it.
        pca: cluster in this many principal components of the class. A mode is then the mean of
            the latents that are nearest to a cluster's centre there, so that nothing of a latent
            is lost; with all components it is what it is without PCA.

    Returns:
        Modes in the space of x.
    """
    algorithm = algorithm_of(discovery)
    if pca is None:
        return algorithm(x, k, name, generation_seed)
    from sklearn.decomposition import PCA

    reducer = PCA(min(pca, *x.shape), random_state=SEED)
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
