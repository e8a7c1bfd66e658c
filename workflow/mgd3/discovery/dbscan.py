"""Means of density clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


_DBSCAN_CORE = 3


class Settings(DiscoverySettings):
    """Means of density clusters."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of density clusters.

    eps is chosen per class: of the percentiles of the distance that makes a point a core point
    (to its 2nd neighbour), the one that gives a number of clusters nearest to k, and of several
    the largest, which leaves the least noise. The k largest clusters count.
    """
    import numpy as np
    from sklearn.cluster import DBSCAN

    from .clustering import SquaredDistances, means_of

    distances = np.sqrt(SquaredDistances(x)(np.arange(len(x))))
    np.fill_diagonal(distances, 0)
    nth = min(_DBSCAN_CORE - 1, len(x) - 1)
    core = np.partition(distances, nth, axis=1)[:, nth]
    best = np.full(len(x), -1)
    for eps in np.unique(np.percentile(core, np.arange(1, 101)))[::-1]:
        model = DBSCAN(eps=max(float(eps), 1e-12), min_samples=_DBSCAN_CORE, metric="precomputed")
        labels = model.fit_predict(distances)
        if abs(labels.max() + 1 - k) < abs(best.max() + 1 - k):
            best = labels
    return means_of(x, best, k)
