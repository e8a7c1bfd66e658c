"""Each process has a GPU of its own where there are several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgd3.base.device import prepare, visible_gpus

HOLD = """
import os, sys, time
from mgd3.base.device import claim_gpu
print(claim_gpu(), os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that has claimed a GPU and holds it until told to end."""

    def __init__(self, gpus: str, folder: Path) -> None:
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def claimed(self) -> str:
        return self.process.stdout.readline().strip()

    def says(self) -> str:
        return self.process.stderr.readline().strip()

    def end(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait()


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[object]:
    held: list[Holder] = []

    def start(gpus: str) -> Holder:
        held.append(Holder(gpus, tmp_path))
        return held[-1]

    yield start
    for holder in held:
        holder.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [("0,2", ["0", "2"]), ("", []), ("-1", []), ("1,-1,2", ["1"]), ("NoDevFiles", [])],
)
def test_visible_gpus_are_those_cuda_would_see(monkeypatch, variable, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


def test_every_process_claims_another_gpu(hold):
    names = [f"GPU-{uuid.uuid4()}" for _ in range(3)]
    holders = [hold(",".join(names)) for _ in names]
    claims = [holder.claimed().split() for holder in holders]
    assert {claim[0] for claim in claims} == set(names)
    # torch sees the claimed one only.
    assert all(claimed == visible for claimed, visible in claims)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_waits_for_the_gpu_of_one_that_ends(hold, how):
    first, second = hold("0,1"), hold("0,1")
    freed = first.claimed()
    second.claimed()
    third = hold("0,1")
    assert third.says() == "waiting: other jobs use every GPU (0, 1)"
    first.end(how)
    start = time.monotonic()
    assert third.claimed() == freed
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("gpus", ["", "3"])
def test_there_is_nothing_to_claim_with_less_than_two(hold, gpus):
    assert hold(gpus).claimed() == f"None {gpus}".strip()
    assert hold(gpus).claimed() == f"None {gpus}".strip()


@pytest.mark.parametrize("online", [False, True])
def test_only_what_fetches_asks_a_hub(monkeypatch, online):
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    prepare(None, online=online)
    assert ("HF_HUB_OFFLINE" in os.environ) != online
