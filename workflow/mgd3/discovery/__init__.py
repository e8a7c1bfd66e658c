"""From latents to modes: one function an algorithm, one registry. Importable without torch."""

from __future__ import annotations

# Mode discovery algorithms: mgd3.discovery.clustering.ALGORITHMS; the value says whether the
# generation seed enters.
DISCOVERIES: dict[str, bool] = {
    "kmeans": False,
    "nearest": False,
    "random": True,
    "gmm": False,
    "spectral": False,
    "dbscan": False,
    "divisive": False,
    "minibatch": False,
    "d4m": False,
}
