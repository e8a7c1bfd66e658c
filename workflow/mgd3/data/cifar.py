"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the authors' binary archives, without pickle; and
JPEG copies of CIFAR-10, which are a data set of another name.

The key of an image is its split, its class and its rank in that class, counted in the order of the
archive: `train/airplane/0000` to `train/airplane/4999`. The copies have the same keys, so that the
same images are held out of both. Importable without numpy, which `cifar_rows` reads the files with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import UserError
from .imagefolder import ImageFolder
from .leftovers import shown
from .meaning import Meaning
from .splits import held_out, held_out_count

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from .cifar_rows import Rows

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
# In label order.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip


@dataclass(frozen=True)
class Binary:
    """How an archive holds a data set: files of rows, each of labels (a byte each) and 3,072 bytes
    of pixels (planes of red, green and blue, row by row).

    Attributes:
        classes: in label order.
        names: the file that lists them, a name a line.
        train, test: the files of a split in their order, with their SHA-256 as published.
        labels: bytes before the pixels; the last of them is the label.
        per_class: training and test images of each class.
    """

    classes: tuple[str, ...]
    names: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    labels: int
    per_class: tuple[int, int]

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file of images, as published."""
        return {**self.train, **self.test}

    @property
    def row(self) -> int:
        """Bytes of an image with its labels."""
        return self.labels + _PIXELS


BINARIES: dict[str, Binary] = {
    "cifar10": Binary(
        classes=CIFAR10,
        names="batches.meta.txt",
        train={
            "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        },
        test={
            "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        },
        labels=1,
        per_class=(5000, 1000),
    ),
    # Of its two labels, the first is the superclass.
    "cifar100": Binary(
        classes=CIFAR100,
        names="fine_label_names.txt",
        train={"train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
        test={"test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"},
        labels=2,
        per_class=(500, 100),
    ),
}


class CifarBinary:
    """The images of an archive that lies unpacked in `root`, or that `root` is.

    The files of an unpacked archive are mapped into memory. An archive is read whole by each
    process, which takes seconds. Where nothing lies at `root`, it is still to be fetched.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.published = root, name
        self.binary = BINARIES[name]

    def classes(self) -> list[str]:
        return list(self.binary.classes)

    @cached_property
    def _rows(self) -> Rows:
        from .cifar_rows import read_rows

        return read_rows(self.root, self.published, self.binary)

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        import pandas as pd

        rows = self._rows
        return pd.DataFrame(
            {
                "class": [self.binary.classes[label] for label in rows.labels.tolist()],
                "split": rows.split,
                "image": rows.keys,
                "width": SIDE,
                "height": SIDE,
                "bytes": 0,
            }
        )

    def training_images(self, name: str) -> list[str]:
        table = self.table()
        return sorted(table.loc[(table["class"] == name) & (table["split"] == "train"), "image"])

    def validation_images(self, images: Sequence[str], fraction: float) -> set[str]:
        return held_out(images, "validation", fraction)

    def notes(self) -> list[str]:
        return []

    def notes_on(self, table: pd.DataFrame) -> list[str]:
        return []

    def complaints(self, table: pd.DataFrame) -> list[str]:
        """Files that are not the published ones, and other counts."""
        changed = [
            f"{name} ({len(rows):,} images) is not the published file"
            for name, rows in self._rows.files.items()
            if hashlib.sha256(rows).hexdigest() != self.binary.digests[name]
        ]
        return [*changed, *other_counts(table, self.binary)]

    def path(self, image: str) -> None:
        return None

    def is_stored_upright(self, image: str) -> bool:
        return True

    def bytes_of(self, image: str) -> int:
        return 0

    def stored(self, images: Sequence[str]) -> np.ndarray:
        return self._rows.pixels(images)

    def open(self, image: str) -> Image.Image:
        from PIL import Image

        return Image.fromarray(self.stored([image])[0].transpose(1, 2, 0))

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        fewest = self.binary.per_class[0]
        if self.root.is_dir():  # an archive is read by jobs; what is to be fetched will be whole
            fewest = self._rows.fewest("train", len(self.binary.classes))
        held = held_out_count(fewest, validation_fraction)
        kept = f" ({held} of {fewest:,} held out for validation)" if held else ""
        if most_ipc > fewest - held:
            raise UserError(
                f"a class of {self.published} has {fewest - held:,} training images, but ipc is "
                f"{most_ipc}{kept}",
                "lower `ipc` in the config" + (", or `validation_fraction`" if held else ""),
            )


class CifarJpeg(ImageFolder):
    """JPEG copies of CIFAR-10: train/<class>/0000.jpg to 4999.jpg, test/<class>/0000.jpg ...

    The files of a class have the numbers of their ranks; a key is a path without its ending.
    """

    _FILE = re.compile(r"(\d{4})\.jpg")

    def classes(self) -> list[str]:
        return list(CIFAR10)

    @cached_property
    def test_folder(self) -> str:
        return "test"

    def _images(self, folder: str, name: str) -> Iterator[str]:
        for key in super()._images(folder, name):
            file = key.rpartition("/")[2]
            if not self._FILE.fullmatch(file):
                raise UserError(
                    f"{self.root / key} is not named as a JPEG copy of CIFAR-10 is: 0000.jpg, the "
                    "image's rank in its class",
                    "remove it, or give the folder another `name`, as images of your own",
                )
            yield key.removesuffix(".jpg")

    def files(self, name: str) -> list[str]:
        return [f"{image}.jpg" for image in self.images(name)]

    def path(self, image: str) -> Path:
        return self.root / f"{image}.jpg"

    def _require_folders(self) -> None:
        folders = [f"{split}/{name}" for split in ("train", "test") for name in CIFAR10]
        if missing := [folder for folder in folders if not (self.root / folder).is_dir()]:
            raise UserError(
                f"{self.root} lacks {len(missing)} of {len(folders)} folders of JPEG copies of "
                f"CIFAR-10: {shown(missing)}",
                "mend `root` of the data set, or give the folder another `name`, as images of "
                "your own",
            )

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        self._require_folders()
        super().preflight(most_ipc, validation_fraction)

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        self._require_folders()
        return super().table(undecodable)

    def notes(self) -> list[str]:
        self._require_folders()
        return [
            "JPEG copies, with chroma at half the size: figures do not compare with those of "
            "CIFAR-10",
            *super().notes(),
        ]

    def complaints(self, table: pd.DataFrame) -> list[str]:
        return other_counts(table, BINARIES["cifar10"])


def other_counts(table: pd.DataFrame, binary: Binary) -> list[str]:
    """Of a source's table, the classes that have not as many images as were published."""
    found = table.groupby(["class", "split"]).size()
    return [
        f"class {name} has {count:,} {split} images instead of {known:,}"
        for split, known in zip(("train", "test"), binary.per_class, strict=True)
        for name in binary.classes
        if (count := int(found.get((name, split), 0))) != known
    ]


def meanings(name: str) -> dict[str, Meaning]:
    """Of the classes of CIFAR-10 or -100: their names as prompts. ImageNet has no such classes."""
    return {key: Meaning(prompt=key.replace("_", " ")) for key in BINARIES[name].classes}
