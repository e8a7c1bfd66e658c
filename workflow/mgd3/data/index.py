"""Stage `index`: list every image of a data set with its class and split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..base import artifacts
from ..base.errors import NOTE, UserError
from .registry import Dataset, Source

_SHOWN = 20


def write_index(dataset: Dataset, output: Path) -> None:
    """Write the index: Parquet with `class`, `split`, `image`, `width`, `height`, `bytes`.

    One row an image. By `bytes`, the size of its file, a later change of the data is noticed.

    Raises:
        UserError: missing folders, empty classes, unreadable images (all named), or other counts
            of images than the known ones, unless the data set's settings let them pass.
    """
    table = dataset.source.table(dataset.undecodable)
    _check_counts(dataset, table)
    seen = table.attrs.get("notes", [])
    table = hold_out_validation(dataset, table)
    _require_every_class(dataset, table)
    table = table.sort_values(["class", "split", "image"], ignore_index=True)
    # What names alone tell was told when the run began.
    told, found = dataset.source.notes(), [*seen, *dataset.source.notes_on(table)]
    notes = [*told, *found]
    for note in told:
        print(f"{dataset.name}: {note}", file=sys.stderr)
    for note in found:
        print(f"{NOTE}{dataset.name}: {note}", file=sys.stderr)
    counts = table["split"].value_counts()
    print(
        f"{dataset.name}: {table['class'].nunique()} classes; "
        + ", ".join(f"{n} {split}" for split, n in counts.items()),
        file=sys.stderr,
    )
    artifacts.save_table(
        output,
        table[["class", "split", "image", "width", "height", "bytes"]],
        {
            "dataset": dataset.name,
            "classes": dataset.source.classes(),
            "notes": notes,
            **dataset.settings(),
        },
    )


def hold_out_validation(dataset: Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """A source's table with the validation images of each class in a split of their own."""
    table, train = table.copy(), table[table["split"] == "train"]
    held: set[str] = set()
    for _, images in train.groupby("class", sort=False)["image"]:
        held |= dataset.source.validation_images(images.tolist(), dataset.validation_fraction)
    table.loc[table["image"].isin(held) & (table["split"] == "train"), "split"] = "validation"
    return table


def _require_every_class(dataset: Dataset, table: pd.DataFrame) -> None:
    """Raise UserError where leaving out undecodable images has left a class without any."""
    for split in ("train", "test"):
        there = set(table.loc[table["split"] == split, "class"])
        if missing := [name for name in dataset.source.classes() if name not in there]:
            raise UserError(
                f"no {split} image of class {missing[0]!r} of {dataset.name} can be read "
                f"({len(missing)} classes without any)",
                "add images of it, or leave the class out of the data set",
            )


def _check_counts(dataset: Dataset, table: pd.DataFrame) -> None:
    complaints = dataset.source.complaints(table)
    if not complaints:
        return
    more = f"\n    and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
    what = f"{dataset.name} is not complete:\n    " + "\n    ".join(complaints[:_SHOWN]) + more
    if dataset.incomplete == "warn":
        print(f"warning: {what}", file=sys.stderr)
        return
    raise UserError(
        what,
        "figures would not compare with published ones: complete it, or go on all the same with "
        f"{{name: {dataset.name}, incomplete: warn}}",
    )


@dataclass(frozen=True)
class Index:
    """A data set's index as read back: `table` as written, `classes` in label order, `notes` what
    a user should know of it, a sentence each."""

    table: pd.DataFrame
    classes: list[str]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Index:
        metadata = artifacts.table_metadata(path)
        return cls(artifacts.load_table(path), metadata["classes"], metadata.get("notes", []))

    def require_unchanged(self, source: Source, images: Sequence[str]) -> None:
        """Raise UserError when images are gone, or their files have another size, since indexed.

        Only the size is compared: it costs a look-up in the file system, not a reading.
        """
        indexed = dict(zip(self.table["image"], self.table["bytes"], strict=True))

        def differs(image: str) -> bool:
            try:
                return source.bytes_of(image) != indexed[image]
            except (OSError, KeyError):
                return True

        if changed := [image for image in images if differs(image)]:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"image {changed[0]}{more} changed or went since the index was made",
                "put the old files back, or run the same command again: it plans with the images "
                "that are there now",
            )

    def images(self, name: str, split: str) -> list[str]:
        """Keys of the images of one class and split, in sorted order."""
        table = self.table
        return table.loc[(table["class"] == name) & (table["split"] == split), "image"].tolist()

    def split(self, split: str) -> tuple[list[str], list[int]]:
        """Keys and labels of all images of a split, by class in label order."""
        label_of = {name: label for label, name in enumerate(self.classes)}
        rows = self.table[self.table["split"] == split]
        labels = rows["class"].map(label_of)
        order = labels.argsort(kind="stable")
        return rows["image"].iloc[order].tolist(), labels.iloc[order].tolist()
