"""All benchmarks, each in a process of its own, and their tables in docs/performance.md.

    make bench        # about ten minutes on one quiet core
    make bench-gpu

Only what stands between the markers of a section is replaced. A run of some benchmarks (`--only`)
prints and writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import Row, machine, rows_of, table

from mgd3.base.artifacts import save_text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OUTPUT = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "figures" / "scaling.png"

# Heading, file, options that bound it.
CPU: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Synthesis", "bench_sampling.py", ()),
    ("Hard-label training", "bench_hard_loop.py", ("--epochs", "4")),
    ("Soft-label training", "bench_soft_step.py", ("--epochs", "2", "--networks", "resnet10",
                                                   "resnet18")),
    ("Decoding for latents", "bench_decode.py", ()),
    ("Mode discovery", "bench_kmeans.py", ("--classes", "5")),
    ("Blocks of classes", "bench_jobs.py", ()),
    ("Loading a distilled set", "bench_load.py", ()),
    ("Start-up", "bench_startup.py", ("--repeats", "2")),
    ("Scaling", "bench_scaling.py", ("--figure", str(FIGURE.relative_to(ROOT)))),
)  # fmt: skip
GPU = (("Full size", "bench_gpu.py", ()),)


def run(file: str, options: tuple[str, ...]) -> dict[str, Any]:
    """What a benchmark reports. Its own output passes through."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / file), *options, "--json", str(result)]
        # One thread, also in libraries that ask the environment.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if file != GPU[0][1] else None
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            sys.exit(f"{file} failed")
        return json.loads(result.read_text())


def section(
    target: str, found: list[tuple[str, str, tuple[str, ...], dict]], spent: float, load: float
) -> str:
    """The generated part of the document.

    Args:
        spent: seconds of all.
        load: the machine's load average before: what else ran.
    """
    facts = machine()
    device = next((f["device"] for *_, f in found if "device" in f), None)
    where = f"{facts['cpu']}, {facts['cores']} cores" if device is None else device
    rows: list[Row] = [row for *_, result in found for row in rows_of(result)]
    lines = [
        f"`make {target}`, {datetime.date.today():%d %B %Y}, {spent / 60:.0f} minutes: {where}, "
        f"Python {facts['python']}, torch {facts['torch']}; load before it {load:.1f}.",
        "",
        *table(rows),
    ]
    for heading, file, options, result in found:
        lines += ["", f"### {heading}", ""]
        lines += [f"    {' '.join(['python', f'tests/benchmarks/{file}', *options])}", ""]
        lines += result["lines"] or ["Its rows are above."]
    return "\n".join(lines)


def put(text: str, target: str, generated: str) -> str:
    """`text` with what stands between the markers of a target replaced.

    Raises:
        ValueError: it has no such markers.
    """
    begin, end = f"<!-- begin: make {target} -->", f"<!-- end: make {target} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{generated}\n{end}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="FILE", help="bench_*.py")
    options = parser.parse_args()
    target, wanted = ("bench-gpu", GPU) if options.gpu else ("bench", CPU)
    started, load, found = time.monotonic(), os.getloadavg()[0], []
    for heading, file, given in wanted:
        if options.only is None or file in options.only:
            print(f"\n{heading}: {file}", flush=True)
            found.append((heading, file, given, run(file, given)))
    text = section(target, found, time.monotonic() - started, load)
    if options.only is None:
        save_text(OUTPUT, put(OUTPUT.read_text(encoding="utf-8"), target, text))
        print(f"\nwritten: {OUTPUT.relative_to(ROOT)}")
    else:
        print(f"\n{text}")


if __name__ == "__main__":
    main()
