"""Stage `pixels`: real splits at an evaluation's size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from ..base import artifacts
from ..base.device import total_memory
from ..base.errors import UserError
from .images import CROPS, decode_images, resize_centre_crop, settle_undecodable
from .index import Index
from .registry import Dataset


def write_pixels(dataset: Dataset, index_path: Path, split: str, size: str, output: Path) -> None:
    """Write a split of real images at an evaluation's size, as a distilled set is written.

    Args:
        size: side in pixels, as `224`; or as `256-224` where the shorter side is resized to 256
            before the central 224 are cut out; or as `224-tensor` for another of `CROPS`.
    """
    index = Index.read(index_path)
    images, labels = index.split(split)
    if not images:
        raise UserError(
            f"{dataset.name} has no {split} images", "set validation_fraction, or add images"
        )
    _require_memory(dataset.name, split, size, len(images))
    index.require_unchanged(dataset.source, images)
    sides, _, how = size.partition("-tensor")
    resized, side = (int(part) for part in (sides.split("-")[0], sides.split("-")[-1]))
    crop = CROPS[f"tensor{how}" if "-tensor" in size else "pil"]
    if side != resized:
        crop = partial(resize_centre_crop, resized=resized)
    found = decode_images(dataset.source, images, side, crop)
    whose = f"{split} images of {dataset.name}"
    settle_undecodable(found.errors, dataset.undecodable, whose, len(images))
    label_of = dict(zip(images, labels, strict=True))
    pixels, labels = found.pixels, [label_of[key] for key in found.images]
    _require_same_classes(dataset.name, split, index, found.images)
    artifacts.save_tensors(
        output,
        {"images": pixels, "labels": torch.tensor(labels)},
        {"classes": index.classes, "split": split},
    )


def _require_same_classes(name: str, split: str, index: Index, decoded: list[str]) -> None:
    """Raise UserError where leaving out undecodable images has emptied a class."""
    rows = index.table[index.table["split"] == split]
    left = set(rows.loc[rows["image"].isin(decoded), "class"])
    if empty := sorted(set(rows["class"]) - left):
        raise UserError(
            f"no {split} image of class {empty[0]!r} of {name} can be decoded "
            f"({len(empty)} classes without any)",
            "replace the damaged images, or leave the class out of the data set",
        )


def _require_memory(name: str, split: str, size: str, count: int) -> None:
    """Raise UserError where the pixels of a split cannot be held in this machine's memory."""
    side = int(size.partition("-tensor")[0].split("-")[-1])
    needed, there = count * 3 * side * side, total_memory()
    if needed > there:
        raise UserError(
            f"the {split} split of {name} takes {needed / 1e9:.0f} GB at {side} px, and this "
            f"machine has {there / 1e9:.0f} GB of memory",
            "choose a subset, a smaller protocol, or a larger machine",
        )
