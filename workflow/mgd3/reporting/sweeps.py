"""Which runs of a configuration make a curve. Importable without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Settings whose sweep has a figure.
SWEPT_FIGURES = ("t_sg", "lambda")


def curves(rows: Sequence[Mapping[str, Any]], setting: str) -> list[list[Mapping[str, Any]]]:
    """Groups of two or more runs that differ in a setting only, sorted by it.

    Args:
        rows: runs with `method`, `generator` and `settings`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        settings = row["settings"]
        if setting in settings:
            rest = {key: value for key, value in settings.items() if key != setting}
            key = json.dumps([row["method"], row["generator"], rest], sort_keys=True)
            groups.setdefault(key, []).append(row)
    return [
        sorted(group, key=lambda row: row["settings"][setting])
        for group in groups.values()
        if len(group) > 1
    ]
