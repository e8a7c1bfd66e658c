"""Evaluation protocols by name: plain data, importable without torch.

One module for each kind of protocol; its dataclass derives from `base.Protocol`, its entries are
added to `PROTOCOLS` here. The engine that runs them is the module of `mgd3.evaluation` that the
entry names; with dots in its name, of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...base.registry import Registry, own_entries
from ...base.settings import require_typed
from .base import (
    EpochTable,
    Optimiser,
    Plan,
    Precision,
    Protocol,
    Resize,
    StepBudget,
)
from .dc import DC_PROTOCOLS, DcPlan, DcProtocol
from .glad import DSA_OPERATIONS, GLAD_PROTOCOLS, GladPlan, GladProtocol
from .hard import HARD_PROTOCOLS, Augmentation, HardPlan, HardProtocol
from .soft import SOFT_PROTOCOLS, SoftPlan, SoftProtocol

__all__ = [
    "DSA_OPERATIONS",
    "PROTOCOLS",
    "Augmentation",
    "DcPlan",
    "DcProtocol",
    "EpochTable",
    "GladPlan",
    "GladProtocol",
    "HardPlan",
    "HardProtocol",
    "Optimiser",
    "Plan",
    "Precision",
    "Protocol",
    "Resize",
    "SoftPlan",
    "SoftProtocol",
    "StepBudget",
    "get_protocol",
]


def _own() -> dict[str, Callable[[], Protocol]]:
    every = (*HARD_PROTOCOLS, *SOFT_PROTOCOLS, *GLAD_PROTOCOLS, *DC_PROTOCOLS)
    return own_entries({protocol.name: protocol for protocol in every})


def _check(name: str, found: Any) -> Protocol:
    if not isinstance(found, Protocol):
        raise TypeError("it is no mgd3.evaluation.protocols.Protocol")
    require_typed(found)
    if found.name != name:
        raise ValueError(f"it calls itself {found.name!r}")
    return found


# A package installed beside this one adds an entry by an entry point of the group.
PROTOCOLS: Registry[Protocol] = Registry("mgd3.protocols", "protocol", _own, _check)


def get_protocol(name: str) -> Protocol:
    """Raises UserError for a name that is not in the registry."""
    return PROTOCOLS.get_or_raise(name)
