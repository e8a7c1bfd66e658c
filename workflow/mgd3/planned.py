"""Rows of the published tables that this version cannot make yet. Importable without torch.

Presets hold a table's rows as the paper prints them. Those that name something from `PLANNED` stop
the run with one message, or are left out where the configuration says `planned: skip`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UserError
from .evaluation.protocols import PROTOCOLS
from .generators.registry import GENERATORS
from .methods import METHODS
from .names import DISCOVERIES

# What presets name and registries lack. A name that enters its registry is planned no longer,
# whether or not it is still listed here.
PLANNED: dict[str, tuple[str, ...]] = {}
_REGISTRIES: dict[str, Mapping[str, Any]] = {
    "method": METHODS,
    "generator": GENERATORS,
    "modes": DISCOVERIES,
    "protocol": PROTOCOLS,
}
_LISTS = {"runs": ("method", "generator", "modes"), "evaluation": ("protocol",)}


def is_planned(kind: str, name: Any) -> bool:
    """Whether `name` is one that a later version will have in the registry of its kind."""
    return name in PLANNED.get(kind, ()) and name not in _REGISTRIES[kind]


def set_aside(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration without the entries of `runs` and `evaluation` that are planned.

    Of a sweep (`modes: [kmeans, gmm]`) only the planned values go. What else is wrong with the
    configuration is left to the schema.

    Returns:
        What is left, and a clause for each thing that was taken out.
    """
    left, gone = dict(raw), []
    for key, kinds in _LISTS.items():
        entries = raw.get(key)
        if not isinstance(entries, list):
            continue
        kept = []
        for position, entry in enumerate(entries):
            if isinstance(entry, Mapping):
                entry, missing = _without_planned(entry, kinds)
                gone += [f"{kind} {name!r} ({key}[{position}])" for kind, name in missing]
            if entry is not None:
                kept.append(entry)
        left[key] = kept
    return left, gone


def _without_planned(
    entry: Mapping[str, Any], kinds: tuple[str, ...]
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    kept: dict[str, Any] | None = dict(entry)
    missing = []
    for kind in kinds:
        value = entry.get(kind)
        values = value if isinstance(value, list) else [value]
        planned = [v for v in values if isinstance(v, str) and is_planned(kind, v)]
        missing += [(kind, v) for v in planned]
        if planned and len(planned) == len(values):
            kept = None
        elif planned and kept is not None:
            kept[kind] = [v for v in values if v not in planned]
    return kept, missing


def available(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration as it can be run now, and what `planned: skip` left out of it.

    Raises:
        UserError: something is planned and the configuration does not say to skip it; or nothing
            is left.
    """
    left, gone = set_aside(raw)
    if not gone:
        return dict(raw), []
    told = ", ".join(gone)
    if raw.get("planned", "fail") != "skip":
        raise UserError(
            f"not in this version yet: {told}",
            "leave such rows out with `--config planned=skip`, or take a newer release",
        )
    for key in _LISTS:
        if raw.get(key) and not left[key]:
            raise UserError(
                f"nothing is left in `{key}`: not in this version yet: {told}",
                "take a newer release, or list something this version has",
            )
    return left, gone
