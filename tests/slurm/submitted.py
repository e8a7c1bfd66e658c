"""The workflow on the cluster: through the profile as shipped, its first lines edited."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import CPU_PARTITION, GPU_PARTITION, GPU_TYPE

from workplace import MGD3_RUN, Workplace, tiny

ACCOUNT = "a-project"
# This cluster has no accounting, and its tests no minutes to wait.
HOW = (
    "--profile", "slurm",
    "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "8",
    "--latency-wait", "5",
)  # fmt: skip


def clustered(**mgd3: Any) -> dict[str, Any]:
    """Digits in four blocks, made by two methods; `auto` asks for GPUs and makes do without."""
    runs = tiny()["runs"]
    return tiny(
        runs=[runs[0], runs[MGD3_RUN] | mgd3],
        resources={"device": "auto", "batch": "auto", "classes_per_block": 3},
    )


def with_lines_changed(place: Workplace) -> None:
    """Edit the profile as README says."""
    profile = place.path / "slurm/profile.v9+.yaml"
    text = profile.read_text()
    for before, after in (
        ('account: ""', f"account: {ACCOUNT}"),
        ("cpu_partition: cpu", f"cpu_partition: {CPU_PARTITION}"),
        ("gpu_partition: gpu", f"gpu_partition: {GPU_PARTITION}"),
        ('gpu_type: ""', f"gpu_type: {GPU_TYPE}"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    profile.write_text(text)


def make_place(path: Path) -> Workplace:
    """A workplace whose `mgd3` also writes down what each of its runs saw."""
    place = Workplace.make(path)
    place.shorten()
    with_lines_changed(place)
    tools = path / "tools"
    tools.mkdir()
    real = Path(sys.executable).with_name("mgd3")
    witness = tools / "mgd3"
    witness.write_text(
        f"""#!/bin/sh
note() {{
  where="${{SLURM_JOB_ID:-local}} ${{CUDA_VISIBLE_DEVICES:-none}}"
  echo "$1 $$ $where $(date +%s.%N) $2" >> {path}/witness
}}
note start "$1"
{real} "$@"
status=$?
note end "$1"
exit $status
"""
    )
    witness.chmod(0o755)
    rest = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return Workplace(path, HOW, {"PATH": f"{tools}{os.pathsep}{rest}"})


@dataclass(frozen=True)
class Seen:
    """One run of `mgd3`, as its witness wrote it down: times in seconds since 1970."""

    stage: str
    job: str
    device: str
    start: float
    end: float


def seen(place: Workplace) -> list[Seen]:
    """Every run of `mgd3` that started, in the order of their starts."""
    begun, ended = [], {}
    for line in (place.path / "witness").read_text().splitlines():
        what, process, job, device, when, stage = line.split()
        if what == "start":
            begun.append((process, stage, job, device, float(when)))
        else:
            ended[process] = float(when)
    return [
        Seen(stage, job, device, start, ended.get(process, math.inf))
        for process, stage, job, device, start in begun
    ]
