"""JPEG to ADM's centre crop: torchvision's decoder and uint8 resize against PIL, on one thread.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_decode.py

The pictures are scikit-learn's two photographs at ImageNet's usual sizes, saved as JPEG. Both arms
read from the file system's cache. The second table is in processor time, by size, and says how much
of ours is torchvision's decoder (libjpeg-turbo), which is the limit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import Row, Seconds, arguments, interleaved, one_thread, report

from mgd3.data.images import adm_centre_crop, adm_centre_crop_tensor, decode

SIDE = 256
SIZES = [(500, 375), (375, 500), (500, 333), (400, 300), (640, 480)]


def with_pil(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(adm_centre_crop(picture.convert("RGB"), SIDE)).transpose(2, 0, 1)


def fast(path: Path) -> np.ndarray:
    return adm_centre_crop_tensor(decode(path), SIDE).numpy()


def pictures(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    paths = []
    for k in range(count):
        # Other crops of the same photographs: 150 files differ.
        edge = k % 150
        box = (edge, edge, photographs[0].width - edge, photographs[0].height - edge)
        picture = photographs[k % 2].resize(size, Image.Resampling.LANCZOS, box=box)
        paths.append(folder / f"{size[0]}x{size[1]}_{k}.jpg")
        picture.save(paths[-1], quality=95)
    return paths


def each(arm: Callable[[Path], object], paths: list[Path]) -> Callable[[], None]:
    def work() -> None:
        for path in paths:
            arm(path)

    return work


def main() -> None:
    parser = arguments(__doc__, repeats=7)
    parser.add_argument("--images", type=int, default=24, help="of each size")
    options = parser.parse_args()
    lines = [
        "| JPEG | PIL (ms) | ours (ms) | ratio | of ours: decoder (ms) | resize and crop (ms) "
        "| images/s | equal values | largest difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    total: dict[str, list[Seconds]] = {"PIL": [], "ours": [], "decoder": []}
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            paths = pictures(Path(folder), size, options.images)
            difference = np.concatenate(
                [np.abs(with_pil(p).astype(int) - fast(p)).ravel() for p in paths]
            )
            arms = {"PIL": with_pil, "ours": fast, "decoder": decode}
            taken = interleaved({k: each(arm, paths) for k, arm in arms.items()}, options.repeats)
            for name, spent in taken.items():
                total[name].append(spent)
            usual, own, decoder = (t.cpu / len(paths) * 1e3 for t in taken.values())
            lines.append(
                f"| {size[0]}x{size[1]} | {usual:.2f} | {own:.2f} | {usual / own:.2f} "
                f"| {decoder:.2f} | {own - decoder:.2f} | {1e3 / own:.0f} "
                f"| {(difference == 0).mean():.3%} | {difference.max()} |"
            )
    count = len(SIZES) * options.images
    sums = {k: Seconds(sum(t.wall for t in v), sum(t.cpu for t in v)) for k, v in total.items()}
    row = Row(
        f"JPEG to ADM's crop at {SIDE} px, {count} images", sums["PIL"], sums["ours"], 2.3,
        sums["decoder"].cpu, "the JPEG decoder alone",
    )  # fmt: skip
    report(options, [row], lines)


if __name__ == "__main__":
    main()
