"""All benchmarks, each in a process of its own, and their tables in docs/performance.md.

    make bench        # about ten minutes on one quiet core
    make bench-gpu    # SHORT=1: cut to about five minutes of an H200

Only what stands between the markers of a section is replaced. A run of some benchmarks (`--only`)
prints and writes nothing. The GPU may be in a machine that keeps no files: run `bench_gpu.py --json
FILE` there, and `run_all.py --gpu --result FILE` here.
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
    """What a benchmark reports; of one that failed, what it had measured and said was not all.

    Its own output passes through.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / file), *options, "--json", str(result)]
        # One thread, also in libraries that ask the environment.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if file != GPU[0][1] else None
        failed = subprocess.run(command, cwd=ROOT, env=environment).returncode
        found = json.loads(result.read_text()) if result.is_file() else {}
        if failed and not found.get("missing"):
            sys.exit(f"{file} failed")
        return found


def section(
    target: str, found: list[tuple[str, str, tuple[str, ...], dict]], spent: float, load: float
) -> str:
    """The generated part of the document.

    Args:
        spent: seconds of all.
        load: the machine's load average before: what else ran.

    A result may say these itself, with its date and machine, and what is missing in it.
    """
    told = {"machine": machine(), "date": f"{datetime.date.today():%d %B %Y}", "seconds": spent,
            "load": load, "missing": []}  # fmt: skip
    for *_, result in found:
        told |= {name: result[name] for name in told if name in result}
    facts = told["machine"]
    device = next((f["device"] for *_, f in found if "device" in f), None)
    where = f"{facts['cpu']}, {facts['cores']} cores" if device is None else device
    rows: list[Row] = [row for *_, result in found for row in rows_of(result)]
    lines = [
        f"`make {target}`, {told['date']}, {told['seconds'] / 60:.0f} minutes: {where}, "
        f"Python {facts['python']}, torch {facts['torch']}; load before it {told['load']:.1f}.",
        *(["", f"Not measured, in whole or in part: {', '.join(told['missing'])}."]
          if told["missing"] else []),
        "",
        *table(rows),
    ]  # fmt: skip
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
    parser.add_argument("--short", action="store_true", help="with --gpu: bench_gpu.py --short")
    parser.add_argument(
        "--result", type=Path, help="with --gpu: what bench_gpu.py --json wrote; runs nothing"
    )
    parser.add_argument("--only", nargs="+", metavar="FILE", help="bench_*.py")
    options = parser.parse_args()
    if not options.gpu and (options.short or options.result):
        parser.error("--short and --result go with --gpu")
    target, wanted = ("bench-gpu", GPU) if options.gpu else ("bench", CPU)
    if options.short:
        target, wanted = "bench-gpu SHORT=1", [(*name, (*given, "--short")) for *name, given in GPU]
    started, load, found = time.monotonic(), os.getloadavg()[0], []
    for heading, file, given in wanted:
        if options.only is None or file in options.only:
            print(f"\n{heading}: {file}", flush=True)
            result = json.loads(options.result.read_text()) if options.result else run(file, given)
            found.append((heading, file, given, result))
    text = section(target, found, time.monotonic() - started, load)
    if options.only is None:
        save_text(OUTPUT, put(OUTPUT.read_text(encoding="utf-8"), target.split()[0], text))
        print(f"\nwritten: {OUTPUT.relative_to(ROOT)}")
    else:
        print(f"\n{text}")
    if any(result.get("missing") for *_, result in found):
        sys.exit("not all was measured: see above")


if __name__ == "__main__":
    main()
