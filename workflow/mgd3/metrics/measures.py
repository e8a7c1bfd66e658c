"""Measures of a set of samples against the originals of their class: functions of arrays.

All take float arrays, samples [k, d] and originals [n, d], in any space: latents, or their
two-dimensional map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

# Originals that count for representativeness (paper, section 4.4).
NEAREST = 50
_PERPLEXITY = 30


def diversity(samples: np.ndarray) -> np.ndarray:
    """Distance of each sample to the nearest other one, [k]; NaN for a single sample."""
    if len(samples) < 2:
        return np.full(len(samples), np.nan)
    distance = cdist(samples, samples)
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1)


def representativeness(
    samples: np.ndarray, originals: np.ndarray, nearest: int = NEAREST
) -> np.ndarray:
    """Mean distance of each sample to its `nearest` nearest originals, [k]; smaller is better.

    A class with fewer originals uses all of them.
    """
    distance = cdist(samples, originals)
    count = min(nearest, distance.shape[1])
    return np.partition(distance, count - 1, axis=1)[:, :count].mean(axis=1)


def memorisation(samples: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Distance of each sample to the nearest original, over that between originals, [k].

    The divisor is the median distance of an original to its nearest other one. A real image of
    the class scores 0; well below 1 means a sample is closer to a training image than training
    images are to each other.
    """
    usual = np.median(diversity(originals))
    with np.errstate(divide="ignore", invalid="ignore"):
        return cdist(samples, originals).min(axis=1) / usual


def coverage(samples: np.ndarray, modes: np.ndarray) -> float:
    """Fraction of the modes [m, d] that are the nearest mode of some sample."""
    return len(np.unique(cdist(samples, modes).argmin(axis=1))) / len(modes)


def precision_recall(
    samples: np.ndarray, originals: np.ndarray, nearest: int = 3
) -> tuple[float, float]:
    """Kynkaanniemi et al. 2019: the share of one set inside the balls of the other.

    A point's ball reaches to its `nearest`-th neighbour in its own set. Precision: samples inside
    the originals' balls; recall: originals inside the samples'. NaN where a set has no more than
    `nearest` points; recall is small by nature where there are few samples.
    """

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        if len(centres) <= nearest:
            return float("nan")
        radius = np.partition(cdist(centres, centres), nearest, axis=1)[:, nearest]
        return float((cdist(points, centres) <= radius).any(axis=1).mean())

    return inside(samples, originals), inside(originals, samples)


@dataclass(frozen=True)
class Gaussian:
    """Fitted to features. `mean` is [d], `root` [r, d]: root.T @ root is the covariance."""

    mean: np.ndarray
    root: np.ndarray


def gaussian(parts: Iterable[np.ndarray]) -> Gaussian:
    """The Gaussian of features that come in parts [n, d]: float64, covariance over n - 1.

    One pass, and no covariance is formed: a part's centred rows, and the row by which its mean
    departs from the mean so far, are folded into a triangular factor (Chan et al. 1983).
    """
    count, mean, factor = 0, np.zeros(1), np.zeros((0, 1))
    for part in parts:
        x, n = np.asarray(part, dtype=np.float64), len(part)
        own = x.mean(axis=0)
        rows = [factor, x - own, np.sqrt(count * n / (count + n)) * (own - mean)[None]]
        factor = np.linalg.qr(np.concatenate(rows if count else rows[1:2]), mode="r")
        count, mean = count + n, (count * mean + n * own) / (count + n)
    return Gaussian(mean, factor / np.sqrt(max(count - 1, 1)))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Frechet distance of two Gaussians of features (Heusel et al. 2017, the formula of FID).

    One fitted to few samples has a covariance that is too small and too thin, which raises the
    distance: compare equal numbers of samples only.
    """
    # The trace of the square root of two covariances' product is the nuclear norm of the product
    # of their roots: no matrix root, and no imaginary rounding errors.
    shared = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    spread = (a.root**2).sum() + (b.root**2).sum()
    return float(((a.mean - b.mean) ** 2).sum() + spread - 2 * shared)


def shared_map(
    originals: np.ndarray, samples: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One t-SNE of a class's originals and of all methods' samples together.

    Distances in separate maps cannot be compared. Settings as in the paper's figures: 2-D,
    learning rate auto, perplexity 30 (less where there are too few points), seed 42.

    Returns:
        Coordinates of the originals [n, 2], and of each method's samples [k, 2].
    """
    from sklearn.manifold import TSNE

    everything = np.concatenate([originals, *samples.values()])
    perplexity = min(_PERPLEXITY, (len(everything) - 1) / 3)
    points = TSNE(learning_rate="auto", random_state=42, perplexity=perplexity).fit_transform(
        everything
    )
    ends = np.cumsum([len(originals), *map(len, samples.values())])
    parts = np.split(points, ends[:-1])
    return parts[0], dict(zip(samples, parts[1:], strict=True))
