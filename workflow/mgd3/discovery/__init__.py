"""From latents to modes: one file an algorithm, named after it. Importable without torch.

A package installed beside this one adds an algorithm by an entry point in the group
`mgd3.discoveries` that names a class like those here (`base.DiscoverySettings`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.registry import Registry, modules_of, settings_in
from .base import DiscoverySettings

if TYPE_CHECKING:
    from .clustering import Found

__all__ = ["DISCOVERIES", "DiscoverySettings", "algorithm_of"]

# Modules of this package that are no algorithms.
_NO_ALGORITHMS = ("base", "clustering", "modes")


def _own() -> dict[str, Callable[[], type[DiscoverySettings]]]:
    modules = modules_of(__name__, str(Path(__file__).parent), _NO_ALGORITHMS)
    return {name: settings_in(module) for name, module in modules.items()}


def _check(name: str, found: Any) -> type[DiscoverySettings]:
    if not (isinstance(found, type) and issubclass(found, DiscoverySettings)):
        raise TypeError("it is no class derived from mgd3.discovery.DiscoverySettings")
    if not callable(getattr(importlib.import_module(found.__module__), "discover", None)):
        raise TypeError(f"its module {found.__module__} has no function discover")
    return found


DISCOVERIES: Registry[type[DiscoverySettings]] = Registry(
    "mgd3.discoveries", "mode discovery algorithm", _own, _check
)


def algorithm_of(name: str) -> Callable[..., Found]:
    """The function `discover` of an algorithm. Raises UserError for an unknown name."""
    return importlib.import_module(DISCOVERIES.get_or_raise(name).__module__).discover
