"""Data sets that are one archive on the network: fast.ai's Imagenette and Imagewoof, and CIFAR.

fast.ai's are not the subsets of the papers: they have fewer training images, and other ones for
test. What CIFAR's hold is read by `cifar`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..base.errors import UserError, did_you_mean
from .imagenet import RESOURCES, ImageNet, subsets

# Written last, beside the images.
RECEIPT = "fetched.json"
# The folder of the images.
IMAGES = "images"


@dataclass(frozen=True)
class Archive:
    """An archive of images.

    Attributes:
        name: key of its data set.
        folder: the folder inside the archive that holds everything.
        checksums: of the file, as it was published at one time or another.
        counts: images for training and for test.
        subset: the subset of ImageNet whose classes it has, in that order, as train/<wnid>/* and
            val/<wnid>/*; empty where it holds something else.
    """

    name: str
    url: str
    folder: str
    checksums: tuple[str, ...]
    counts: tuple[int, int]
    subset: str


@cache
def archives() -> dict[str, Archive]:
    """By data-set key, from resources/archives.tsv."""
    with (RESOURCES / "archives.tsv").open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: Archive(
                name=row["name"],
                url=row["url"],
                folder=row["folder"],
                checksums=tuple(row["checksums"].split()),
                counts=(int(row["train"]), int(row["test"])),
                subset=row["subset"],
            )
            for row in csv.DictReader(file, delimiter="\t")
        }


def archive_folder(cache: str, name: str) -> str:
    """Where the archive of a data set is fetched to and unpacked, below the folder of caches."""
    return f"{cache}/datasets/{name}"


def archive_images(cache: str, name: str) -> str:
    """Where the images of a fetched archive lie."""
    return f"{archive_folder(cache, name)}/{IMAGES}"


class FetchedArchive(ImageNet):
    """The images of fast.ai's archive, once it is fetched: `root` holds its train/ and val/."""

    def __init__(self, root: Path, archive: Archive) -> None:
        super().__init__(root, subsets()[archive.subset], archive.counts)
        self.published = archive.name

    def preflight(self, most_ipc: int, validation_fraction: float) -> None:
        if self.root.is_dir():
            super().preflight(most_ipc, validation_fraction)


def fetch_dataset(name: str, folder: Path, url: str | None = None) -> None:
    """Stage `fetch-dataset`: fetch, check and unpack the archive of a data set into `folder`.

    `folder` gets images/ (what the archive holds), the archive, and at last `fetched.json`. An
    archive that was put there by hand is not fetched.

    Raises:
        UserError: an unknown name, or what `download.fetch` and `download.unpack` raise.
    """
    from ..base import artifacts
    from ..base.download import check, fetch, unpack

    if name not in archives():
        raise UserError(f"data set {name!r} is not fetched", did_you_mean(name, archives()))
    archive = archives()[name]
    file = folder / archive.url.rpartition("/")[2]
    fetch(url or archive.url, file, archive.checksums)
    files = unpack(file, folder / IMAGES, archive.folder)
    receipt = {
        "url": url or archive.url,
        "bytes": file.stat().st_size,
        "agrees_with": check(file, archive.checksums),
        "sha256": artifacts.sha256_of(file),
        "files": files,
    }
    artifacts.save_json(folder / RECEIPT, receipt)
