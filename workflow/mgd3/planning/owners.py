"""Owners of settings and their versions: a change of one owner's results touches no other's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError, did_you_mean
from ..discovery import DISCOVERIES
from ..evaluation.protocols import PROTOCOLS
from ..generators.families import FAMILIES
from ..methods import METHODS
from ..teachers import TEACHERS

OWNERS: dict[str, Mapping[str, Any]] = {
    "method": METHODS,
    "discovery": DISCOVERIES,
    "protocol": PROTOCOLS,
    "generator": FAMILIES,
    "teacher": TEACHERS,
}


def owner_version(kind: str, name: str) -> int:
    """The version of an owner: 1, or what it was raised to.

    Args:
        kind: a key of `OWNERS`; "generator" is a family of generators.

    Raises:
        UserError: there is no such owner.
    """
    if name not in OWNERS[kind]:
        raise UserError(f"unknown {kind} {name!r}", did_you_mean(name, OWNERS[kind]))
    return OWNERS[kind][name].version


def version_of(stage: int, *owners: tuple[str, str]) -> int | str:
    """The version of a stage with the owners, (kind, name), that it calls: for a rule's `params`.

    It is the stage's alone while all owners have their first, so that declaring one reruns nothing.
    """
    raised = [f"{kind} {version}" for kind, name in owners
              if (version := owner_version(kind, name)) > 1]  # fmt: skip
    return ", ".join([str(stage), *raised]) if raised else stage
