"""The data-set registry. Importable without torch, so that a configuration is checked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..base.errors import UserError, did_you_mean
from ..base.paths import expanded
from ..base.settings import short
from .archives import archives
from .imagenet import SUBSETS, subsets
from .meaning import Meaning, folder_meanings, imagenet_meanings, read_classes, require_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

# Folders of results/ that hold no data set.
_RESERVED = ("any", "benchmarks", "cache", "generators", "imagenet", "logs", "reports")
SPLITS = ("train", "validation", "test")


class Source(Protocol):
    """Where images come from. One implementation for each kind of data set."""

    # The name under which everyone has the same images; None: they are the user's own.
    published: str | None

    def classes(self) -> list[str]:
        """Class keys in label order."""
        ...

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        """One row an image: `class`, `split` (train or test), `image` (a key), `width`, `height`,
        `bytes`.

        Raises UserError for unreadable images, naming them; with "skip" they are left out and
        named in the log. `attrs["notes"]`, where there is one, is a list of sentences: how many
        images are read otherwise than they are stored.
        """
        ...

    def training_images(self, name: str) -> list[str]:
        """Sorted keys of a class that are not for test (train and validation), unread."""
        ...

    def validation_images(self, images: Sequence[str], fraction: float) -> set[str]:
        """Of the training images of one class, those that are held out for validation."""
        ...

    def notes(self) -> list[str]:
        """What a user should know of a data set beside its images: what was left out of it, and
        which images are for test. A sentence each; from names alone, no image is read."""
        ...

    def notes_on(self, table: pd.DataFrame) -> list[str]:
        """What a user should know of the images of an index, with its three splits: which are
        there twice. Reads what it needs to."""
        ...

    def complaints(self, table: pd.DataFrame) -> list[str]:
        """How the counts of images in `table` differ from what is known of the data set."""
        ...

    def path(self, image: str) -> Path | None:
        """The file behind a key, where there is one."""
        ...

    def is_stored_upright(self, image: str) -> bool:
        """Whether an image's file, where there is one, holds it as `open` returns it."""
        ...

    def bytes_of(self, image: str) -> int:
        """The size of an image's file now; 0 where it is no file. Raises OSError if it is gone."""
        ...

    def stored(self, images: Sequence[str]) -> np.ndarray | None:
        """Pixels uint8 [n, 3, H, W] of images that lie as they are in one array, in the order of
        `images`; None where each is opened by itself."""
        ...

    def open(self, image: str) -> Image.Image:
        """The RGB picture behind a key of `table`. Raises UserError naming an undecodable one."""
        ...

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        """Raise UserError for what can be seen wrong in a moment, before any job starts."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set and the settings that belong to it.

    Attributes:
        name: its key; part of every path of its results.
        size: side in pixels of the images a generator is trained on and makes.
        flip: whether a mirrored image still belongs to its class (false for digits).
        validation_fraction: share of the training images held out as the validation split.
        source: gives the images.
        origin: what its images are part of; caches of equal origin are shared.
        undecodable: "fail" or "skip", for images that cannot be decoded.
        incomplete: "fail" or "warn", for counts of images other than the known ones.
        classes_file: the user's classes.tsv, if there is one.
        meanings: what its classes are called elsewhere, by class key.
    """

    name: str
    size: int
    flip: bool
    validation_fraction: float
    source: Source
    origin: str = ""
    undecodable: str = "fail"
    incomplete: str = "fail"
    classes_file: str | None = None
    meanings: Mapping[str, Meaning] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """What the index depends on."""
        return {"size": self.size, "validation_fraction": self.validation_fraction}

    def wnids(self, classes: Sequence[str], who: str) -> list[str]:
        """What classes are called in ImageNet-1K.

        Args:
            who: needs to know, for the message: "the protocol 'soft' has a teacher of".

        Raises:
            UserError: one has no wnid.
        """
        known = {name: m.wnid for name in classes if (m := self.meanings.get(name))}
        if missing := [name for name in classes if known.get(name) is None]:
            raise UserError(
                f"{who} ImageNet's classes, and class {missing[0]!r} of {self.name!r} has no wnid",
                "name it in the data set's `classes` file, or choose a teacher that is trained on "
                "the data set itself",
            )
        return [known[name] for name in classes]

    def preflight(self, most_ipc: int) -> None:
        """Raise UserError for what can be seen wrong in a moment, before any job starts."""
        self.source.preflight(most_ipc, self.validation_fraction)
        if len(classes := self.source.classes()) == 1:
            raise UserError(
                f"{self.name} has one class, {classes[0]!r}: every network is right on all of it",
                "add the images of another class",
            )
        if self.classes_file is not None:
            require_rows(self.meanings, self.source.classes(), self.classes_file)


@dataclass(frozen=True)
class DatasetEntry:
    """A registry line: defaults, and how to make the source from the user's settings.

    Attributes:
        root: where its images lie: "own" in the user's folder, "imagenet" in the one ImageNet
            folder of the configuration, "archive" in the cache, "archive or own" there or where the
            user says, None with the program.
        copy_of: the data set that it is a lossy copy of, with the same keys. Figures of the two do
            not compare.
    """

    doc: str
    make_source: Callable[[Mapping[str, Any]], Source]
    size: int
    flip: bool
    validation_fraction: float
    root: str | None = None
    copy_of: str | None = None


def _folder(settings: Mapping[str, Any]) -> Path:
    """The data set's folder; `~` is the home of whoever runs it."""
    return expanded(settings["root"])


def _mnist(_: Mapping[str, Any]) -> Source:
    from .embedded import Mnist

    return Mnist()


def _digits(_: Mapping[str, Any]) -> Source:
    from .embedded import Digits

    return Digits()


def _imagefolder(settings: Mapping[str, Any]) -> Source:
    from .imagefolder import ImageFolder

    return ImageFolder(_folder(settings))


def _imagenet(settings: Mapping[str, Any]) -> Source:
    from .imagenet import ImageNet

    return ImageNet(_folder(settings), subsets()[settings["name"]])


def _imagenet_entry(key: str) -> DatasetEntry:
    return DatasetEntry(
        doc=f"{len(subsets()[key])} classes of ImageNet-1K ({SUBSETS[key]}), full images",
        make_source=_imagenet,
        size=256,
        flip=True,
        # The published protocols use every training image.
        validation_fraction=0.0,
        root="imagenet",
    )


def _archive(settings: Mapping[str, Any]) -> Source:
    from .archives import FetchedArchive

    return FetchedArchive(_folder(settings), archives()[settings["name"]])


def _archive_entry(key: str) -> DatasetEntry:
    return DatasetEntry(
        doc=f"{archives()[key].url}: other images than those of {archives()[key].subset}",
        make_source=_archive,
        size=256,
        flip=True,
        validation_fraction=0.0,
        root="archive",
    )


def _cifar(settings: Mapping[str, Any]) -> Source:
    from .cifar import CifarBinary

    return CifarBinary(_folder(settings), settings["name"])


def _cifar_jpeg(settings: Mapping[str, Any]) -> Source:
    from .cifar import CifarJpeg

    return CifarJpeg(_folder(settings))


def _cifar_entry(
    doc: str,
    make_source: Callable[[Mapping[str, Any]], Source] = _cifar,
    root: str = "archive or own",
    copy_of: str | None = None,
) -> DatasetEntry:
    return DatasetEntry(
        doc=doc,
        make_source=make_source,
        size=32,
        flip=True,
        # For tuning and for `selected`: there is no other split to choose by but the test images.
        validation_fraction=0.1,
        root=root,
        copy_of=copy_of,
    )


DATASETS: dict[str, DatasetEntry] = {
    "mnist": DatasetEntry(
        doc="5,000 handwritten digits (28x28 padded to 32), 4,000 for training, 1,000 for test",
        make_source=_mnist,
        size=32,
        flip=False,
        validation_fraction=0.2,
    ),
    "digits": DatasetEntry(
        doc="scikit-learn's 1,797 digits (8x8 enlarged to 32), 80 % for training",
        make_source=_digits,
        size=32,
        flip=False,
        validation_fraction=0.2,
    ),
    "imagefolder": DatasetEntry(
        doc="any folder of train/<class>/* and, if there, val/<class>/*",
        make_source=_imagefolder,
        size=32,
        flip=True,
        validation_fraction=0.1,
        root="own",
    ),
    **{key: _imagenet_entry(key) for key in SUBSETS},
    **{key: _archive_entry(key) for key, archive in archives().items() if archive.subset},
    "cifar10": _cifar_entry("60,000 images of 32x32 in 10 classes, 50,000 for training"),
    "cifar100": _cifar_entry("60,000 images of 32x32 in 100 classes, 50,000 for training"),
    "cifar10-jpeg": _cifar_entry(
        "JPEG copies of CIFAR-10 in folders, of which the figures do not compare with CIFAR-10's",
        _cifar_jpeg,
        root="own",
        copy_of="cifar10",
    ),
}
# Those that are complete without a `root`.
NAMED = tuple(name for name, entry in DATASETS.items() if entry.root != "own")


# Those that are not, and how they are written.
ROOTED = {
    name: f"write {{name: {name}, root: path/to/images}}"
    for name, entry in DATASETS.items()
    if entry.root == "own" and name != "imagefolder"
}
# What else gives a data set its root.
_TO_GIVE = {
    "imagenet": "set `imagenet_root` in the config to the folder of ImageNet",
    "archive": "run mgd3 fetch-dataset --name {0}",
    "archive or own": "run mgd3 fetch-dataset --name {0}",
}


def make_dataset(choice: str | Mapping[str, Any]) -> Dataset:
    """A data set from its key, or from its key or a name of one's own and settings.

    Args:
        choice: settings are root, size, flip, validation_fraction, undecodable, incomplete and,
            with images of one's own, classes. One's own images, ImageNet's and an archive's need
            `root`.

    Raises:
        UserError: an unknown key, no root, or a folder of images under a name that is taken.
    """
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = settings["name"]
    kind = name if name in DATASETS else "imagefolder"
    if kind == "imagefolder" and "root" not in settings:
        raise UserError(
            f"unknown data set {short(name)}",
            f"{did_you_mean(name, NAMED)} For your own images write "
            "{name: mydata, root: path/to/images}",
        )
    entry = DATASETS[kind]
    if (entry.root is None and "root" in settings) or name in ("imagefolder", *_RESERVED):
        raise UserError(f"the name {name!r} is taken", "give your data set another `name`")
    if kind != "imagefolder" and "classes" in settings:
        raise UserError(f"data set {name!r} takes no classes", "they are known already")
    if entry.root and "root" not in settings:
        mend = ROOTED.get(name) or _TO_GIVE[entry.root].format(name)
        raise UserError(f"data set {name!r} needs its images", mend)
    source = entry.make_source(settings)
    return Dataset(
        name=name,
        size=settings.get("size", entry.size),
        flip=settings.get("flip", entry.flip),
        validation_fraction=settings.get("validation_fraction", entry.validation_fraction),
        source=source,
        origin="imagenet" if entry.root == "imagenet" else name,
        undecodable=settings.get("undecodable", "fail"),
        incomplete=settings.get("incomplete", "fail"),
        classes_file=settings.get("classes"),
        meanings=_meanings(kind, settings, source),
    )


def _meanings(kind: str, settings: Mapping[str, Any], source: Source) -> Mapping[str, Meaning]:
    if "classes" in settings:
        return read_classes(expanded(settings["classes"]))
    if DATASETS[kind].copy_of or DATASETS[kind].root == "archive or own":
        from . import cifar

        return cifar.meanings(DATASETS[kind].copy_of or kind)
    if kind in SUBSETS or kind in archives():
        return imagenet_meanings(source.classes())
    if kind == "imagefolder" and (_folder(settings) / "train").is_dir():
        return folder_meanings(source.classes())
    return {}
