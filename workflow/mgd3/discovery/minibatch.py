"""Mini-batch k-means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


class Settings(DiscoverySettings):
    """Mini-batch k-means."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    from sklearn.cluster import MiniBatchKMeans

    from ..base.seeding import Draw
    from .clustering import Found, state_of

    model = MiniBatchKMeans(k, n_init=1, random_state=state_of(Draw.MINIBATCH, name)).fit(x)
    return Found(model.cluster_centers_)
