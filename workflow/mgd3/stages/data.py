"""Jobs of the data: archives, the index, pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from . import fields, formats
from .contract import Job
from .fields import Choice, OutFile, OutFolder, Text


def _splits() -> tuple[str, ...]:
    from ..data.registry import SPLITS

    return SPLITS


def _archives() -> list[str]:
    from ..data.archives import archives

    return list(archives())


class FetchDataset(Job, version=1, online=True):
    """Fetch, check and unpack an archive of images."""

    name: Annotated[str, Choice(_archives), "of a data set"]
    folder: Annotated[Path, OutFolder(recorded=False)]
    url: Annotated[str | None, Text(), "a mirror of the archive"] = None

    def run(self) -> None:
        from ..data.archives import fetch_dataset

        fetch_dataset(self.name, self.folder, self.url)


class Index(Job, version=3, reads_images=True):
    """List every image with its class and split."""

    dataset: fields.Dataset
    output: Annotated[Path, OutFile(".parquet")]

    def run(self) -> None:
        from ..data import make_dataset
        from ..data.index import write_index

        write_index(make_dataset(self.dataset), self.output)


class Pixels(Job, version=2, reads_images=True):
    """A split of real images at an evaluation's size."""

    dataset: fields.Dataset
    index: formats.Index
    split: Annotated[str, Choice(_splits)]
    size: Annotated[
        str,
        fields.Pixels(cropped=True),
        "side in pixels; 256-224: resized to 256, the central 224 cut out; 224-tensor, "
        "224-tensor-aliased: resized as a tensor",
    ]
    output: Annotated[Path, OutFile(".safetensors")]

    def run(self) -> None:
        from ..data import make_dataset
        from ..data.pixels import write_pixels

        write_pixels(make_dataset(self.dataset), self.index, self.split, self.size, self.output)
