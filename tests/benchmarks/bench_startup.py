"""Start-up: the command line's help, each stage's import, a model of DiT-XL/2's size from disk.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_startup.py

Each is a process of its own; the smallest of the repeats counts, in the file system's cache. The
model has constant weights, 2.7 GB in float32, written below the folder for temporary files and
deleted afterwards (`--checkpoint none` leaves it out). Our overhead is the time from the call to
the generator being ready, less reading the same bytes with safetensors alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from bench_sampling import SCHEDULER, SIZES, make_dit, make_vae
from diffusers import DDPMScheduler, DiTPipeline
from timing import Seconds, arguments, child_seconds, in_child, report, seconds_of

HELP_LIMIT, IMPORT_LIMIT, OVERHEAD_LIMIT = 0.3, 3.0, 1.0
STAGES = {
    "latents": "mgd3.generators.latents, mgd3.generators.vae",
    "modes": "mgd3.discovery.modes",
    "sample": "mgd3.methods.sampling.classes",
    "collect": "mgd3.methods.blocks",
    "evaluate": "mgd3.evaluation.stage, mgd3.evaluation.hard",
    "relabel": "mgd3.evaluation.relabel",
    "tables": "mgd3.reporting.tables",
    "overview": "mgd3.reporting.figures",
}
# What the missed ones are made of; each with torch.
PARTS = {
    "of these, torch alone": "torch",
    "torch and its compiler, which diffusers, torchvision and optimisers import": "torch._dynamo",
    "torchvision": "torchvision",
    "diffusers' DiT and VAE": "diffusers.models.transformers.dit_transformer_2d",
}


def write_checkpoint(folder: Path, name: str) -> None:
    """A pipeline folder of a size, its weights constant: random ones would take as long to read."""
    with torch.device("meta"):
        dit, vae = make_dit(SIZES[name]), make_vae(SIZES[name])
    for part in (dit, vae):
        part.to_empty(device="cpu")
        for tensor in part.state_dict().values():
            tensor.fill_(0.01)
    DiTPipeline(dit, vae, DDPMScheduler(**SCHEDULER)).save_pretrained(folder)


def child(part: str, folder: Path) -> None:
    """Times one way of reading a checkpoint, as JSON."""
    from safetensors.torch import load_file

    from mgd3.generators.loading import load_generator

    def bytes_alone() -> None:
        for file in folder.glob("*/*.safetensors"):
            for tensor in load_file(file).values():
                tensor.sum()  # mapped files are read when they are used

    def ours() -> None:
        generator = load_generator(folder)
        for network in (generator.transformer, generator.codec.vae):
            for tensor in network.parameters():
                tensor.sum()

    print(json.dumps(asdict(seconds_of(bytes_alone if part == "bytes" else ours))))


def least(times: list[Seconds]) -> Seconds:
    return min(times, key=lambda t: t.wall)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", choices=["none", *SIZES], default="xl")
    parser.add_argument("--part", choices=["bytes", "ours"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part:
        return child(options.part, options.folder)

    lines = ["| start-up | wall (s) | CPU (s) | wanted below (s) |", "|---|---|---|---|"]

    def line(what: str, spent: Seconds, wanted: float | None) -> None:
        limit = "" if wanted is None else f"{wanted:g} {'met' if spent.wall < wanted else 'missed'}"
        lines.append(f"| {what} | {spent.wall:.2f} | {spent.cpu:.2f} | {limit} |")

    commands = {"`mgd3 --help`": (["-m", "mgd3.cli", "--help"], HELP_LIMIT)}
    for stage, modules in STAGES.items():
        commands[f"import of `{stage}`"] = (["-c", f"import {modules}"], IMPORT_LIMIT)
    for what, modules in PARTS.items():
        commands[what] = (["-c", f"import {modules}"], None)
    for what, (command, wanted) in commands.items():
        spent = [child_seconds([sys.executable, *command]) for _ in range(options.repeats)]
        line(what, least(spent), wanted)
    if options.checkpoint != "none":
        with tempfile.TemporaryDirectory() as name:
            write_checkpoint(Path(name), options.checkpoint)
            found: dict[str, list[Seconds]] = {"bytes": [], "ours": []}
            for _ in range(options.repeats):
                for part, times in found.items():
                    times.append(Seconds(**in_child(__file__, "--part", part, "--folder", name)))
            size = sum(f.stat().st_size for f in Path(name).glob("*/*.safetensors")) / 1e9
        read, ready = least(found["bytes"]), least(found["ours"])
        line(f"reading {size:.2f} GB of weights with safetensors", read, None)
        line("the generator of these weights, ready", ready, None)
        ours = Seconds(ready.wall - read.wall, ready.cpu - read.cpu)
        line("our overhead", ours, OVERHEAD_LIMIT)
    report(options, [], lines)


if __name__ == "__main__":
    main()
