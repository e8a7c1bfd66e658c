"""All real images: what networks are trained on with the whole train split."""

from __future__ import annotations

from typing import ClassVar

from .base import MethodSettings


class Settings(MethodSettings):
    """No distilled set is made, and IPC does not enter."""

    label: ClassVar = "Full (all real images)"
    deterministic: ClassVar = True
    distils: ClassVar = False
