"""What a class is called outside its data set. Importable without torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..base.errors import UserError
from .imagenet import RESOURCES, imagenet_wnids

NEW = "new"


@dataclass(frozen=True)
class Meaning:
    """How a generator trained elsewhere can be told of a class.

    Attributes:
        wnid: its WordNet id among the 1,000 of ImageNet-1K, or None.
        prompt: its description for a text-to-image generator, or None.
        new: the generator does not know it yet: it gets a label row of its own, to be fine-tuned.
    """

    wnid: str | None = None
    prompt: str | None = None
    new: bool = False


@cache
def imagenet_prompts() -> Mapping[str, str]:
    """Wnid -> prompt for the classes of ImageNet-1K, from resources/prompts.tsv."""
    path = RESOURCES / "prompts.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["wnid"]: row["prompt"] for row in rows}


def imagenet_meanings(wnids: Sequence[str]) -> dict[str, Meaning]:
    """Of classes that are keyed by their wnids."""
    prompts = imagenet_prompts()
    return {wnid: Meaning(wnid, prompts.get(wnid)) for wnid in wnids}


def read_classes(path: Path) -> dict[str, Meaning]:
    """The meanings in a user's classes.tsv, by class folder.

    It has a header with the column `class` and one or both of `wnid` and `prompt`, separated by
    tabs. `wnid` is one of ImageNet-1K, or `new` for a class to be fine-tuned, or empty. A class
    with a wnid and no prompt gets ImageNet's prompt.

    Raises:
        UserError: the file or a column is missing; a class is listed twice, has no meaning, or has
            a wnid that ImageNet-1K does not.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", "mend `classes` of the data set") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "write it as UTF-8 text") from error
    if "class" not in columns or not columns & {"wnid", "prompt"}:
        raise UserError(
            f"{path} has the columns {sorted(columns)}",
            "its first line names tab-separated columns: class, and wnid or prompt or both",
        )
    known, meanings = set(imagenet_wnids()), {}
    for line, row in enumerate(rows, start=2):
        name, wnid, prompt = ((row.get(c) or "").strip() for c in ("class", "wnid", "prompt"))
        if name in meanings:
            raise UserError(f"{path}, line {line}: class {name!r} is listed twice", "remove one")
        if wnid not in ("", NEW) and wnid not in known:
            raise UserError(
                f"{path}, line {line}: {wnid!r} is no wnid of ImageNet-1K",
                "write a wnid such as n01440764 (workflow/mgd3/resources/subsets.tsv), or `new`",
            )
        if not wnid and not prompt:
            raise UserError(
                f"{path}, line {line}: class {name!r} has no wnid and no prompt",
                "write a wnid, a prompt, or `new` as its wnid",
            )
        meanings[name] = Meaning(
            wnid if wnid not in ("", NEW) else None,
            prompt or imagenet_prompts().get(wnid),
            wnid == NEW,
        )
    return meanings


def folder_meanings(classes: Sequence[str]) -> dict[str, Meaning]:
    """Of class folders without a classes.tsv: a folder named by a wnid means it."""
    known = set(imagenet_wnids())
    wnids = [name for name in classes if re.fullmatch(r"n\d{8}", name) and name in known]
    return imagenet_meanings(wnids)


def require_rows(meanings: Mapping[str, Meaning], classes: Sequence[str], path: str) -> None:
    """Raises UserError listing every class folder without a row, or else every row without one."""
    for left, right, what, mend in (
        (classes, meanings, "class folders have no row in", "add a row for each"),
        (meanings, classes, "rows have no class folder:", "remove them, or mend the names in"),
    ):
        held = set(right)
        if missing := [name for name in left if name not in held]:
            listed = "\n    ".join(missing)
            raise UserError(f"{len(missing)} {what} {path}\n    {listed}", f"{mend} {path}")
