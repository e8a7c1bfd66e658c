"""One job for a block of classes against one job for each class: 100 small classes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_jobs.py

A job is `mgd3 sample` in a process of its own, which imports, loads the generator and samples. Both
arms make the same images with a small random-weight DiT, 2 steps and one image a class, so start-up
counts as it does where sampling is fast. A job of one class is timed for some classes in turn, and
their median counts for each of the others; Snakemake's own 20 ms a job are in neither arm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from bench_sampling import SIZES, make_dit, make_vae
from diffusers import DDPMScheduler, DiTPipeline
from PIL import Image
from timing import Row, Seconds, arguments, child_seconds, interleaved, report

from mgd3.base.artifacts import load_tensors

SETTINGS = {"variant": "ddpm", "cfg": 4.0, "cfg_channels": 3, "steps": 2, "spacing": "auto"}
SETTINGS |= {"precision": "float32"}


def make_place(folder: Path, classes: int) -> list[str]:
    """A generator that knows some classes, and a folder of their images; the classes' names."""
    names = [f"class{label:03}" for label in range(classes)]
    size = SIZES["tiny"]
    torch.manual_seed(0)
    dit = make_dit(type(size)(**{**vars(size), "classes": classes}))
    generator = folder / "generator"
    DiTPipeline(dit, make_vae(size), DDPMScheduler()).save_pretrained(generator)
    index = json.loads((generator / "model_index.json").read_text())
    index["id2label"] = dict(enumerate(names))
    (generator / "model_index.json").write_text(json.dumps(index))
    for name in names:
        for split in ("train", "val"):
            (folder / "images" / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / "images" / split / name / "0.png")
    return names


def run(folder: Path, stage: str, *options: str) -> Seconds:
    """A stage of `mgd3` in a process of its own, on the data set of `make_place`."""
    dataset = {"name": "small", "root": str(folder / "images"), "size": 32}
    dataset["validation_fraction"] = 0.0
    command = [sys.executable, "-m", "mgd3.cli", stage, "--dataset", json.dumps(dataset), *options]
    return child_seconds(command)


def sample(folder: Path, classes: list[str], output: str) -> Seconds:
    return run(
        folder, "sample", "--index", str(folder / "index.parquet"), "--method", "unguided",
        "--settings", json.dumps(SETTINGS), "--classes", json.dumps(classes), "--ipc", "1",
        "--generation-seed", "0", "--generator", str(folder / "generator"), "--batch", "auto",
        "--device", "cpu", "--threads", "1", "--output", str(folder / output),
    )  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--classes", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make_place(folder, options.classes)
        run(folder, "index", "--output", str(folder / "index.parquet"))
        sample(folder, names, "all.safetensors")
        sample(folder, names[:1], "one.safetensors")
        whole, part = (load_tensors(folder / f"{n}.safetensors") for n in ("all", "one"))
        (of_class,) = part
        torch.testing.assert_close(whole[of_class], part[of_class], rtol=0, atol=1)
        taken = interleaved(
            {
                "one": lambda: sample(folder, names[:1], "one.safetensors"),
                "all": lambda: sample(folder, names, "all.safetensors"),
            },
            options.repeats,
            warm_up=False,
        )
    each = taken["one"]
    plain = Seconds(each.wall * options.classes, each.cpu * options.classes)
    what = f"{options.classes} small classes, a job for all"
    report(options, [Row(what, plain, taken["all"], 10, each.cpu, "one start")])


if __name__ == "__main__":
    main()
