"""Measures of a set of samples against real images: functions of arrays.

All take float arrays, samples [k, d] and real images [n, d], in any space: latents, their
two-dimensional map, features of a network. Those that compare whole sets compute in float64, a
block of a matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

# Originals that count for representativeness (paper, section 4.4).
NEAREST = 50
# Images from which on a Frechet distance says more of the images than of their number.
FRECHET_LEAST = 5000
_PERPLEXITY = 30
# Entries of a block of a matrix: 128 MiB in float64.
_BLOCK = 2**24


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


def modes_hit(samples: np.ndarray, modes: np.ndarray) -> float:
    """Fraction of the modes [m, d] that are the nearest mode of some sample."""
    return len(np.unique(cdist(samples, modes).argmin(axis=1))) / len(modes)


def nearest_distance(points: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest original, [k]; exactly 0 for a copy."""
    found = np.empty(len(points), dtype=np.int64)
    for rows, squared in _squared_distances(points, originals):
        found[rows] = squared.argmin(axis=1)
    return np.linalg.norm(np.float64(points) - originals[found], axis=1)


def precision_recall(
    samples: np.ndarray, real: np.ndarray, nearest: int = 3
) -> tuple[float, float]:
    """Kynkaanniemi et al. 2019: the share of one set inside the balls of the other, k = 3 as there.

    A point's ball reaches to its `nearest`-th neighbour in its own set. Precision: samples inside
    the real images' balls; recall: real images inside the samples'. NaN where a set has no more
    than `nearest` points; recall is small by nature where there are few samples.
    """

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        if len(centres) <= nearest:
            return float("nan")
        radii = _squared_radii(centres, nearest)
        blocks = _squared_distances(points, centres)
        return sum(int((held <= radii).any(axis=1).sum()) for _, held in blocks) / len(points)

    return inside(samples, real), inside(real, samples)


def coverage(samples: np.ndarray, real: np.ndarray, nearest: int = 5) -> float:
    """Naeem et al. 2020: the share of real images with a sample inside their ball, k = 5 as there.

    A real image's ball reaches to its `nearest`-th neighbour among the real ones. NaN where there
    are no more than `nearest`; small by nature where there are few samples.
    """
    if len(real) <= nearest:
        return float("nan")
    radii = _squared_radii(real, nearest)
    blocks = _squared_distances(real, samples)
    return sum(int((held.min(axis=1) <= radii[rows]).sum()) for rows, held in blocks) / len(real)


def kid(samples: np.ndarray, real: np.ndarray) -> float:
    """Kernel distance of two sets of features (Binkowski et al. 2018, the formula of KID).

    The unbiased estimate of the squared maximum mean discrepancy with the kernel
    (x.y / d + 1)^3, of all pairs at once instead of a mean over subsets. Its mean does not depend
    on the number of images, and it is below 0 now and then where the sets are of one distribution.
    NaN where a set has a single point.
    """
    x, y = np.float64(samples), np.float64(real)
    if min(len(x), len(y)) < 2:
        return float("nan")

    def total(a: np.ndarray, b: np.ndarray) -> float:
        return sum(((a[rows] @ b.T / a.shape[1] + 1) ** 3).sum() for rows in _blocks(a, b))

    def within(a: np.ndarray) -> float:
        own = (((a**2).sum(axis=1) / a.shape[1] + 1) ** 3).sum()
        return (total(a, a) - own) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y)))


def _blocks(a: np.ndarray, b: np.ndarray) -> list[slice]:
    """Rows of a, cut so that a block of the matrix between the two is small enough."""
    rows = max(1, _BLOCK // len(b))
    return [slice(start, min(start + rows, len(a))) for start in range(0, len(a), rows)]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of a's rows to all of b's: the rows, and their block, float64.

    By the matrix product, which is much faster than differences. It loses digits where both lie far
    from the origin, so b's mean is moved there.
    """
    centre = b.mean(axis=0, dtype=np.float64)
    a, b = a - centre, b - centre
    norms = (b**2).sum(axis=1)
    for rows in _blocks(a, b):
        squared = a[rows] @ (-2 * b.T)
        squared += norms
        squared += (a[rows] ** 2).sum(axis=1)[:, None]
        yield rows, np.maximum(squared, 0, out=squared)


def _squared_radii(points: np.ndarray, nearest: int) -> np.ndarray:
    """Squared distance of each point to its `nearest`-th neighbour among the others, [n]."""
    radii = np.empty(len(points))
    for rows, squared in _squared_distances(points, points):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(squared, nearest - 1, axis=1)[:, nearest - 1]
    return radii


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
    distance: compare equal numbers of samples only, and `FRECHET_LEAST` at least. It is the FID
    for the features of one Inception network alone.
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
