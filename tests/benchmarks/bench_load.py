"""A distilled set from its file against the same set from a folder of PNGs.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_load.py

The PNGs are what `mgd3 export` writes: torchvision's ImageFolder reads them to uint8 tensors, which
are stacked. Both arms end with the same tensors, of which every page is read once (ours maps the
file), and read from the file system's cache. Pictures are crops of scikit-learn's two photographs.
The limit is a copy in memory of as many bytes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import torch
from sklearn.datasets import load_sample_images
from timing import Row, arguments, interleaved, one_thread, report, seconds_of
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from mgd3.base import artifacts
from mgd3.base.device import keep_freed_memory
from mgd3.evaluation.stage import read_split
from mgd3.reporting.export import IMAGES, export


def crops(count: int, side: int) -> torch.Tensor:
    """uint8 [count, 3, side, side]."""
    photographs = [torch.from_numpy(p.copy()).permute(2, 0, 1) for p in load_sample_images().images]
    draws = torch.Generator().manual_seed(0)
    found = []
    for k in range(count):
        photograph = photographs[k % 2]
        top, left = (int(torch.randint(extent - side, (), generator=draws))
                     for extent in photograph.shape[1:])  # fmt: skip
        found.append(photograph[:, top : top + side, left : left + side])
    return torch.stack(found)


def write_set(folder: Path, classes: int, ipc: int, side: int) -> Path:
    """A collected set and its export below `folder`; the set's file."""
    names = [f"class{label:03}" for label in range(classes)]
    header = {"classes": names, "blocks": {}, "method": "random", "settings": {}}
    header["generation_seed"] = 0
    labels = torch.arange(classes).repeat_interleave(ipc)
    file, manifest = folder / "images.safetensors", folder / "manifest.parquet"
    tensors = {"images": crops(classes * ipc, side), "labels": labels}
    artifacts.save_tensors(file, tensors, header)
    rows = {"label": labels.numpy(), "k": list(range(ipc)) * classes}
    artifacts.save_table(manifest, pd.DataFrame(rows), header)
    export(file, manifest, folder / "export")
    return file


def from_folder(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = ImageFolder(str(folder), PILToTensor())
    images, labels = zip(*pictures, strict=True)
    return torch.stack(images), torch.tensor(labels)


def touched(images: torch.Tensor) -> int:
    """Reads a byte of every page."""
    return int(images.flatten()[::4096].sum())


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    keep_freed_memory()
    with one_thread(), tempfile.TemporaryDirectory() as name:
        file = write_set(Path(name), options.classes, options.ipc, options.size)
        pictures = Path(name) / "export" / IMAGES
        usual, split = from_folder(pictures), read_split(file, None)[0]
        assert torch.equal(usual[0], split.images) and torch.equal(usual[1], split.labels)
        taken = interleaved(
            {
                "plain": lambda: touched(from_folder(pictures)[0]),
                "ours": lambda: touched(read_split(file, None)[0].images),
            },
            options.repeats,
        )
        copies = [seconds_of(split.images.clone).cpu for _ in range(7)]
        what = f"load of a distilled set, {len(split)} images of {options.size} px"
        row = Row(what, taken["plain"], taken["ours"], 8, min(copies), "a copy in memory")
    report(options, [row])


if __name__ == "__main__":
    main()
