"""Synthesis, latents and both kinds of training at full size on a GPU, with random weights.

    python tests/benchmarks/bench_gpu.py            # or `make bench-gpu`
    python tests/benchmarks/bench_gpu.py --tiny     # the same code in a minute on a CPU

Synthesis is DiT-XL/2 with its VAE at 256 px, 50 steps with guidance, by batch size and precision,
against the plain loop of `bench_sampling` at batch 1 in float32. The share of the limit is of the
operations of an image (counted with `--tiny`, else 24.35 TFLOP) at `--peak`. Latents go from JPEG
files to a file of means and log-variances. Trainings are `bench_hard_loop` and `bench_soft_step` at
224 px, whose plain arms get loader processes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import bench_hard_loop
import bench_soft_step
import torch
from bench_decode import pictures
from bench_sampling import SIZES, make_generator, make_items, make_vae, operations, ours, plain
from timing import Row, Seconds, arguments, median, report, seconds_of

from mgd3.data import make_dataset
from mgd3.diffusion.sampling import SamplingSettings
from mgd3.evaluation.loop import peak_memory
from mgd3.generators.latents import encode

IMAGE_FLOPS = 24.35e12
PEAK = 790e12  # of an H200, dense bfloat16


def timed(work, device: str, repeats: int) -> tuple[Seconds, int]:
    """The median, and the peak of memory in bytes."""
    cuda = device != "cpu"

    def waited() -> None:
        work()
        if cuda:
            torch.cuda.synchronize()

    waited()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = [seconds_of(waited) for _ in range(repeats)]
    return median(times), peak_memory(torch.device(device))


def synthesis(options: argparse.Namespace, folder: Path) -> tuple[list[Row], list[str]]:
    device, size = options.device, SIZES["tiny" if options.tiny else "xl"]
    settings = SamplingSettings(steps=4 if options.tiny else 50, t_sg=2 if options.tiny else 25)
    batches = (1, 2) if options.tiny else (1, 8, 32, 64)
    lines = [
        "| synthesis | batch | images/s | peak memory (GB) | share of the limit |",
        "|---|---|---|---|---|",
    ]
    usual, rows = None, []
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        generator = make_generator(size, dtype, device)
        counted = operations(generator, settings.steps) if options.tiny else IMAGE_FLOPS
        fastest = None
        if usual is None:
            items = make_items(generator, 1)

            def one(generator=generator, items=items) -> None:
                # As published samplers run by default: matrix products exact, convolutions in TF32.
                plain(generator, items, settings, folder)

            usual, memory = timed(one, device, options.repeats)
            lines.append(f"| plain, {name} | 1 | {1 / usual.wall:.3g} | {memory / 1e9:.2f} | |")
        for batch in batches:
            items = make_items(generator, batch)

            def many(generator=generator, items=items, batch=batch) -> None:
                ours(generator, items, settings, folder, batch)

            spent, memory = timed(many, device, options.repeats)
            each = Seconds(spent.wall / batch, spent.cpu / batch)
            lines.append(
                f"| ours, {name} | {batch} | {1 / each.wall:.3g} | {memory / 1e9:.2f} "
                f"| {counted / each.wall / options.peak:.1%} |"
            )
            fastest = min(fastest or each, each, key=lambda s: s.wall)
        limit = counted / options.peak
        gate = 5 if dtype == torch.bfloat16 and not options.tiny else None
        what = f"synthesis in {name}, one image at the best batch"
        rows.append(Row(what, usual, fastest, gate, limit, f"{options.peak / 1e12:g} TFLOP/s"))
        del generator
    return rows, lines


def latents(options: argparse.Namespace, folder: Path) -> list[str]:
    """The whole stage, JPEG files to a file of latents."""
    device = options.device
    size, side = (SIZES["tiny"], 32) if options.tiny else (SIZES["xl"], 256)
    # Enough for the encoder's loading, which the stage includes, not to count.
    count = 8 if options.tiny else 8192
    pictures_of = folder / "images" / "train" / "one"
    pictures_of.mkdir(parents=True)
    files = pictures(pictures_of, (500, 375), min(count, 150))
    for k in range(len(files), count):
        (pictures_of / f"{k}.jpg").hardlink_to(files[k % len(files)])
    torch.manual_seed(0)
    make_vae(size).save_pretrained(folder / "vae")
    dataset = {"name": "pictures", "root": str(folder / "images"), "size": side}
    source = make_dataset(dataset)

    # What is held out for test is not encoded.
    done = len(source.source.training_images("one"))
    lines = ["| latents | images | images/s | peak memory (GB) |", "|---|---|---|---|"]
    for precision in ("float32", "bfloat16"):

        def work(precision: str = precision) -> None:
            output = folder / "z.safetensors"
            encode(source, folder / "vae", ["one"], side, output, device, precision=precision)

        spent, memory = timed(work, device, repeats=1)
        rate = done / spent.wall
        lines.append(f"| {precision}, {side} px | {done} | {rate:.0f} | {memory / 1e9:.2f} |")
    return lines


def trainings(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    small = ["--size", "64", "--epochs", "1"]
    full = ["--size", "224", "--workers", str(options.workers)]
    rows: list[Row] = []
    lines: list[str] = []
    for bench, networks, epochs, gate in (
        (bench_hard_loop, ["convnet6", "resnetap10", "resnet18"], "30", 10),
        (bench_soft_step, ["resnet18"], "30", 6),
    ):
        chosen = small if options.tiny else [*full, "--epochs", epochs]
        named = ["convnet3" if bench is bench_hard_loop else "conv3"] if options.tiny else networks
        parsed = bench.parser().parse_args(
            [*chosen, "--device", options.device, "--repeats", str(options.repeats),
             "--networks", *named]
        )  # fmt: skip
        parsed.gate = None if options.tiny else gate
        found, told = bench.compare(parsed)
        rows += found
        lines += ["", *told]
    return rows, lines


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tiny", action="store_true", help="small networks, on any device")
    parser.add_argument("--peak", type=float, default=PEAK, help="operations a second")
    parser.add_argument("--workers", type=int, default=8, help="loader processes of plain arms")
    options = parser.parse_args()
    if not (options.tiny or torch.cuda.is_available()):
        sys.exit("no CUDA device here: run this where there is one, or with --tiny on a CPU")
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as name:
        rows, lines = synthesis(options, Path(name))
        lines += ["", *latents(options, Path(name))]
    more, told = trainings(options)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu, tiny"
    report(options, [*rows, *more], [*lines, *told], device=device)


if __name__ == "__main__":
    main()
