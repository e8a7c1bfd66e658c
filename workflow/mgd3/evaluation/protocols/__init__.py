"""Evaluation protocols by name: plain data, importable without torch.

One module for each kind of protocol; its dataclass derives from `base.Protocol`, its entries are
added to `PROTOCOLS` here. The engine that runs them is the module of `mgd3.evaluation` that the
entry names.
"""

from __future__ import annotations

from ...base.errors import UserError, did_you_mean
from .base import (
    EpochTable,
    Optimiser,
    Plan,
    Precision,
    Protocol,
    Resize,
    StepBudget,
)
from .glad import DSA_OPERATIONS, GLAD_PROTOCOLS, GladPlan, GladProtocol
from .hard import HARD_PROTOCOLS, Augmentation, HardPlan, HardProtocol
from .soft import SOFT_PROTOCOLS, SoftPlan, SoftProtocol

__all__ = [
    "DSA_OPERATIONS",
    "PROTOCOLS",
    "Augmentation",
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

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (*HARD_PROTOCOLS, *SOFT_PROTOCOLS, *GLAD_PROTOCOLS)
}


def get_protocol(name: str) -> Protocol:
    """Raises UserError for a name that is not in the registry."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}", did_you_mean(name, PROTOCOLS))
    return PROTOCOLS[name]
