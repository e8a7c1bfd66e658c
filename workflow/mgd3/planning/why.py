"""Why an artefact is what it is, and why one is made anew: identities in words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ..base import headers
from ..base.errors import UserError
from ..base.identity import SHORT, Identity, difference
from .graph import left
from .layout import Layout

_MARK = re.compile(rf"~([0-9a-f]{{{SHORT}}})(\.(safetensors|parquet|json))?$")
# Of the values of a setting, so many signs; of what differs, so many clauses a stage.
_LONGEST, _MOST = 100, 3


class Artefacts:
    """What lies below a folder, by the digits in its path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return dict(self._walk())

    def _walk(self) -> Iterator[tuple[str, Path]]:
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                if name[0] != "." and (found := _MARK.search(name)):
                    yield found[1], Path(folder, name)

    def path(self, digest: str) -> Path | None:
        return self._paths.get(digest[:SHORT])

    def find(self, digest: str) -> Identity | None:
        """What an artefact says of itself; None where it is not there, or says nothing."""
        return None if (path := self.path(digest)) is None else said_by(path)


def said_by(path: Path) -> Identity | None:
    """What an artefact, or a folder of files of one identity, says it is.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_dir() or (path / headers.FOLDER_HEADER).is_file():
        return headers.identity_of(path)
    files = sorted(path.glob("*.safetensors"))
    return headers.identity_of(files[0]) if files else None


def _said_or_refused(path: Path) -> Identity:
    if (found := said_by(path)) is None:
        raise UserError(
            f"{path} does not say what it is",
            "name an artefact of the workflow: a file or folder with ~ and twelve digits",
        )
    return found


def described(path: Path, artefacts: Artefacts) -> list[str]:
    """An artefact's identity in words. Raises UserError where it says nothing."""
    of = _said_or_refused(path).description
    lines = [f"{of['stage']}, version {of['version']}"]
    for owner in of["owners"]:
        package = f" of {owner['distribution']}" if "distribution" in owner else ""
        lines.append(f"  {owner['kind']} {owner['name']}{package}, version {owner['version']}")
    lines += [f"  {name}: {_short(value)}" for name, value in of["settings"].items()]
    for name, digest in of["inputs"].items():
        lines.append(f"  reads {name}: {artefacts.path(digest) or digest[:SHORT]}")
    return lines


def compared(old: Path, new: Path, artefacts: Artefacts) -> list[str]:
    """How one artefact differs from another, a line each. Raises UserError as `described`."""
    one, two = _said_or_refused(old), _said_or_refused(new)
    return difference(one, two, artefacts.find) or ["the same"]


def changes(layout: Layout, root: Path = Path("results")) -> list[str]:
    """For each stage that has jobs left, how the first differs from the newest artefact of the same
    name: a sentence. Nothing for what was never made."""
    artefacts, told = Artefacts(root), {}
    for node in left(layout):
        if node.stage not in told and (old := _sibling(Path(node.path))) is not None:
            try:
                if before := said_by(old):
                    clauses = difference(before, node.identity, artefacts.find)
                    told[node.stage] = f"{node.stage} anew: {_some(clauses)}"
            except UserError as error:
                told[node.stage] = f"{node.stage} anew: {error.what}"
    return [*told.values(), *_taken(layout)]


def _taken(layout: Layout) -> list[str]:
    """That a name shows the reports of another configuration."""
    mark = Path(layout.view())
    others = [] if mark.exists() else sorted(mark.parent.glob(f"{mark.name.partition('~')[0]}~*"))
    return [
        f"{mark.parent} shows another configuration's reports, which stay in "
        f"~{other.name.partition('~')[2]}/; from now on it shows this one's"
        for other in others
    ]


def _sibling(path: Path) -> Path | None:
    """The newest artefact of the same slug in the same folder."""
    slug = _MARK.sub("", path.name)
    if slug == path.name or not path.parent.is_dir():
        return None
    mark = re.compile(rf"{re.escape(slug)}{_MARK.pattern}")
    found = [e for e in os.scandir(path.parent) if mark.fullmatch(e.name)]
    return max((Path(e.path) for e in found), key=lambda p: p.stat().st_mtime, default=None)


def _some(clauses: list[str]) -> str:
    more = f"; and {len(clauses) - _MOST} more" if len(clauses) > _MOST else ""
    return "; ".join(clauses[:_MOST]) + more


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
