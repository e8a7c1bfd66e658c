"""Small archives in the binary format of CIFAR-10 and CIFAR-100, written row by row."""

from __future__ import annotations

import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mgd3.data.archives import archives

# Of each data set: its files for training and for test, bytes before the pixels, the list of names.
FILES = {
    "cifar10": (
        [f"data_batch_{k}.bin" for k in range(1, 6)], ["test_batch.bin"], 1, "batches.meta.txt",
    ),
    "cifar100": (["train.bin"], ["test.bin"], 2, "fine_label_names.txt"),
}  # fmt: skip


@dataclass
class Made:
    """A made data set.

    Attributes:
        folder: of its files, named as the authors' archive has it.
        classes: in label order.
        pixels: uint8 [3, 32, 32] of each image by its key, in the order of the files.
    """

    folder: Path
    classes: list[str]
    pixels: dict[str, np.ndarray]

    def pack(self, file: Path) -> Path:
        """As the archive that is published."""
        with tarfile.open(file, "w:gz") as tar:
            tar.add(self.folder, arcname=self.folder.name)
        return file

    def copies(self, root: Path, size: int = 32) -> Path:
        """As a folder of JPEG copies."""
        for key, pixels in self.pixels.items():
            path = root / f"{key}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).resize((size, size)).save(path, quality=75)
        return root


def make_cifar(
    root: Path, name: str, classes: list[str], train: int = 6, test: int = 2, noise: bool = True
) -> Made:
    """An archive, unpacked below `root`, of so many images a class in shuffled order.

    Args:
        noise: pixels at random; else all are zero.
    """
    trained, tested, before, names = FILES[name]
    rng = np.random.default_rng(7)
    folder = root / archives()[name].folder
    folder.mkdir(parents=True)
    pixels: dict[str, np.ndarray] = {}
    black = np.zeros((3, 32, 32), dtype=np.uint8)
    for split, files, count in (("train", trained, train), ("test", tested, test)):
        labels = rng.permutation(np.repeat(np.arange(len(classes)), count))
        seen: Counter[str] = Counter()
        for file, part in zip(files, np.array_split(labels, len(files)), strict=True):
            with (folder / file).open("wb") as out:
                for label in part.tolist():
                    of = classes[label]
                    image = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8) if noise else black
                    # Of CIFAR-100 the first byte is the superclass.
                    out.write(bytes([label // 5] * (before - 1) + [label]) + image.tobytes())
                    pixels[f"{split}/{of}/{seen[of]:04d}"] = image
                    seen[of] += 1
    (folder / names).write_text("".join(f"{of}\n" for of in classes) + "\n")
    (folder / "readme.html").write_text("not an image")
    return Made(folder, classes, pixels)
