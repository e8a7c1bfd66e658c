"""Any folder of images: train/<class>/* and, if there, val/<class>/*."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import UserError, is_text
from ..base.progress import Progress
from .splits import in_test, in_validation

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
# Share of each class that is held out for test when there is no val/ folder.
TEST_FRACTION = 0.2
_SHOWN = 20
# How many times as long as wide a picture may be.
_LONGEST_STRIP = 100


class ImageFolder:
    """Classes are the sub-folders of train/, in sorted order; an image's key is its relative path.

    Without val/, a fixed fifth of the images (by a hash of the path) is the test split.
    """

    # The name under which everyone has the same images; none: they are the user's own.
    published: str | None = None

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def has_val(self) -> bool:
        return (self.root / "val").is_dir()

    def classes(self) -> list[str]:
        train = self.root / "train"
        if not train.is_dir():
            raise UserError(
                f"no folder {train}",
                f"put the images in {self.root}/train/<class>/ (and {self.root}/val/<class>/ for "
                "test), or mend `root` in the config",
            )
        names = sorted(e.name for e in os.scandir(train) if e.is_dir() and e.name[0] != ".")
        if not names:
            raise UserError(f"{train} has no class folders", "put images in train/<class>/")
        for name in names:
            _require_utf8(train, name)
        return names

    def _images(self, folder: str, name: str) -> Iterator[str]:
        """Relative paths of the images of one class, in file-system order."""
        path = self.root / folder / name
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.name.lower().endswith(SUFFIXES):
                    _require_utf8(path, entry.name)
                    yield f"{folder}/{name}/{entry.name}"

    def training_images(self, name: str) -> list[str]:
        """Sorted keys of a class that are not for test: the train and the validation split."""
        return sorted(key for key in self._images("train", name) if not self._for_test(key))

    def _test_images(self, name: str) -> list[str]:
        """Keys of the test images of a class that do not lie in train/."""
        folder = self.root / "val" / name
        return sorted(self._images("val", name)) if self.has_val and folder.is_dir() else []

    def images(self, name: str) -> list[str]:
        """Sorted keys of all images of a class, unread."""
        return sorted([*self._images("train", name), *self._test_images(name)])

    def _for_test(self, image: str) -> bool:
        return not self.has_val and in_test(image, TEST_FRACTION)

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        """Missing folders, empty classes and too few images, without reading a whole listing."""
        validated = validation_fraction == 0
        for name in self.classes():
            if self.has_val:
                self._require_val(name)
            needed = {"training": most_ipc, "test": int(not self.has_val)}
            found = {"training": 0, "validation": 0, "test": 0}
            for image in self._images("train", name):
                use = self._use(image, validation_fraction)
                found[use] += 1
                validated |= use == "validation"
                # A listing of ImageNet need not be read whole.
                if validated and all(found[use] >= count for use, count in needed.items()):
                    break
            if any(found[use] < count for use, count in needed.items()):
                self._explain_too_few(name, found, most_ipc)
        if not validated:
            raise UserError(
                f"of the few images in {self.root / 'train'} none was held out for validation "
                "(a hash of each file's path decides)",
                "raise `validation_fraction` of the data set, or set it to 0: there is no "
                "`selected` accuracy then",
            )

    def _use(self, image: str, validation_fraction: float) -> str:
        """What an image of train/ is for."""
        if self._for_test(image):
            return "test"
        return "validation" if in_validation(image, validation_fraction) else "training"

    def _explain_too_few(self, name: str, found: dict[str, int], most_ipc: int) -> None:
        folder = self.root / "train" / name
        if not any(found.values()):
            self._explain_empty(name)
        if found["training"] < most_ipc:
            raise UserError(
                f"class {name!r} has {found['training']} training images, but ipc is {most_ipc}",
                f"lower `ipc`, or add images to {folder} (held-out test and validation images are "
                "not counted)",
            )
        raise UserError(
            f"class {name!r} has too few images: none was held out for test "
            "(a hash of each file's path decides)",
            f"add images to {folder}, or put test images in {self.root / 'val' / name}",
        )

    def _require_val(self, name: str) -> None:
        if self._test_images(name):
            return
        if not (self.root / "val" / name).is_dir():
            raise UserError(
                f"class {name!r} is in train/ but has no folder {self.root / 'val' / name}",
                "add its test images, or remove the class from train/",
            )
        raise UserError(
            f"class {name!r} has no images in {self.root / 'val' / name}", "add test images"
        )

    def _explain_empty(self, name: str) -> None:
        raise UserError(
            f"class {name!r} has no training images in {self.root / 'train' / name}",
            f"add images (known endings: {' '.join(SUFFIXES)}) or remove the folder",
        )

    def table(self, undecodable: str = "fail") -> pd.DataFrame:
        import pandas as pd

        names = self.classes()
        rows = []
        for name in names:
            train = sorted(self._images("train", name))
            if not train:
                self._explain_empty(name)
            rows += [(name, "test" if self._for_test(key) else "train", key) for key in train]
            if self.has_val:
                self._require_val(name)
                rows += [(name, "test", key) for key in self._test_images(name)]
        if not self.has_val:
            print(
                f"{self.root} has no val/: a fixed {TEST_FRACTION:.0%} of each class, chosen by a "
                "hash of the path, is held out for test",
                file=sys.stderr,
            )
        table = pd.DataFrame(rows, columns=["class", "split", "image"])
        sizes = self._sizes(table["image"].tolist())
        readable = [size is not None for size in sizes]
        if not all(readable):
            bad = table["image"][[not ok for ok in readable]]
            _report_unreadable([str(self.root / key) for key in bad], undecodable)
            table = table[readable].reset_index(drop=True)
        columns = zip(*filter(None, sizes), strict=True)
        table["width"], table["height"], table["bytes"] = columns
        return table

    def _sizes(self, images: Sequence[str]) -> list[tuple[int, int, int] | None]:
        """Width, height and bytes of each file, or None where its header cannot be read."""
        from PIL import Image

        def size(image: str) -> tuple[int, int, int] | None:
            try:
                with Image.open(self.root / image) as picture:
                    # Scaled up until its short side fits, a strip would fill the memory.
                    strip = max(picture.size) > _LONGEST_STRIP * min(picture.size)
                    return None if strip else (*picture.size, self.bytes_of(image))
            except Exception:  # of many kinds, whatever the damaged bytes lead to
                return None

        sizes: list[tuple[int, int, int] | None] = []
        # Most of the time goes to waiting for the file system.
        with (
            Progress(len(images), "Reading headers", "images") as bar,
            ThreadPoolExecutor(max_workers=min(32, 4 * (os.cpu_count() or 1))) as pool,
        ):
            for found in pool.map(size, images):
                sizes.append(found)
                bar.update()
        return sizes

    def complaints(self, table: pd.DataFrame) -> list[str]:
        return []

    def path(self, image: str) -> Path:
        return self.root / image

    def bytes_of(self, image: str) -> int:
        return (self.root / image).stat().st_size

    def open(self, image: str) -> Image.Image:
        from PIL import Image

        path = self.root / image
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except FileNotFoundError as error:
            raise UserError(
                f"{path} is gone since the index was made",
                "put it back, or remake the index: snakemake --forcerun index",
            ) from error
        except Exception as error:  # as in `_sizes`
            raise UserError(f"cannot decode {path}: {error}", "replace or remove it") from error


def _require_utf8(folder: Path, name: str) -> None:
    if not is_text(name):
        raise UserError(
            f"the name of {str(folder)!r}/{os.fsencode(name)!r} is not UTF-8",
            "rename it (convmv does whole folders), and run again",
        )


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _report_unreadable(paths: list[str], undecodable: str) -> None:
    listed = "\n    ".join(paths[:_SHOWN])
    more = f"\n    and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    what = f"{len(paths)} file(s) are not readable images, or thin strips:\n    {listed}{more}"
    if undecodable == "skip":
        print(f"left out: {what}", file=sys.stderr)
        return
    raise UserError(
        what,
        "replace or remove them and run again, or leave them out: `undecodable: skip` in the data "
        "set's config",
    )
