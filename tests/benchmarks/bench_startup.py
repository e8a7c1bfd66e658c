"""Start and end: each stage's process on next to no work, and a model of DiT-XL/2's size from disk.

    python tests/benchmarks/bench_startup.py
    python tests/benchmarks/bench_startup.py --against OTHER/workflow --checkpoint none

Stages run as their rules call them, one thread, on a random-weight twin of a DiT, a dozen images,
four steps of sampling and one epoch of training: what is left is starting, importing, proving the
inputs, writing the record, and ending. `--against` runs the package of another checkout in turn
with this one, and compares what they write. Of the repeats the least counts, in the file system's
cache, and gates are of CPU seconds, which a busy machine stretches less.

The model has constant weights, 2.7 GB in float32, written below the folder for temporary files and
deleted afterwards (`--checkpoint none` leaves it out). Our overhead is the time from the call to
the generator being ready, less reading the same bytes with safetensors alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from bench_sampling import SCHEDULER, SIZES, make_dit, make_vae
from diffusers import DDPMScheduler, DiTPipeline
from PIL import Image
from timing import Seconds, arguments, child_seconds, in_child, report, seconds_of

from mgd3.methods import get_method

sys.path.insert(0, str(Path(__file__).parents[1]))
from twins import make_dit_folder

OVERHEAD_LIMIT = 1.0
PACKAGE = Path(__file__).parents[2] / "workflow"
CLASSES = ["disc", "square"]
# Files with the seconds that something took.
TIMED = ("score.json", "results.", "cost.", "claims.")
TINY = {"steps": 4, "t_sg": 2}
# The command with a training of one epoch.
SHORT = """
import sys
from dataclasses import replace
from mgd3 import cli
from mgd3.evaluation.protocols import PROTOCOLS, hard
short = replace(PROTOCOLS["hard-small"], duration=hard.StepBudget(1, 1), evaluations=1)
PROTOCOLS["hard-small"] = short
sys.exit(getattr(cli, "console", cli.main)())
"""
# CPU seconds of a stage's process in which little but starting and ending happens.
LIMITS = {
    "--help": 0.3,
    "latents": 3.5,
    "sample": 3.5,
    "evaluate": 2.2,
    "collect": 0.8,
    "tables": 0.8,
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
    return Seconds(min(t.wall for t in times), min(t.cpu for t in times))


def stages(folder: Path) -> dict[str, list[str]]:
    """The stages of a tiny run by name, as their rules call them, each after those it reads."""
    made, generator, paper = folder / "made", folder / "dit", PACKAGE / "mgd3/resources"
    own = {"name": "own", "root": str(folder / "images"), "flip": False}
    data = ["--dataset", json.dumps(own | {"validation_fraction": 0})]
    index = ["--index", f"{made}/index.parquet"]
    device = ["--device", "cpu", "--threads", "1"]
    mgd3 = ["--method", "mgd3", "--settings", json.dumps(get_method("mgd3").defaults() | TINY)]
    of = ["--ipc", "2", "--generation-seed", "0"]
    row = {"run": "mgd3", "method": "mgd3", "generator": "dit", "label": "MGD3"}
    about = {"dataset": "own", "ipc": 2, "run_settings": {}, "deterministic": False, **row}
    runs = ["--runs", json.dumps([row])]
    scores = ["--scores", f"{made}/score.json"]
    classes = ["--classes", json.dumps(CLASSES)]
    return {
        "--help": ["--help"],
        "index": ["index", *data, "--output", f"{made}/index.parquet"],
        "pixels": ["pixels", *data, *index, "--split", "test", "--size", "32",
                   "--output", f"{made}/test.safetensors"],
        "latents": ["latents", *data, "--generator", str(generator), *classes, "--size", "32",
                    "--output", f"{made}/latents.safetensors", *device],
        "modes": ["modes", "--latents", f"{made}/latents.safetensors", *index, "--discovery",
                  "kmeans", *of, "--output", f"{made}/modes.safetensors", "--threads", "1"],
        "sample": ["sample", *data, *index, *mgd3, *classes, *of, "--generator", str(generator),
                   "--modes", f"{made}/modes.safetensors", "--output", f"{made}/block0.safetensors",
                   "--batch", "auto", *device],
        "collect": ["collect", "--blocks", f"{made}/block0.safetensors", *classes,
                    "--output", f"{made}/images.safetensors",
                    "--manifest", f"{made}/manifest.parquet"],
        "evaluate": ["evaluate", "--train", f"{made}/images.safetensors",
                     "--test", f"{made}/test.safetensors", "--protocol", "hard-small",
                     "--network", "convnet3", "--generation-seed", "0", "--training-seed", "0",
                     "--context", json.dumps(about), "--output", f"{made}/score.json", *device],
        "tables": ["tables", *runs, *scores, "--paper", f"{paper}/paper_results.csv",
                   "--reported", f"{paper}/reported_results.csv", "--title", "tiny",
                   "--output", f"{made}/results.csv"],
        "cost": ["cost", *runs, *scores, "--output", f"{made}/cost.csv"],
        "claims": ["claims", *runs, *scores, "--costs", f"{made}/cost.csv",
                   "--ledger", f"{paper}/claims.yaml", "--paper", f"{paper}/paper_results.csv",
                   "--title", "tiny", "--output", f"{made}/claims.csv"],
        "overview": ["overview", f"{made}/results.csv", "--output", f"{made}/overview.png"],
        "grid": ["grid", "--distilled", f"{made}/images.safetensors",
                 "--output", f"{made}/grid.png"],
    }  # fmt: skip


def make_images(root: Path) -> None:
    """Six pictures of noise a class for training, three for testing."""
    draws = np.random.default_rng(0)
    for split, count in {"train": 6, "val": 3}.items():
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                noise = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{k}.png")


def make_generator(folder: Path) -> None:
    """A random-weight DiT that knows the classes."""
    make_dit_folder(folder, num_classes=len(CLASSES))
    file = folder / "model_index.json"
    index = json.loads(file.read_text()) | {"id2label": dict(enumerate(CLASSES))}
    file.write_text(json.dumps(index))


def process_table(folder: Path, repeats: int, against: Path | None) -> list[str]:
    """Rows of a table: CPU and wall seconds of each stage's process.

    Raises:
        RuntimeError: a stage failed; or the two packages wrote other bytes.
    """
    arms = {"before": against, "now": PACKAGE} if against else {"now": PACKAGE}
    folders = {arm: folder / arm for arm in arms}
    taken: dict[str, dict[str, list[Seconds]]] = {}
    for own in folders.values():
        make_images(own / "images")
        make_generator(own / "dit")
        (own / "made").mkdir()
    for name in stages(folder):
        taken[name] = {arm: [] for arm in arms}
        for _ in range(repeats):
            for arm, package in arms.items():
                environment = {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
                start = ["-c", SHORT] if name == "evaluate" else ["-m", "mgd3.cli"]
                command = [*start, *stages(folders[arm])[name]]
                spent = child_seconds([sys.executable, *command], environment)
                taken[name][arm].append(spent)
                print(f"{name}, {arm}: {spent}", file=sys.stderr)
    if against:
        require_equal(folders["before"] / "made", folders["now"] / "made")
    heads = [f"{arm}: CPU (s) | wall (s)" for arm in arms]
    lines = [f"| process | {' | '.join(heads)} | wanted: CPU (s) |"]
    lines.append("|---" * (2 * len(arms) + 2) + "|")
    for name, of in taken.items():
        best = {arm: least(times) for arm, times in of.items()}
        figures = " | ".join(f"{t.cpu:.2f} | {t.wall:.2f}" for t in best.values())
        limit = LIMITS.get(name)
        gate = "" if limit is None else f"{limit:g} {_met(best['now'].cpu, limit)}"
        lines.append(f"| `mgd3 {name}` | {figures} | {gate} |")
    return lines


def _met(found: float, wanted: float) -> str:
    return "met" if found <= wanted else "missed"


def require_equal(before: Path, now: Path) -> None:
    """Raises RuntimeError unless two folders hold the same artefacts, but for those with times."""
    for file in sorted(before.iterdir()):
        timed = file.name.endswith(".provenance.json") or file.name.startswith(TIMED)
        if not timed and file.read_bytes() != (now / file.name).read_bytes():
            raise RuntimeError(f"{file.name} has other bytes than before")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", choices=["none", *SIZES], default="xl")
    parser.add_argument("--against", type=Path, help="a checkout's folder `workflow`")
    parser.add_argument("--part", choices=["bytes", "ours"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part:
        return child(options.part, options.folder)

    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        lines += process_table(Path(name), options.repeats, options.against)
    lines += ["", "| start-up | wall (s) | CPU (s) | wanted below (s) |", "|---|---|---|---|"]

    def line(what: str, spent: Seconds, wanted: float | None) -> None:
        limit = "" if wanted is None else f"{wanted:g} {_met(spent.wall, wanted)}"
        lines.append(f"| {what} | {spent.wall:.2f} | {spent.cpu:.2f} | {limit} |")

    for what, modules in PARTS.items():
        command = [sys.executable, "-c", f"import {modules}"]
        line(what, least([child_seconds(command) for _ in range(options.repeats)]), None)
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
