"""Any folder of images: train/<class>/* and, if there, val/<class>/*."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import NOTE, UserError, is_text
from ..base.progress import Progress
from .duplicates import duplicate_notes
from .leftovers import (
    SUFFIXES,
    Leftovers,
    class_folders,
    example,
    holds_images,
    is_image,
    plural,
    shown,
)
from .pictures import MENDED, Header, Unreadable, is_upright, read_header, to_rgb, unreadable
from .splits import held_out, held_out_count

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

# Share of each class that is held out for test when there is no folder of test images.
TEST_FRACTION = 0.2
# The folder of test images is the first of these that has a folder of a class.
TEST_FOLDERS = ("val", "test", "valid", "validation")
_SHOWN = 20


class ImageFolder:
    """Classes are the sub-folders of train/, in sorted order; an image's key is its relative path.

    Without val/ (or another of `TEST_FOLDERS`), a fixed fifth of the images of each class (those
    with the smallest hashes of their paths) is the test split.
    """

    # The name under which everyone has the same images; none: they are the user's own.
    published: str | None = None

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def test_folder(self) -> str | None:
        """The folder of test images beside train/, if there is one."""
        if (self.root / TEST_FOLDERS[0]).is_dir():
            return TEST_FOLDERS[0]
        classes = set(class_folders(self.root / "train"))
        for folder in TEST_FOLDERS[1:]:
            if classes & set(class_folders(self.root / folder)):
                return folder
        return None

    def classes(self) -> list[str]:
        train = self.root / "train"
        if not train.is_dir():
            self._explain_no_train()
        names = class_folders(train)
        if not names:
            raise UserError(f"{train} has no class folders", "put images in train/<class>/")
        for name in names:
            _require_utf8(train, name)
        return names

    def _explain_no_train(self) -> None:
        """Raise the UserError that fits what lies there instead."""
        found = class_folders(self.root)
        what = f"no folder {self.root / 'train'}"
        for name in found:
            if class_folders(self.root / name / "train"):
                raise UserError(
                    f"{what}, but there is {self.root / name / 'train'}",
                    f"set `root` to {self.root / name}",
                )
        if other := [n for n in found if n.lower() in ("train", "training", "train_set")]:
            raise UserError(
                f"{what}, but there is {self.root / other[0]}",
                f"rename it: mv '{self.root / other[0]}' '{self.root / 'train'}'",
            )
        if classes := [name for name in found if holds_images(self.root / name)]:
            raise UserError(
                f"{what}, but {plural(len(classes), 'folder')} of images in {self.root}: "
                f"{shown(classes)}",
                f"if they are the classes, move them into {self.root / 'train'}",
            )
        raise UserError(
            what,
            f"put the images in {self.root}/train/<class>/ (and {self.root}/val/<class>/ for "
            "test), or mend `root` in the config",
        )

    def _images(self, folder: str, name: str) -> Iterator[str]:
        """Relative paths of the images of one class, in file-system order."""
        path = self.root / folder / name
        with os.scandir(path) as entries:
            for entry in entries:
                if is_image(entry):
                    _require_utf8(path, entry.name)
                    yield f"{folder}/{name}/{entry.name}"

    def training_images(self, name: str) -> list[str]:
        """Sorted keys of a class that are not for test: the train and the validation split."""
        images = list(self._images("train", name))
        return sorted({*images} - self._held_out_for_test(images))

    def validation_images(self, images: Sequence[str], fraction: float) -> set[str]:
        """Of the training images of one class, those that are held out for validation."""
        return held_out(images, "validation", fraction)

    def _test_images(self, name: str) -> list[str]:
        """Keys of the test images of a class that do not lie in train/."""
        folder = self.test_folder
        if folder is None or not (self.root / folder / name).is_dir():
            return []
        return sorted(self._images(folder, name))

    def images(self, name: str) -> list[str]:
        """Sorted keys of all images of a class, unread."""
        return sorted([*self._images("train", name), *self._test_images(name)])

    def files(self, name: str) -> list[str]:
        """Their paths below the root, in the same order."""
        return self.images(name)

    def _held_out_for_test(self, images: Sequence[str]) -> set[str]:
        """Of the images of one class in train/, those that are for test."""
        return set() if self.test_folder else held_out(images, "test", TEST_FRACTION)

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        """Missing folders, empty classes and too few images, without reading a whole listing."""
        names = self.classes()
        validated = validation_fraction == 0
        for name in names:
            if self.test_folder:
                self._require_test(name)
            count, enough = 0, False
            for count, _ in enumerate(self._images("train", name), start=1):
                test, validation, train = self._shares(count, validation_fraction)
                enough = train >= most_ipc and (self.test_folder is not None or test > 0)
                # A listing of ImageNet need not be read whole.
                if enough and (validated or validation):
                    break
            if not count:
                self._explain_empty(name)
            if not enough:
                self._explain_too_few(name, count, most_ipc, validation_fraction)
            validated |= self._shares(count, validation_fraction)[1] > 0
        if not validated:
            raise UserError(
                f"of the few images in {self.root / 'train'} none was held out for validation",
                "add images, or set `validation_fraction: 0` for the data set: there is no "
                "`selected` accuracy then",
            )

    def _shares(self, count: int, validation_fraction: float) -> tuple[int, int, int]:
        """Test, validation and train images of a class with so many images in train/."""
        test = 0 if self.test_folder else held_out_count(count, TEST_FRACTION)
        validation = held_out_count(count - test, validation_fraction)
        return test, validation, count - test - validation

    def _explain_too_few(
        self, name: str, count: int, most_ipc: int, validation_fraction: float
    ) -> None:
        folder = self.root / "train" / name
        test, validation, train = self._shares(count, validation_fraction)
        if not self.test_folder and not test:
            raise UserError(
                f"class {name!r} has too few images for one to be held out for test: {count}",
                f"add images to {folder}, or put test images in {self.root / 'val' / name} (then "
                "every class needs some there)",
            )
        held = [(test, "test"), (validation, "validation")]
        kept = " and ".join(f"{n} for {use}" for n, use in held if n)
        mends = [f"lower `ipc`, or add images to {folder}"]
        if validation:
            mends.append("set `validation_fraction: 0`")
        if test:
            mends.append(f"put test images in {self.root / 'val'}/<class>/")
        raise UserError(
            f"class {name!r} has {train} training images, but ipc is {most_ipc}"
            + (f" ({kept} held out of {count})" if kept else ""),
            ", or ".join(mends),
        )

    def _require_test(self, name: str) -> None:
        if self._test_images(name):
            return
        folder = self.root / str(self.test_folder) / name
        if not folder.is_dir():
            raise UserError(
                f"class {name!r} is in train/ but has no folder {folder}",
                "add its test images, or remove the class from train/",
            )
        raise UserError(f"class {name!r} has no images in {folder}", "add test images")

    def _explain_empty(self, name: str) -> None:
        folder = self.root / "train" / name
        left = Leftovers(self.root)
        left.look(f"train/{name}")
        raise UserError(
            f"class {name!r} has no training images in {folder}"
            + "".join(f"; {note}" for note in left.notes()),
            f"add images (known endings: {' '.join(SUFFIXES)}) or remove the folder",
        )

    def notes(self) -> list[str]:
        """See `registry.Source.notes`."""
        names, left = self.classes(), Leftovers(self.root)
        for folder in ["train", *([self.test_folder] if self.test_folder else [])]:
            left.look_beside(folder)
            for name in names:
                if (self.root / folder / name).is_dir():
                    left.look(f"{folder}/{name}")
        found = left.notes()
        if self.test_folder:
            unknown = sorted({*class_folders(self.root / self.test_folder)} - {*names})
            if unknown:
                keys = [f"{self.test_folder}/{name}" for name in unknown]
                found.append(
                    f"left out: {plural(len(keys), 'class folder')} that train/ does not have: "
                    f"{example(keys)}"
                )
        unused = [f for f in TEST_FOLDERS if f != self.test_folder and (self.root / f).is_dir()]
        found += [f"left out: the folder {folder}/ beside train/" for folder in unused]
        if self.test_folder is None:
            found.append(
                f"{self.root} has no val/: a fixed {TEST_FRACTION:.0%} of each class, chosen by a "
                "hash of the path, is held out for test"
            )
        elif self.test_folder != TEST_FOLDERS[0]:
            found.append(f"the test images are those of {self.root / self.test_folder}")
        return found

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        import pandas as pd

        rows = []
        for name in self.classes():
            train = sorted(self._images("train", name))
            if not train:
                self._explain_empty(name)
            for_test = self._held_out_for_test(train)
            rows += [(name, "test" if key in for_test else "train", key) for key in train]
            if self.test_folder:
                self._require_test(name)
                rows += [(name, "test", key) for key in self._test_images(name)]
        table = pd.DataFrame(rows, columns=["class", "split", "image"])
        headers = self._headers(table["image"].tolist())
        bad = [str(header) for header in headers if isinstance(header, Unreadable)]
        if bad:
            _report_unreadable(bad, undecodable)
            readable = [isinstance(header, Header) for header in headers]
            table = table[readable].reset_index(drop=True)
        found = [header for header in headers if isinstance(header, Header)]
        table["width"] = [header.width for header in found]
        table["height"] = [header.height for header in found]
        table["bytes"] = [header.bytes for header in found]
        kinds = Counter(kind for header in found for kind in header.mended)
        table.attrs["notes"] = [
            f"{plural(kinds[kind], 'picture')} {words}"
            for kind, words in MENDED.items()
            if kinds[kind]
        ]
        return table

    def _headers(self, images: Sequence[str]) -> list[Header | Unreadable]:
        """The header of each file, or why it cannot be taken, with its path."""

        def header(image: str) -> Header | Unreadable:
            path = self.path(image)
            try:
                return self._header(path)
            except FileNotFoundError:
                return Unreadable(f"{path} is gone")
            except Unreadable as error:
                return Unreadable(f"{path} {error}")

        headers: list[Header | Unreadable] = []
        # Most of the time goes to waiting for the file system.
        with (
            Progress(len(images), "Reading headers", "images") as bar,
            ThreadPoolExecutor(max_workers=min(32, 4 * (os.cpu_count() or 1))) as pool,
        ):
            for found in pool.map(header, images):
                headers.append(found)
                bar.update()
        return headers

    def _header(self, path: Path) -> Header:
        return read_header(path)

    def notes_on(self, table: pd.DataFrame) -> list[str]:
        return duplicate_notes(table, self.path)

    def complaints(self, table: pd.DataFrame) -> list[str]:
        return []

    def path(self, image: str) -> Path:
        return self.root / image

    def is_stored_upright(self, image: str) -> bool:
        return is_upright(self.path(image))

    def bytes_of(self, image: str) -> int:
        return self.path(image).stat().st_size

    def stored(self, images: Sequence[str]) -> None:
        return None

    def open(self, image: str) -> Image.Image:
        from PIL import Image

        path = self.path(image)
        try:
            with Image.open(path) as picture:
                return self._rgb(picture)
        except FileNotFoundError as error:
            raise UserError(
                f"{path} is gone since the index was made",
                "put it back, or run the same command again: it plans with what is there now",
            ) from error
        except Exception as error:  # as in `read_header`
            raise UserError(
                f"cannot decode {path}: it {unreadable(error)}", "replace or remove it"
            ) from error

    def _rgb(self, picture: Image.Image) -> Image.Image:
        return to_rgb(picture)


def _require_utf8(folder: Path, name: str) -> None:
    if not is_text(name):
        raise UserError(
            f"the name of {str(folder)!r}/{os.fsencode(name)!r} is not UTF-8",
            "rename it (convmv does whole folders), and run again",
        )


def _report_unreadable(files: list[str], undecodable: str) -> None:
    listed = "\n    ".join(files[:_SHOWN])
    more = f"\n    and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    what = f"{len(files)} file(s) are not readable as images:\n    {listed}{more}"
    if undecodable == "skip":
        print(f"{NOTE}left out: {what}", file=sys.stderr)
        return
    raise UserError(
        what,
        "replace or remove them and run again, or leave them out: `undecodable: skip` in the data "
        "set's config",
    )
