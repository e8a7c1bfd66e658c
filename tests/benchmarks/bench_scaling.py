"""How the cost of synthesis grows: with processes, classes, images per class and steps.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_scaling.py --figure docs/figures/scaling.png

A small random-weight DiT samples, decodes and saves, as a job does once its generator is loaded.
One of classes, IPC and steps varies at a time, in turn with the others; straight lines are fitted
to medians of processor time. Throughput is wall time: processes load first, then start together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bench_sampling import Size, make_generator, ours
from timing import arguments, interleaved, machine, one_thread, report

from mgd3.base.device import keep_freed_memory
from mgd3.diffusion.sampling import Item, SamplingSettings
from mgd3.reporting.drawing import MUTED, figure

SMALL = Size(4, 4, 32, 8, (16, 32, 32), classes=100)
# (classes, IPC, steps), and what varies around them.
BASE = {"classes": 10, "IPC": 4, "steps": 8}
VARIED = {"classes": (5, 10, 20, 40), "IPC": (2, 4, 8, 16), "steps": (4, 8, 16, 32)}


@dataclass(frozen=True)
class Line:
    """Least squares of seconds over one setting: intercept + slope * setting."""

    over: str
    at: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def fit(self) -> tuple[float, float]:
        slope, intercept = np.polyfit(self.at, self.seconds, 1)
        return float(intercept), float(slope)

    @property
    def worst(self) -> float:
        """The largest distance of a point from the line, as a share of the line there."""
        intercept, slope = self.fit
        drawn = intercept + slope * np.array(self.at)
        return float(np.abs(np.array(self.seconds) / drawn - 1).max())


def job(generator, classes: int, ipc: int, steps: int, folder: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    items = [
        Item(f"class {c}", c, torch.randn(generator.latent_shape, generator=draws), k)
        for c in range(classes)
        for k in range(ipc)
    ]
    ours(generator, items, SamplingSettings(steps=steps, t_sg=steps // 2), folder)


def straight_lines(repeats: int, varied: dict[str, tuple[int, ...]]) -> list[Line]:
    keep_freed_memory()
    generator = make_generator(SMALL)
    with one_thread(), tempfile.TemporaryDirectory() as name:
        points = [(over, value) for over, values in varied.items() for value in values]
        arms = {}
        for over, value in points:
            chosen = {**BASE, over: value}
            arms[over, value] = lambda c=chosen: job(generator, *c.values(), Path(name))
        job(generator, *BASE.values(), Path(name))
        taken = interleaved(arms, repeats, warm_up=False)
    return [
        Line(over, values, tuple(taken[over, value].cpu for value in values))
        for over, values in varied.items()
    ]


def child() -> None:
    """Loads, says so, waits for a line, works, and says so."""
    torch.set_num_threads(1)
    keep_freed_memory()
    generator = make_generator(SMALL)
    with tempfile.TemporaryDirectory() as name:
        job(generator, 2, 2, 2, Path(name))
        print("ready", flush=True)
        sys.stdin.readline()
        job(generator, *BASE.values(), Path(name))


def throughput(processes: int) -> float:
    """Images a second of some processes together."""
    command = [sys.executable, __file__, "--child"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [subprocess.Popen(command, text=True, **pipes) for _ in range(processes)]
    for process in running:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process failed before it began")
    start = time.perf_counter()
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.stdout.read()  # ends with the work, before the interpreter is taken down
    spent = time.perf_counter() - start
    if any(process.wait() for process in running):
        raise RuntimeError("a process failed")
    return processes * BASE["classes"] * BASE["IPC"] / spent


def draw(rates: dict[int, float], lines: list[Line], output: Path) -> None:
    with figure(output, 9, 2.6, layout="constrained") as plot:
        first, *others = plot.subplots(1, 1 + len(lines))
        counts = list(rates)
        first.plot(counts, [rates[1] * n for n in counts], color=MUTED, lw=1, ls="--")
        first.plot(counts, list(rates.values()), "o", ms=5)
        first.set(xlabel="processes", ylabel="images/s", xticks=counts, ylim=(0, None))
        for axes, line in zip(others, lines, strict=True):
            intercept, slope = line.fit
            ends = np.array([0, max(line.at)])
            axes.plot(ends, intercept + slope * ends, color=MUTED, lw=1, ls="--")
            axes.plot(line.at, line.seconds, "o", ms=5)
            axes.set(xlabel=line.over, ylabel="processor seconds", xlim=(0, None), ylim=(0, None))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child()
    counts = [1, *([2] if machine()["cores"] > 1 else [])]
    found = {n: sorted(throughput(n) for _ in range(options.repeats)) for n in counts}
    rates = {n: values[len(values) // 2] for n, values in found.items()}
    lines = straight_lines(options.repeats, VARIED)
    if options.figure is not None:
        draw(rates, lines, options.figure)
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    text = ["| processes | images/s | against one |", "|---|---|---|"]
    text += [f"| {n} | {rate:.1f} | {rate / rates[1]:.2f} |" for n, rate in rates.items()]
    text += ["", f"| seconds over (else {base}) | at 0 | for each | farthest point from the line |"]
    text += ["|---|---|---|---|"]
    for line in lines:
        intercept, slope = line.fit
        text.append(f"| {line.over} | {intercept:.3f} | {slope:.4f} | {line.worst:.1%} |")
    report(options, [], text)


if __name__ == "__main__":
    main()
