"""Splits by a hash of an image's key: fixed, and independent of listing order and of each other.

Of each class its share is held out, whatever other classes there are: the images with the smallest
hashes. Where images are added, those at the edge of the share may change sides, no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

# In place of the images per class, where a network is trained on the whole train split.
WHOLE_SPLIT = 0


def hash_fraction(purpose: str, image: str) -> float:
    """A number in [0, 1) that depends on the purpose and the image's key only."""
    digest = hashlib.sha256(f"{purpose}\x1f{image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_out_count(images: int, fraction: float) -> int:
    """How many of a class's images are held out: the fraction, rounded, but at least one; none of
    a class of a single image, and never the last one."""
    if not fraction or images < 2:
        return 0
    return min(max(int(images * fraction + 0.5), 1), images - 1)


def held_out(images: Sequence[str], purpose: str, fraction: float) -> set[str]:
    """The share of a class's images (keys, in any order) that is held out for "validation" or, in
    a data set that comes without a test split, for "test"."""
    count = held_out_count(len(images), fraction)
    return set(sorted(images, key=lambda image: (hash_fraction(purpose, image), image))[:count])


def ipc_text(ipc: int) -> str:
    """Images per class for people."""
    return "all" if ipc == WHOLE_SPLIT else str(ipc)
