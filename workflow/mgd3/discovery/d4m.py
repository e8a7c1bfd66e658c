"""D4M's prototypes: mini-batch k-means in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


# Latents per prototype in one update of D4M's k-means; its ImageNet script has 1 (and strength
# 0.7), its code's default is 10.
_D4M_EXPAND = 1


class Settings(DiscoverySettings):
    """D4M's prototypes: mini-batch k-means in its order."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """D4M's prototypes: mini-batch k-means that sees each latent once, in shuffled order.

    As suduo94/D4M has it: one `partial_fit` for each group of km_expand * k latents; what is left
    over at the end is not used. The first group's rows are the first centroids.
    """
    from sklearn.cluster import MiniBatchKMeans

    from ..base.seeding import Draw
    from .clustering import SEED, Found, rng_of

    size = min(_D4M_EXPAND * k, len(x))
    model = MiniBatchKMeans(k, random_state=SEED, n_init="auto", batch_size=size)
    order = rng_of(Draw.D4M, name).permutation(len(x))
    for start in range(0, len(x) - size + 1, size):
        model.partial_fit(x[order[start : start + size]])
    return Found(model.cluster_centers_)
