"""What every mode discovery algorithm declares."""

from __future__ import annotations

from typing import ClassVar

from ..base.settings import Settings


class DiscoverySettings(Settings):
    """An algorithm: the class is `Settings` of its own module, or of an entry point's.

    Beside it stands `discover(x, k, name, generation_seed) -> clustering.Found`: x is float32
    [n, d] with k <= n, `name` the class, by which all draws are named.

    Attributes:
        seeded: whether the generation seed enters.
    """

    seeded: ClassVar[bool] = False
