"""Generator families: one file each, named after it. Importable without torch."""

from __future__ import annotations

from pathlib import Path

from ...base.registry import modules_of, settings_in
from .base import FamilySettings

__all__ = ["FAMILIES", "FamilySettings"]

FAMILIES: dict[str, type[FamilySettings]] = {
    name: settings_in(module)()
    for name, module in modules_of(__name__, str(Path(__file__).parent), ("base",)).items()
}
