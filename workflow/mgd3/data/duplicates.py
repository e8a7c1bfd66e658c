"""Equal files in a data set: a test image that is trained on tells nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .leftovers import plural

if TYPE_CHECKING:
    import pandas as pd


def duplicate_notes(table: pd.DataFrame, path: Callable[[str], Path]) -> list[str]:
    """What is to be said of images that are there twice, byte for byte.

    Only files of equal size are read, and only where they could be told of: images of other splits
    or of other classes.

    Args:
        table: the index's, with its three splits.
        path: the file of an image.
    """
    alike = table.groupby("bytes", sort=False)[["split", "class"]].transform("nunique").max(axis=1)
    rows = table[alike > 1].copy()
    if rows.empty:
        return []
    rows["digest"] = [_digest(path(image)) for image in rows["image"]]
    notes = []
    for held, others in (("test", ("train", "validation")), ("validation", ("train",))):
        of_split = rows[rows["split"] == held]
        seen = rows[rows["split"].isin(others)].drop_duplicates("digest").set_index("digest")
        twice = of_split[of_split["digest"].isin(seen.index)]
        if len(twice):
            first = twice.iloc[0]
            total = int((table["split"] == held).sum())
            notes.append(
                f"{len(twice):,} of {plural(total, f'{held} image')} "
                f"{'is a training image' if len(twice) == 1 else 'are training images'}, too "
                f"(equal files): {first['image']} is {seen.loc[first['digest'], 'image']}"
            )
    classes = rows.groupby("digest")["class"].nunique()
    several = rows[rows["digest"].isin(classes[classes > 1].index)]
    if len(several):
        same = several[several["digest"] == several.iloc[0]["digest"]]
        pair = same.drop_duplicates("class")["image"].tolist()[:2]
        notes.append(
            f"{plural(several['digest'].nunique(), 'image')} in several classes at once (equal "
            f"files): {pair[0]} is {pair[1]}"
        )
    return notes


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
