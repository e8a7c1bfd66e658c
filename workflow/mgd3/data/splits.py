"""Splits by a hash of an image's key: fixed, and independent of listing order and of each other."""

from __future__ import annotations

import hashlib

# In place of the images per class, where a network is trained on the whole train split.
WHOLE_SPLIT = 0


def hash_fraction(purpose: str, image: str) -> float:
    """A number in [0, 1) that depends on the purpose and the image's key only."""
    digest = hashlib.sha256(f"{purpose}\x1f{image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def in_validation(image: str, fraction: float) -> bool:
    """Whether a training image belongs to the validation split."""
    return hash_fraction("validation", image) < fraction


def in_test(image: str, fraction: float) -> bool:
    """Whether an image is for test, in a data set that comes without a test split."""
    return hash_fraction("test", image) < fraction


def ipc_text(ipc: int) -> str:
    """Images per class for people."""
    return "all" if ipc == WHOLE_SPLIT else str(ipc)
