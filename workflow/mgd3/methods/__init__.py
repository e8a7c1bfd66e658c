"""Methods: everything that yields a distilled set. One file each; importable without torch.

A method's module is named after it. It has a class `Settings` (`base.MethodSettings`), which says
what the method is and takes, and `distil(job) -> {class: uint8 [ipc, 3, S, S]}` for the classes of
one block, which imports the work. A package installed beside this one adds a method by an entry
point in the group `mgd3.methods` that names such a class.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import UserError
from ..base.registry import Registry, modules_of, settings_in
from .base import EVERY, OBJECTIVES, Job, MethodSettings

if TYPE_CHECKING:
    import torch

__all__ = ["EVERY", "METHODS", "OBJECTIVES", "Job", "MethodSettings", "distiller", "get_method"]

# Modules of this package that are no methods; nor are packages.
_NO_METHODS = ("base", "blocks", "trajectories")


def _own() -> dict[str, Callable[[], type[MethodSettings]]]:
    modules = modules_of(__name__, str(Path(__file__).parent), _NO_METHODS)
    return {name: settings_in(module) for name, module in modules.items()}


def _check(name: str, found: Any) -> type[MethodSettings]:
    if not (isinstance(found, type) and issubclass(found, MethodSettings)):
        raise TypeError("it is no class derived from mgd3.methods.MethodSettings")
    if found.distils and not callable(getattr(_module(found), "distil", None)):
        raise TypeError(f"its module {found.__module__} has no function distil")
    return found


def _module(method: type[MethodSettings]) -> Any:
    return importlib.import_module(method.__module__)


METHODS: Registry[type[MethodSettings]] = Registry("mgd3.methods", "method", _own, _check)


def get_method(name: str) -> type[MethodSettings]:
    """Raises UserError for a name that is not in the registry."""
    return METHODS.get_or_raise(name)


def distiller(name: str) -> Callable[[Job], dict[str, torch.Tensor]]:
    """The `distil` function of a method.

    Raises:
        UserError: the method is unknown, or makes no images.
    """
    method = get_method(name)
    if not method.distils:
        raise UserError(
            f"method {name!r} makes no images: networks are trained on the whole train split",
            "evaluate with --train set to what `mgd3 pixels --split train` writes",
        )
    return _module(method).distil
