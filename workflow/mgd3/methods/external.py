"""Images that were made elsewhere: the folder `<class>/*` that other repositories write.

A folder is checked before any job starts.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from ..base.errors import UserError, is_text
from ..base.paths import expanded, in_one_spelling
from ..base.settings import Setting
from ..data.imagefolder import ImageFolder
from ..data.leftovers import SUFFIXES, Leftovers, class_folders, is_image, shown
from .base import Job, MethodSettings

if TYPE_CHECKING:
    import torch


class Settings(MethodSettings):
    """Images of another repository, judged beside one's own."""

    label: ClassVar = "images of"
    mirrors: ClassVar = False
    deterministic: ClassVar = True
    path: Annotated[
        str,
        Field(min_length=1),
        Setting("folder of images that were made elsewhere, <class>/*"),
    ]

    @classmethod
    def title(cls, settings: Mapping[str, Any], generator: str | None) -> str:
        return f"{cls.label} {settings['path']}"

    @classmethod
    def slug_parts(cls, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
        one = {**settings, "path": in_one_spelling(settings["path"])}
        return super().slug_parts(one, defaults)


def distil(job: Job) -> dict[str, torch.Tensor]:
    """The first `ipc` images of each class, cropped and resized to the data set's size (ADM)."""
    from ..data.images import read_images

    folder = expanded(job.settings["path"])
    chosen = first_images(folder, job.classes, job.ipc)
    # Keys of a source are relative to its root, here as in a data set of one's own.
    source, size = ImageFolder(folder), job.dataset.size
    images = {name: read_images(source, keys, size) for name, keys in chosen.items()}
    sizes = Counter(source.open(key).size for keys in chosen.values() for key in keys)
    listed = ", ".join(f"{n} of {width}x{height}" for (width, height), n in sizes.most_common(5))
    more = f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
    print(f"{folder}: {sizes.total()} images, {listed}{more}; here {size}x{size}", file=sys.stderr)
    return images


def first_images(folder: str | Path, classes: Sequence[str], ipc: int) -> dict[str, list[str]]:
    """Paths in `folder` of the first `ipc` images of each class in lexicographic order.

    That is the rule of the field's data loaders, whatever the images are called.

    Raises:
        UserError: the folder or a class is missing, or has fewer images.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "mend `path` of the method `external`")
    if missing := [name for name in classes if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder} has no folder of class {missing[0]!r} ({len(missing)} classes missing; "
            f"it has {shown(class_folders(folder)) or 'no folders'})",
            "name its folders by the class keys of the data set: wnids for ImageNet",
        )
    chosen = {}
    for name in classes:
        files = sorted(entry.name for entry in os.scandir(folder / name) if is_image(entry))
        if len(files) < ipc:
            raise UserError(
                f"{folder / name} has {len(files)} images, but ipc is {ipc}",
                f"lower `ipc`, or add images (known endings: {' '.join(SUFFIXES)})",
            )
        if unnamed := [file for file in files[:ipc] if not is_text(file)]:
            raise UserError(
                f"the name of {folder / name}/{os.fsencode(unnamed[0])!r} is not UTF-8", "rename it"
            )
        chosen[name] = [f"{name}/{file}" for file in files[:ipc]]
    return chosen


def check(folder: str | Path, classes: Sequence[str], ipc: int) -> None:
    """Look at a folder without reading its images, and say which of its classes are not taken.

    Raises:
        UserError: see `first_images`.
    """
    first_images(folder, classes, ipc)
    folder, left = expanded(folder), Leftovers(expanded(folder))
    for name in classes:
        left.look(name)
    for note in left.notes():
        print(f"note: {folder}: {note}", file=sys.stderr)
    if extra := sorted(set(class_folders(folder)) - set(classes)):
        print(
            f"note: {folder} has {len(extra)} folders of no class, left out: {shown(extra)}",
            file=sys.stderr,
        )
