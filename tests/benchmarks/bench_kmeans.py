"""k-means of mode discovery against scikit-learn's: k = 50 on 1,300 latents of 4,096 numbers.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_kmeans.py

Both on one thread, in turn, with one initialisation each, as the method prescribes. Latents are
made of 80 blobs in 32 directions and noise in all: a class of ImageNet has no clearer clusters.
"""

from __future__ import annotations

import statistics

import faiss
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from timing import Row, Seconds, arguments, interleaved, median, one_thread, report

from mgd3.discovery.clustering import centroids


def latents(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blobs = 1.5 * rng.normal(size=(80, 32))
    directions = rng.normal(size=(32, d)) / np.sqrt(32)
    inside = blobs[rng.integers(80, size=n)] + rng.normal(size=(n, 32))
    return (inside @ directions + 0.6 * rng.normal(size=(n, d))).astype(np.float32)


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    wide, c = x.astype(np.float64), centres.astype(np.float64)
    distance = (wide**2).sum(1)[:, None] - 2 * wide @ c.T + (c**2).sum(1)
    return float(distance.min(1).sum())


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--n", type=int, default=1300)
    parser.add_argument("--d", type=int, default=4096)
    parser.add_argument("--k", type=int, default=50)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    times: dict[str, list[Seconds]] = {"plain": [], "ours": []}
    ratios = []
    with one_thread(), threadpool_limits(1):
        for label in range(options.classes):
            x = latents(label, options.n, options.d)
            found: dict[str, np.ndarray] = {}

            def theirs(x: np.ndarray = x, found: dict = found) -> None:
                model = KMeans(options.k, n_init=1, random_state=0).fit(x)
                found["plain"] = model.cluster_centers_

            def ours(x: np.ndarray = x, found: dict = found, label: int = label) -> None:
                found["ours"] = centroids(x, options.k, f"class {label}")

            arms = {"plain": theirs, "ours": ours}
            for name, spent in interleaved(arms, options.repeats, warm_up=False).items():
                times[name].append(spent)
            ratios.append(inertia(x, found["ours"]) / inertia(x, found["plain"]))
    row = Row(
        f"k-means, k = {options.k}, a class of {options.n} x {options.d}",
        median(times["plain"]),
        median(times["ours"]),
        gate=2,
        note=f"inertia {statistics.mean(ratios):.4f} of scikit-learn's (wanted: at most 1.002), "
        f"mean of {options.classes} classes",
    )
    report(options, [row])


if __name__ == "__main__":
    main()
