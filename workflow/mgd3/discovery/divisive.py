"""Bisecting k-means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


class Settings(DiscoverySettings):
    """Bisecting k-means."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Bisecting k-means: the cluster of the largest inertia is split until there are k."""
    from sklearn.cluster import BisectingKMeans

    from ..base.seeding import Draw
    from .clustering import Found, state_of

    model = BisectingKMeans(k, random_state=state_of(Draw.DIVISIVE, name)).fit(x)
    return Found(model.cluster_centers_)
