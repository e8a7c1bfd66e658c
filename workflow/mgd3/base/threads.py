"""Threads of a training on the CPU: their number is part of its result.

Sums of floats are rounded by how they are split among threads, and a training magnifies that: the
same seeds gave 92.6 % with one thread and 92.8 % with two. So a training takes the same number
everywhere, whatever the job was granted; on a GPU, threads change nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .device import pick_device

# Many trainings run side by side, and small networks gain little from more.
TRAINING_THREADS = 1
# Of a teacher or a generator, one training that others wait for.
PREPARING_THREADS = 2


@contextmanager
def fixed_threads(
    device_type: str, granted: int | None = None, fixed: int = TRAINING_THREADS
) -> Iterator[int]:
    """Inside the block torch has as many threads as a training on such a device takes.

    Args:
        device_type: "cpu" or "cuda".
        granted: to the job; taken on a GPU. None keeps torch's own choice there.
        fixed: taken on a CPU, of which a job may have been granted fewer: it is slower then.

    Yields:
        How many they are.
    """
    import torch

    previous = torch.get_num_threads()
    wanted = fixed if device_type == "cpu" else granted or previous
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(previous)


@contextmanager
def preparing(device: str, granted: int | None = None) -> Iterator[str]:
    """Inside the block torch has as many threads as the training of a teacher or a generator takes.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        granted: see `fixed_threads`.

    Yields:
        The device that is meant.

    Raises:
        UserError: see `pick_device`.
    """
    picked = pick_device(device)
    with fixed_threads(picked.partition(":")[0], granted, PREPARING_THREADS):
        yield picked


def computed_by() -> dict[str, Any]:
    """The processor and torch's threads, on which the last digits of a training depend."""
    import torch

    return {"processor": processor(), "threads": torch.get_num_threads()}


def processor() -> str:
    """The name of this machine's processor: its instructions round differently from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
