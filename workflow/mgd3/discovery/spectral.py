"""Means of spectral clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


class Settings(DiscoverySettings):
    """Means of spectral clusters."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of the clusters of the graph of 10 nearest neighbours."""
    import warnings

    import numpy as np
    from sklearn.cluster import SpectralClustering

    from ..base.seeding import Draw
    from .clustering import means_of, state_of

    if k >= len(x) - 1:  # the graph has too few eigenvectors
        return means_of(x, np.arange(len(x)), k)
    model = SpectralClustering(
        k,
        affinity="nearest_neighbors",
        n_neighbors=min(10, len(x)),
        assign_labels="cluster_qr",
        random_state=state_of(Draw.SPECTRAL, name),
    )
    with warnings.catch_warnings():
        # A graph in several parts is a clustering, too.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return means_of(x, model.fit_predict(x), k)
