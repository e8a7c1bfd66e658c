"""What measures on a network's features say of real images, and of noise.

    OMP_NUM_THREADS=2 python tests/benchmarks/measures_of_sets.py

The network is `conv3-32`, trained here on the training images of the embedded digits; `--random`
leaves its weights as they are drawn. Sets of several sizes are measured as distilled ones are:
training images drawn by class, and uniform noise.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from mgd3.base import artifacts
from mgd3.data import make_dataset
from mgd3.data.index import Index, write_index
from mgd3.data.pixels import write_pixels
from mgd3.metrics import OF_IMAGES, OF_SETS
from mgd3.metrics.judging import Verdicts, judge, judge_originals
from mgd3.networks.architectures import create_network
from mgd3.teachers import TEACHERS
from mgd3.teachers.model import save
from mgd3.teachers.training import train_teacher

TEACHER = "conv3-32"


def teacher(folder: Path, pixels: dict[str, Path], *, trained: bool) -> Path:
    if trained:
        train_teacher(TEACHER, TEACHERS[TEACHER], pixels["train"], pixels["test"], None,
                      flip=False, device="cpu", folder=folder / "teacher")  # fmt: skip
    else:
        torch.manual_seed(0)
        classes = artifacts.tensor_metadata(pixels["train"])["classes"]
        card = {"network": "conv3", "classes": classes, "size": 32, "teacher": TEACHER}
        card |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        save(folder / "teacher", create_network("conv3", 10, 32, "soft").state_dict(), card)
    return folder / "teacher"


def sets(train: Path, ipc: int) -> dict[str, dict[str, torch.Tensor]]:
    """Real images and noise, as `collect` writes distilled sets."""
    held = artifacts.load_tensors(train, ["images", "labels"])
    draws = torch.Generator().manual_seed(0)
    order = torch.randperm(len(held["labels"]), generator=draws)
    rows = torch.cat([order[held["labels"][order] == label][:ipc] for label in range(10)])
    real = {"images": held["images"][rows], "labels": held["labels"][rows]}
    noise = torch.randint(256, real["images"].shape, dtype=torch.uint8, generator=draws)
    return {"real": real, "noise": {**real, "images": noise}}


def measured(folder: Path, ipcs: list[int], *, trained: bool) -> list[tuple[str, int, Verdicts]]:
    """The name of a set, its images per class, and what judges it."""
    dataset, index = make_dataset("mnist"), folder / "index.parquet"
    write_index(dataset, index)
    pixels = {split: folder / f"{split}.safetensors" for split in ("train", "test")}
    for split, path in pixels.items():
        write_pixels(dataset, index, split, "32", path)
    network = teacher(folder, pixels, trained=trained)
    originals, classes = folder / "originals.safetensors", Index.read(index).classes
    judge_originals(dataset, index, TEACHER, network, originals)
    found = []
    for ipc in ipcs:
        judged = {}
        for name, tensors in sets(pixels["train"], ipc).items():
            path, judged[name] = folder / f"{name}{ipc}", folder / f"judged_{name}{ipc}"
            artifacts.save_tensors(path, tensors, {"classes": classes})
            judge(path, TEACHER, network, None, judged[name])
        verdicts = Verdicts(judged, originals, classes, generation_seed=0)
        found += [(name, ipc, verdicts) for name in judged]
    return found


def row(name: str, ipc: int, verdicts: Verdicts) -> list[str]:
    images = [verdicts.of_class(name, f"digit-{k}") for k in range(10)]
    figures = [verdicts.whole[name][key] for key in OF_SETS]
    figures += [float(np.mean([of_class[key] for of_class in images])) for key in OF_IMAGES]
    return [name, str(ipc), *("n/a" if np.isnan(x) else f"{x:.4g}" for x in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ipc", type=int, nargs="+", default=[10, 50, 300])
    parser.add_argument("--random", action="store_true", help="leave the network's weights random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), options.ipc, trained=not options.random)
        heads = ["set", "IPC", *OF_SETS, *OF_IMAGES]
        print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
        for each in found:
            print(f"| {' | '.join(row(*each))} |")
        for _, ipc, verdicts in found[::2]:
            print(f"IPC {ipc}: frechet is n/a: {verdicts.no_frechet}")


if __name__ == "__main__":
    main()
