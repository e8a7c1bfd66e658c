"""Means of a Gaussian mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import DiscoverySettings

if TYPE_CHECKING:
    import numpy as np

    from .clustering import Found


# A component of a mixture that less than this of a row belongs to has none.
_EMPTY = 1e-3


class Settings(DiscoverySettings):
    """Means of a Gaussian mixture."""


def discover(x: np.ndarray, k: int, name: str, _: int) -> Found:
    """Means of a Gaussian mixture with diagonal covariances, begun at the k-means centroids.

    A full covariance of 4,096 dimensions has more numbers than a class of ImageNet has.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    from ..base.seeding import Draw
    from .clustering import centroids, filled_up, state_of

    model = GaussianMixture(
        k,
        covariance_type="diag",
        reg_covar=1e-3,
        init_params="random_from_data",
        means_init=centroids(x, k, name),
        random_state=state_of(Draw.GMM, name),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    # Of a component that no row belongs to, scikit-learn makes the mean zero: no latent at all.
    return filled_up(x, list(model.means_[model.weights_ * len(x) > _EMPTY]), k)
