"""Synthesis, latents and both kinds of training at full size on a GPU, with random weights.

    python tests/benchmarks/bench_gpu.py            # or `make bench-gpu`
    python tests/benchmarks/bench_gpu.py --short    # or `make bench-gpu SHORT=1`
    python tests/benchmarks/bench_gpu.py --tiny     # the same code in a minute on a CPU

Synthesis is DiT-XL/2 with its VAE at 256 px, 50 steps with guidance, by batch size and precision,
against the plain loop of `bench_sampling` at batch 1 in float32. The share of the limit is of the
operations of an image (counted with `--tiny`, else 24.35 TFLOP) at `--peak`. Latents go from JPEG
files to a file of means and log-variances. Trainings are `bench_hard_loop` and `bench_soft_step` at
224 px, whose plain arms get loader processes. Of the compiled generator, the first batch, of two
steps, tells what the compiler takes.

`--json` is written anew after each line, with the parts that are still `missing`, and a part that
fails does not end the others: what was measured is kept, whatever happens later.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

import bench_hard_loop
import bench_soft_step
import torch
from bench_decode import pictures
from bench_sampling import SIZES, make_generator, make_items, make_vae, operations, ours, plain
from timing import Row, Seconds, arguments, machine, median, save, seconds_of, table

from mgd3.data import make_dataset
from mgd3.diffusion.sampling import SamplingSettings
from mgd3.evaluation.loop import peak_memory
from mgd3.generators.latents import encode

IMAGE_FLOPS = 24.35e12
PEAK = 790e12  # of an H200, dense bfloat16
# Enough to choose kernels and to take a batch's memory.
WARM_UP = SamplingSettings(steps=2, t_sg=0)

# What a part yields as soon as it has it: lines of Markdown, and rows of the table of ratios.
Found = Iterator[str | Row]


def timed(
    warm_up: Callable[[], object], work: Callable[[], object], device: str, repeats: int
) -> tuple[Seconds, int]:
    """The median of work that ends with its result on the host, and the peak memory in bytes."""
    warm_up()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    times = [seconds_of(work) for _ in range(repeats)]
    return median(times), peak_memory(torch.device(device))


def settings_of(options: argparse.Namespace) -> SamplingSettings:
    return SamplingSettings(steps=4, t_sg=2) if options.tiny else SamplingSettings()


def synthesis(options: argparse.Namespace, folder: Path) -> Found:
    device, size = options.device, SIZES["tiny" if options.tiny else "xl"]
    settings = settings_of(options)
    batches = (1, 2) if options.tiny else (1, 8, 32, 64)
    # 64 images in float32 take half a minute.
    few = batches[:2] if options.short else batches
    best: dict[str, Seconds] = {}
    yield "| synthesis | batch | images/s | peak memory (GB) | share of the limit |"
    yield "|---|---|---|---|---|"
    for dtype, tried in ((torch.bfloat16, batches), (torch.float32, few)):
        name = str(dtype).removeprefix("torch.")
        generator = make_generator(size, dtype, device)
        counted = operations(generator, settings.steps) if options.tiny else IMAGE_FLOPS
        for batch in tried:
            items = make_items(generator, batch)
            make = partial(ours, generator, items, folder=folder, batch=batch)
            spent, memory = timed(
                partial(make, settings=WARM_UP),
                partial(make, settings=settings),
                device,
                options.repeats,
            )
            each = Seconds(spent.wall / batch, spent.cpu / batch)
            yield (
                f"| ours, {name} | {batch} | {1 / each.wall:.3g} | {memory / 1e9:.2f} "
                f"| {counted / each.wall / options.peak:.1%} |"
            )
            best[name] = min(best.get(name, each), each, key=lambda s: s.wall)
    # The last generator is in float32. As published samplers run by default: matrix products exact,
    # convolutions in TF32.
    make = partial(plain, generator, make_items(generator, 1), folder=folder)
    usual, memory = timed(
        partial(make, settings=WARM_UP), partial(make, settings=settings), device, options.repeats
    )
    yield f"| plain, {name} | 1 | {1 / usual.wall:.3g} | {memory / 1e9:.2f} | |"
    for name, fastest in best.items():
        yield Row(
            f"synthesis in {name}, one image at the best batch",
            usual,
            fastest,
            gate=5 if name == "bfloat16" and not options.tiny else None,
            limit=counted / options.peak,
            limit_is=f"{options.peak / 1e12:g} TFLOP/s",
        )


def latents(options: argparse.Namespace, folder: Path) -> Found:
    """The whole stage, JPEG files to a file of latents, which holds one class: a precision's."""
    size, side = (SIZES["tiny"], 32) if options.tiny else (SIZES["xl"], 256)
    # Else enough for the encoder's loading, which the stage includes, not to count.
    counts = {"float32": 8192, "bfloat16": 8192, "warm-up": 256}
    if options.short:
        counts |= {"float32": 2048, "bfloat16": 4096}
    if options.tiny:
        counts = dict.fromkeys(counts, 8)
    (folder / "drawn").mkdir()
    files = pictures(folder / "drawn", (500, 375), min(max(counts.values()), 150))
    for name, count in counts.items():
        of_class = folder / "images" / "train" / name
        of_class.mkdir(parents=True)
        for k in range(count):
            (of_class / f"{k}.jpg").hardlink_to(files[k % len(files)])
    torch.manual_seed(0)
    make_vae(size).save_pretrained(folder / "vae")
    source = make_dataset({"name": "pictures", "root": str(folder / "images"), "size": side})

    yield "| latents | images | images/s | peak memory (GB) |"
    yield "|---|---|---|---|"
    for precision in ("bfloat16", "float32"):

        def work(name: str, precision: str = precision) -> None:
            output = folder / "z.safetensors"
            encode(
                source, folder / "vae", [name], side, output, options.device, precision=precision
            )

        spent, memory = timed(
            partial(work, "warm-up"), partial(work, precision), options.device, repeats=1
        )
        # What is held out for test is not encoded.
        done = len(source.source.training_images(precision))
        rate = done / spent.wall
        yield f"| {precision}, {side} px | {done} | {rate:.0f} | {memory / 1e9:.2f} |"


def training(
    options: argparse.Namespace, bench: ModuleType, networks: list[str], tiny: str, gate: float
) -> Found:
    """Trainings of `networks`, of `tiny` with `--tiny`, each in a process of its own."""
    full = ["--size", "224", "--workers", str(options.workers)]
    epochs = "20" if options.short else "30"
    chosen = ["--size", "64", "--epochs", "1"] if options.tiny else [*full, "--epochs", epochs]
    parsed = bench.parser().parse_args(
        [*chosen, "--device", options.device, "--repeats", str(options.repeats),
         "--networks", *([tiny] if options.tiny else networks)]
    )  # fmt: skip
    parsed.gate = None if options.tiny else gate
    rows, lines = bench.compare(parsed)
    yield from lines
    yield from rows


def compiled(options: argparse.Namespace, folder: Path) -> Found:
    """The generator as it is and compiled, on batches of one size."""
    size, batch = (SIZES["tiny"], 2) if options.tiny else (SIZES["xl"], 64)
    generator = make_generator(size, torch.bfloat16, options.device)
    make = partial(ours, generator, make_items(generator, batch), folder=folder, batch=batch)
    yield "| generator in bfloat16 | batch | first batch, of 2 steps (s) | images/s |"
    yield "|---|---|---|---|"
    for name in ("as it is", "compiled"):
        if name == "compiled":
            generator.compile()
        first = seconds_of(partial(make, settings=WARM_UP))
        whole = partial(make, settings=settings_of(options))
        spent = median([seconds_of(whole) for _ in range(options.repeats)])
        yield f"| {name} | {batch} | {first.wall:.3g} | {batch / spent.wall:.3g} |"


def measure(options: argparse.Namespace, parts: Mapping[str, Found]) -> tuple[list[Row], list[str]]:
    """The rows of all parts, and the names of those that failed; their lines are printed."""
    started = time.monotonic()
    facts = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu, tiny",
        "machine": machine(),
        "load": os.getloadavg()[0],
        "date": f"{datetime.date.today():%d %B %Y}",
    }
    rows: list[Row] = []
    lines: list[str] = []
    missing = list(parts)

    def keep() -> None:
        save(options, rows, lines, **facts, seconds=time.monotonic() - started, missing=missing)

    for what, part in parts.items():
        if lines:
            lines.append("")
            print(flush=True)
        try:
            for found in part:
                if isinstance(found, Row):
                    rows.append(found)
                else:
                    lines.append(found)
                    print(found, flush=True)
                keep()
            missing.remove(what)
        except Exception as error:
            traceback.print_exc()
            print(f"not measured: the rest of {what} ({type(error).__name__})", flush=True)
        keep()
    return rows, missing


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeats=None)
    parser.add_argument("--tiny", action="store_true", help="small networks, on any device")
    parser.add_argument(
        "--short", action="store_true", help="cut to about five minutes of an H200; one repeat"
    )
    parser.add_argument("--peak", type=float, default=PEAK, help="operations a second")
    parser.add_argument("--workers", type=int, default=8, help="loader processes of plain arms")
    options = parser.parse_args()
    if not (options.tiny or torch.cuda.is_available()):
        sys.exit("no CUDA device here: run this where there is one, or with --tiny on a CPU")
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.repeats = options.repeats or (1 if options.short else 3)
    hard = partial(
        training, bench=bench_hard_loop, networks=["convnet6", "resnetap10", "resnet18"],
        tiny="convnet3", gate=10,
    )  # fmt: skip
    soft = partial(training, bench=bench_soft_step, networks=["resnet18"], tiny="conv3", gate=6)
    with tempfile.TemporaryDirectory() as name:
        parts: dict[str, Found] = {
            # By worth: what ends the run early costs the last ones.
            "synthesis": synthesis(options, Path(name)),
            "latents": latents(options, Path(name)),
            "hard labels": hard(options),
            "soft labels": soft(options),
            "the compiled generator": compiled(options, Path(name)),
        }
        rows, missing = measure(options, parts)
    print("\n".join(["", *table(rows)]))
    if missing:
        sys.exit(f"not measured: {', '.join(missing)}")


if __name__ == "__main__":
    main()
