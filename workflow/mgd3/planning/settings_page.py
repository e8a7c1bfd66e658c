"""The table of every owner's settings for the docs: `python -m mgd3.planning.settings_page`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from ..base.settings import ABSENT, SettingField, Settings, wanted
from ..discovery import DISCOVERIES
from ..evaluation.protocols import PROTOCOLS
from ..generators.registry import GENERATORS
from ..methods import METHODS, MethodSettings
from ..teachers import TEACHERS
from .schema import Configuration, DatasetChoice, EvaluationChoice, Resources, TuningChoice

_HEAD = """# Settings

Made by `python -m mgd3.planning.settings_page`; a test checks that it is current. A setting stands
in the file of its owner. Where a list *sweeps*, each of its values makes a row.
"""
_PARTS: tuple[tuple[str, type[Settings]], ...] = (
    ("Of a data set with settings", DatasetChoice),
    ("Of `evaluation`", EvaluationChoice),
    ("Of `tuning`", TuningChoice),
    ("Of `resources`", Resources),
)


def page() -> str:
    """Markdown."""
    out = [_HEAD, "## The configuration", "", *_table(Configuration.fields().values())]
    for title, part in _PARTS:
        out += ["", f"### {title}", "", *_table(part.fields().values())]
    out += ["", "## Methods"]
    for name, method in METHODS.items():
        out += ["", *_method(name, method)]
    for title, entries in (
        ("Mode discovery", {n: e.__doc__ for n, e in DISCOVERIES.items()}),
        ("Generators", {n: e.doc for n, e in GENERATORS.items()}),
        ("Protocols", {n: e.description for n, e in PROTOCOLS.items()}),
        ("Teachers", {n: f"{e.network} at {e.size} px" for n, e in TEACHERS.items()}),
    ):
        rows = [f"| `{name}` | {_cell(doc)} |" for name, doc in entries.items()]
        out += ["", f"## {title}", "", "| name | what it is |", "|---|---|", *rows]
    return "\n".join(out) + "\n"


def _method(name: str, method: type[MethodSettings]) -> list[str]:
    needs = f" Needs {', '.join(method.needs)}." if method.needs else ""
    lines = [f"### `{name}`", "", f"{method.__doc__}{needs}"]
    if method.fields():
        lines += ["", *_table(method.fields().values())]
    for objective, changed in method.by_objective.items():
        own = ", ".join(f"`{key}` {value}" for key, value in changed.items())
        lines += ["", f"With `objective: {objective}` the defaults are {own}."]
    return lines


def _table(fields: Iterable[SettingField]) -> list[str]:
    rows = []
    for field in fields:
        shown = "" if field.required else _default(field)
        takes = wanted(field.kind) + (" (sweeps)" if field.sweeps else "")
        rows.append(f"| `{field.key}` | {_cell(takes)} | {shown} | {_cell(field.setting.doc)} |")
    return ["| setting | takes | default | what it is |", "|---|---|---|---|", *rows]


def _default(field: SettingField) -> str:
    if field.default is ABSENT:
        return ""
    return _cell(json.dumps(field.default) if not isinstance(field.default, str) else field.default)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(page())
