"""The rows of CIFAR's binary files, from a folder or from an archive."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..base.errors import UserError
from .archives import archives
from .cifar import SIDE, Binary
from .leftovers import shown


@dataclass(frozen=True)
class Rows:
    """The images of all files, in their order.

    Attributes:
        root: where the files lie.
        files: of each file its rows, uint8 [n, labels + 3072].
        labels: of each image its class, int64 [N].
        split: "train" or "test", of each image; str [N].
        keys: of each image.
        at: key -> position.
    """

    root: Path
    files: Mapping[str, np.ndarray]
    labels: np.ndarray
    split: np.ndarray
    keys: list[str]
    at: Mapping[str, int]

    def pixels(self, images: Sequence[str]) -> np.ndarray:
        """uint8 [n, 3, 32, 32] by key, copied.

        Raises:
            UserError: there is no such image.
        """
        try:
            positions = np.fromiter(map(self.at.__getitem__, images), np.int64, len(images))
        except KeyError as error:
            raise UserError(
                f"{self.root} has no image {error.args[0]}",
                "run the same command again: it plans with the images that are there now",
            ) from error
        found = np.empty((len(images), 3 * SIDE * SIDE), dtype=np.uint8)
        start = 0
        for rows in self.files.values():
            here = np.flatnonzero((positions >= start) & (positions < start + len(rows)))
            found[here] = rows[positions[here] - start, -found.shape[1] :]
            start += len(rows)
        return found.reshape(-1, 3, SIDE, SIDE)

    def fewest(self, split: str, classes: int) -> int:
        """The images of the smallest class of a split."""
        return int(np.bincount(self.labels[self.split == split], minlength=classes).min())


def read_rows(root: Path, name: str, binary: Binary) -> Rows:
    """What lies at `root`: the files of a data set, or an archive of them.

    Args:
        name: of the data set.

    Raises:
        UserError: a file is missing, damaged or unreadable.
    """
    again = f"unpack {archives()[name].url} again"
    wanted = (*binary.digests, binary.names)
    content, there = (_members if root.is_file() else _mapped)(root, wanted)
    if missing := [file for file in wanted if file not in content]:
        raise _lacks(root, name, missing, there, again)
    listed = content[binary.names].tobytes().decode(errors="replace").split()
    if listed != [*binary.classes]:
        raise UserError(
            f"{binary.names} of {root} lists {len(listed)} names ({shown(listed)}) and not the "
            f"{len(binary.classes)} classes of {name}",
            again,
        )
    files, labels = {}, {}
    for file in binary.digests:
        data = content[file]
        if len(data) % binary.row:
            raise UserError(
                f"{file} of {root} is damaged: its {len(data):,} bytes are not whole images of "
                f"{binary.row:,}",
                again,
            )
        files[file] = data.reshape(-1, binary.row)
        labels[file] = files[file][:, binary.labels - 1].astype(np.int64)
        if len(data) and labels[file].max() >= len(binary.classes):
            raise UserError(
                f"{file} of {root} is damaged: it has the label {labels[file].max()}, and there "
                f"are {len(binary.classes)} classes",
                again,
            )
    of_split = {
        split: np.concatenate([labels[file] for file in of])
        for split, of in (("train", binary.train), ("test", binary.test))
    }
    keys = [
        f"{split}/{binary.classes[label]}/{rank:04d}"
        for split, found in of_split.items()
        for label, rank in zip(found.tolist(), _ranks(found).tolist(), strict=True)
    ]
    return Rows(
        root,
        files,
        np.concatenate([*of_split.values()]),
        np.repeat([*of_split], [len(found) for found in of_split.values()]),
        keys,
        {key: position for position, key in enumerate(keys)},
    )


def _ranks(labels: np.ndarray) -> np.ndarray:
    """How many images of the same label come before each one: int64 [n], of labels [n]."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return found


def _lacks(
    root: Path, name: str, missing: Sequence[str], there: Sequence[str], again: str
) -> UserError:
    """What lies there instead of the files."""
    archive = archives()[name]
    if not root.exists():
        return UserError(f"no file or folder {root}", f"run mgd3 fetch-dataset --name {name}")
    what = f"{root} lacks {shown(missing)} of {name}"
    if root.is_dir() and archive.folder in there:
        return UserError(what, f"set `root` to {root / archive.folder}")
    if missing[0].removesuffix(".bin") in there:
        return UserError(
            f"{what}, and holds the pickled files of the version for Python",
            f"take the binary version, {archive.url}",
        )
    if root.is_dir() and "train" in there:
        return UserError(
            f"{what}, and holds a folder train/",
            "pictures in folders are a data set of another `name`, JPEG copies of CIFAR-10 "
            "`cifar10-jpeg`",
        )
    return UserError(what, again)


def _mapped(folder: Path, wanted: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The bytes of those of some files that are in a folder; and the names of all of them.

    Raises:
        UserError: one cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        for name in wanted:
            if name in there:
                found[name] = (
                    np.memmap(folder / name, dtype=np.uint8, mode="r")
                    if (folder / name).stat().st_size
                    else np.empty(0, dtype=np.uint8)  # an empty file cannot be mapped
                )
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}", "mend it, or its permissions"
        ) from error
    return found, there


def _members(archive: Path, wanted: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """As `_mapped`, of a tar archive, in whatever folder of it.

    Raises:
        UserError: it is damaged, or no such archive.
    """
    found: dict[str, np.ndarray] = {}
    there: list[str] = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                there.append(name)
                if member.isfile() and name in wanted and name not in found:
                    with tar.extractfile(member) as file:
                        found[name] = np.frombuffer(file.read(), dtype=np.uint8)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"cannot read {archive}: {error}", "it is damaged, or no tar archive: fetch it again"
        ) from error
    return found, there
