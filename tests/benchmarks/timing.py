"""What the benchmarks share: arms timed in turn, medians, computed limits, and the table of ratios.

A benchmark calls `arguments`, times its arms with `interleaved`, and hands `Row`s to `report`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mgd3.base.artifacts import save_text


@dataclass(frozen=True)
class Seconds:
    """Wall time, and processor time of this process: what a busy machine does not stretch."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: the work, and how much of it.
        reference, ours: medians.
        gate: the smallest ratio of wall times that is wanted; None for a row that only informs.
        limit: seconds that the work takes at least on this machine, for the share of the limit.
        limit_is: what that limit is.
        note: anything else.
    """

    what: str
    reference: Seconds
    ours: Seconds
    gate: float | None = None
    limit: float | None = None
    limit_is: str = ""
    note: str = ""


def arguments(doc: str, repeats: int = 3) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser


def seconds_of(work: Callable[[], Any]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(
    arms: Mapping[str, Callable[[], Seconds | Any]], repeats: int, warm_up: bool = True
) -> dict[str, Seconds]:
    """The median times of each arm, which run in turn.

    An arm that returns `Seconds` has timed itself; any other is timed here.
    """
    if warm_up:
        for arm in arms.values():
            arm()
    taken: dict[str, list[Seconds]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            found: list[Any] = []
            around = seconds_of(lambda arm=arm, found=found: found.append(arm()))
            taken[name].append(found[0] if isinstance(found[0], Seconds) else around)
    return {name: median(times) for name, times in taken.items()}


def median(times: Sequence[Seconds]) -> Seconds:
    return Seconds(
        statistics.median(t.wall for t in times), statistics.median(t.cpu for t in times)
    )


def child_seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Seconds:
    """Times of a process and its own children, from start to end.

    Args:
        environment: variables over those of this process.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(wall, cpu)


def together(what: str, rows: Sequence[Row], gate: float | None) -> Row:
    """Several rows as one: the sums of their times and limits."""

    def total(arm: str) -> Seconds:
        times = [getattr(row, arm) for row in rows]
        return Seconds(sum(t.wall for t in times), sum(t.cpu for t in times))

    limits = [row.limit for row in rows]
    limit = None if None in limits else sum(limits)
    return Row(what, total("reference"), total("ours"), gate, limit, rows[0].limit_is)


def in_child(script: str, *options: object) -> dict[str, Any]:
    """Run a benchmark's own file with some options in a process; what it prints as JSON."""
    command = [sys.executable, script, *map(str, options)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products, convolutions and attention in some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def training_flops(model: torch.nn.Module, images: torch.Tensor) -> float:
    """Operations of a forward and a backward pass, for each image."""
    return flops(lambda: model(images).square().mean().backward()) / len(images)


def fastest(dtype: torch.dtype = torch.float32) -> float:
    """Operations a second of one CPU thread in a large matrix product or convolution.

    Whichever is faster: libraries differ in what they make of a processor.
    """
    with one_thread(), torch.no_grad():
        a, b = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
        x, weight = torch.randn(8, 128, 32, 32).to(dtype), torch.randn(128, 128, 3, 3).to(dtype)
        rates = []
        for work in (lambda: a @ b, lambda: torch.conv2d(x, weight, padding=1)):
            rates.append(flops(work) / min(seconds_of(work).cpu for _ in range(9)))
    return max(rates)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """What the figures depend on; no names of machines."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as a Markdown table; the ratio is of wall times, and in brackets of processor times."""
    lines = [
        "| work | plain (s) | ours (s) | ratio (CPU time) | gate | share of the limit |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row.reference.wall / row.ours.wall
        of_cpu = row.reference.cpu / row.ours.cpu
        gate = (
            "" if row.gate is None else f"{row.gate:g} {'met' if ratio >= row.gate else 'missed'}"
        )
        share = "" if row.limit is None else f"{row.limit / row.ours.wall:.0%} of {row.limit_is}"
        what = f"{row.what}; {row.note}" if row.note else row.what
        lines.append(
            f"| {what} | {row.reference.wall:.4g} | {row.ours.wall:.4g} "
            f"| {ratio:.2f} ({of_cpu:.2f}) | {gate} | {share} |"
        )
    return lines


def report(
    options: argparse.Namespace, rows: Sequence[Row], lines: Sequence[str] = (), **more: Any
) -> None:
    """Print the rows and further lines of Markdown, and write both where `--json` says."""
    text = [*(table(rows) if rows else ()), *(("", *lines) if lines else ())]
    print("\n".join(text))
    save(options, rows, lines, **more)


def save(
    options: argparse.Namespace, rows: Sequence[Row], lines: Sequence[str], **more: Any
) -> None:
    """Write rows, lines and more where `--json` says; a kill leaves the file that was before."""
    if options.json is not None:
        found = {"rows": [asdict(row) for row in rows], "lines": list(lines), **more}
        save_text(options.json, json.dumps(found))


def rows_of(found: Mapping[str, Any]) -> list[Row]:
    """Rows as `report` wrote them."""
    return [
        Row(**{**row, "reference": Seconds(**row["reference"]), "ours": Seconds(**row["ours"])})
        for row in found["rows"]
    ]
