"""What a configuration will cost, before it starts: one batch of each stage, timed here.

Counts of jobs come from the layout that the rules are wired by; times are measured on this device
with the real networks, or with random weights of the same shape where a network is yet to be
trained. Everything else is multiplication: it holds for jobs that run one after another on a
machine as idle as now. Stages that this cannot time (soft labels, generators to be fetched) are
listed without a time, and the total says so.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base.device import network_dtype
from ..base.progress import clock
from ..data.archives import archives
from ..data.registry import SPLITS, Dataset
from ..data.splits import WHOLE_SPLIT
from ..evaluation.protocols import get_protocol
from ..generators.registry import get_generator
from ..methods import METHODS
from .config import Run
from .layout import FLIPS, Layout

# Jobs that only read, write and draw: Python, its libraries, and about a second.
_SMALL_JOB = 1.0
# Timed on so many images: a batch of a large network takes minutes on a CPU.
_IMAGES = {"cpu": 8, "cuda": 32}


@dataclass
class Row:
    """One line of the plan: jobs left of one stage and one kind.

    Attributes:
        seconds: of all its jobs; None where it could not be timed.
        disk: bytes its outputs will take.
        memory: peak bytes of the device while it was timed; None where it was not.
        why: of what it is made, or why it has no time.
    """

    stage: str
    jobs: int
    seconds: float | None
    disk: int = 0
    memory: int | None = None
    why: str = ""


def plan(layout: Layout, device: str) -> list[Row]:
    """Time one batch of every stage that has jobs left; see the module."""
    watch = _Stopwatch(device)
    rows = []
    for dataset in layout.config.datasets:
        counts = _counts(layout, dataset)
        for build in (_generators, _samples, _evaluations):
            rows += list(build(layout, dataset, counts, watch))
    rest = [layout.report("tables/results.csv"), *layout.grids()]
    left = len(_missing(rest))
    if left:
        rows.append(Row("report", left, left * (watch.startup + _SMALL_JOB), why="estimated"))
    return rows


def table(rows: list[Row], device: str) -> str:
    """The plan as text for a terminal."""
    head = ("stage", "jobs", "time", "disk", "memory", "")
    lines = [
        (
            row.stage,
            str(row.jobs),
            "?" if row.seconds is None else clock(row.seconds),
            _bytes(row.disk),
            "-" if row.memory is None else _bytes(row.memory),
            row.why,
        )
        for row in rows
    ]
    known = sum(row.seconds or 0 for row in rows)
    untimed = [row.stage for row in rows if row.seconds is None]
    lines.append(
        ("total", str(sum(r.jobs for r in rows)), clock(known), _bytes(sum(r.disk for r in rows)),
         "", f"without {', '.join(dict.fromkeys(untimed))}" if untimed else "")
    )  # fmt: skip
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    text = [
        "  ".join(cell.ljust(w) if i in (0, 5) else cell.rjust(w) for i, (cell, w) in
                  enumerate(zip(line, widths, strict=True))).rstrip()
        for line in (head, *lines)
    ]  # fmt: skip
    text.insert(1, "-" * max(map(len, text)))
    text.insert(-1, text[1])
    return "\n".join(
        [
            *text,
            "",
            f"Jobs whose files are missing, one after another on {device}. One batch of each stage "
            "was timed now;",
            "the rest is extrapolated, and as good as this machine is as idle then as it is now.",
        ]
    )


class _Stopwatch:
    """Times pieces of work on a device, and what a job takes to start."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.startup = min(self._start() for _ in range(2))  # the first reads the disk

    def _start(self) -> float:
        started = time.monotonic()
        command = "import torch, diffusers.models, pandas, pyarrow"
        subprocess.run([sys.executable, "-c", command], check=True)
        return time.monotonic() - started

    @property
    def images(self) -> int:
        return _IMAGES["cpu" if self.device == "cpu" else "cuda"]

    def seconds(self, work: Callable[[], Any]) -> tuple[float, int]:
        """Seconds of the second call of `work`, and peak bytes (of the process on a CPU)."""
        import torch

        from ..evaluation.loop import peak_memory

        cuda = self.device != "cpu"
        work()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        work()
        if cuda:
            torch.cuda.synchronize()
        return time.monotonic() - started, peak_memory(torch.device(self.device))


def _missing(paths: list[str]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if not Path(path).is_file()]


def _counts(layout: Layout, dataset: Dataset) -> dict[str, int]:
    """Images of each split."""
    from ..data.index import hold_out_validation

    index = layout.index(dataset.name)
    if Path(index).is_file():
        from ..base import artifacts

        return artifacts.load_table(index)["split"].value_counts().to_dict()
    if dataset.origin == "imagenet":  # about; counting them reads a million names
        classes, held = len(dataset.source.classes()), dataset.validation_fraction
        train = 1280 * classes
        return {
            "train": int(train * (1 - held)),
            "validation": int(train * held),
            "test": 50 * classes,
        }
    if _missing(layout.archive(dataset.name)):  # still to be fetched
        train, test = archives()[dataset.name].counts
        held = round(train * dataset.validation_fraction)
        return {"train": train - held, "validation": held, "test": test}
    table = hold_out_validation(dataset, dataset.source.table(dataset.undecodable))
    return {split: int((table["split"] == split).sum()) for split in SPLITS}


def _load(
    layout: Layout, dataset: Dataset, slug: str, device: str, precision: str
) -> tuple[Any, str]:
    """A run's generator, or one of its shape with random weights; and a word on which."""
    from ..generators.loading import load_generator

    files = layout.generator_files(dataset.name, slug)
    entry = get_generator(layout.generators[slug])
    if not _missing(files):
        folder = Path(layout.generator_folder(dataset.name, slug))
        # Any one prompt, where it takes prompts: what it says takes no time.
        options = {"device": device, "dtype": network_dtype(precision, device)}
        return load_generator(folder, prompts=[""], **options), "its own weights"
    if entry.recipe is None:
        return None, "its fine-tuning is not timed" if entry.finetune else "not fetched yet"

    from ..generators.dit import DiTGenerator
    from ..generators.training import build_dit, build_vae, dit_scheduler
    from ..generators.vae import VAECodec

    vae = build_vae(entry.recipe.vae).to(device).eval()
    side = dataset.size // 2 ** (len(entry.recipe.vae.channels) - 1)
    shape = (entry.recipe.vae.latent_channels, side, side)
    dit = build_dit(entry.recipe.dit, shape, len(layout.classes[dataset.name])).to(device).eval()
    return DiTGenerator(dit, VAECodec(vae), dit_scheduler().config), "random weights"


def _generators(
    layout: Layout, dataset: Dataset, counts: dict[str, int], watch: _Stopwatch
) -> Iterator[Row]:
    """Training or fetching generators, and encoding."""
    import torch

    used = {layout.slug(run): run for run in layout.config.runs if run.generator}
    for slug in used:
        entry = get_generator(layout.generators[slug])
        generator, word = _load(layout, dataset, slug, watch.device, entry.encoded_in)
        missing = _missing(layout.generator_files(dataset.name, slug))
        if missing and entry.recipe is not None:
            for part, recipe in (("vae", entry.recipe.vae), ("dit", entry.recipe.dit)):
                step, memory = watch.seconds(_training_step(generator, part, recipe, dataset))
                seconds = recipe.steps * step + watch.startup
                size = sum(p.numel() * 4 for p in _network(generator, part).parameters())
                stage = "train_vae" if part == "vae" else "train_generator"
                yield Row(stage, 1, seconds, size, memory, f"{slug}: {recipe.steps} steps")
            generator, word = _load(layout, dataset, slug, watch.device, entry.encoded_in)
        elif missing:
            yield Row("generator", 1, None, why=f"{slug}: {word}")
        own = [r for r in layout.config.runs if layout.slug(r) == slug]
        if not any("modes" in METHODS[r.method].needs for r in own):
            continue
        wanted = layout.latents(dataset.name, slug)
        if any(r.settings.get("flips") for r in own):
            wanted += layout.latents(dataset.name, slug, FLIPS)
        blocks = _missing(wanted)
        if not blocks:
            continue
        if generator is None:
            yield Row("latents", len(blocks), None, why=f"{slug}: {word}")
            continue
        side = generator.image_size
        pixels = torch.randint(0, 256, (watch.images, 3, side, side), dtype=torch.uint8)
        seconds, memory = watch.seconds(lambda g=generator, p=pixels: g.encode(p.to(g.device)))
        images = counts["train"] * len(blocks) // len(layout.latents(dataset.name, slug))
        took = images * seconds / len(pixels) + len(blocks) * watch.startup
        size = images * math.prod(generator.latent_shape) * 8
        why = f"{slug}: {images:,} images, {word}"
        yield Row("latents", len(blocks), took, size, memory, why)


def _network(generator: Any, part: str) -> Any:
    return generator.codec.vae if part == "vae" else generator.transformer


def _training_step(generator: Any, part: str, recipe: Any, dataset: Dataset) -> Callable[[], None]:
    """Forward, backward and AdamW of one batch, as training does them."""
    import torch

    network, device = _network(generator, part).requires_grad_(True), generator.device
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6)
    if part == "vae":
        x = torch.rand((recipe.batch, 3, dataset.size, dataset.size), device=device)
    else:
        x = torch.randn((recipe.batch, *generator.latent_shape), device=device)
    zeros = torch.zeros(recipe.batch, dtype=torch.int64, device=device)

    def step() -> None:
        if part == "vae":
            out = network.decode(network.encode(x).latent_dist.mean).sample
        else:
            out = network(x, timestep=zeros, class_labels=zeros).sample
        optimiser.zero_grad(set_to_none=True)
        out.square().mean().backward()
        optimiser.step()

    return step


def _samples(
    layout: Layout, dataset: Dataset, counts: dict[str, int], watch: _Stopwatch
) -> Iterator[Row]:
    """Modes, sampling and collecting."""
    config, classes = layout.config, layout.classes[dataset.name]
    shared: set[str] = set()  # runs share their modes
    for run in layout.distilling:
        needs = METHODS[run.method].needs
        if "modes" in needs:
            wanted = [
                layout.modes(dataset.name, run, ipc, gen)
                for ipc in config.ipc
                for gen in config.generation_seeds
            ]
            files = [path for path in _missing(wanted) if path not in shared]
            shared |= set(files)
            if files:
                yield Row("modes", len(files), len(files) * (watch.startup + _SMALL_JOB),
                          why=f"{run.settings['modes']}: estimated")  # fmt: skip
        jobs = images = sets = 0
        for ipc in config.ipc:
            for gen in config.generation_seeds:
                if _missing(
                    [layout.distilled(dataset.name, run.slug, ipc, gen, "images.safetensors")]
                ):
                    jobs += len(layout.sample_blocks(dataset.name, run, ipc))
                    images, sets = images + ipc * len(classes), sets + 1
        if not jobs:
            continue
        each, memory, word = _image_seconds(layout, dataset, run, watch)
        disk = 2 * images * 3 * dataset.size**2
        seconds = None if each is None else images * each + jobs * watch.startup
        yield Row("sample", jobs, seconds, disk, memory, f"{run.slug}: {images:,} images, {word}")
        yield Row("collect", sets, sets * (watch.startup + _SMALL_JOB), why="estimated")


def _image_seconds(
    layout: Layout, dataset: Dataset, run: Run, watch: _Stopwatch
) -> tuple[float | None, int | None, str]:
    """Seconds for one image of a method; two short schedules tell a step from the decoding."""
    if "iterations" in run.settings:
        return None, None, "optimised: its log tells the time left"
    if "generator" not in METHODS[run.method].needs:
        return 0.0, None, "real images"
    import torch

    from ..diffusion.sampling import Item, SamplingSettings, sample

    precision = run.settings.get("precision", "float32")
    generator, word = _load(layout, dataset, layout.slug(run), watch.device, precision)
    if generator is None:
        return None, None, word
    decode, memory = watch.seconds(
        lambda: generator.decode(torch.zeros((watch.images, *generator.latent_shape)))
    )
    if "steps" not in run.settings:
        return decode / watch.images, memory, word
    items = [Item(str(k), 0, None, k) for k in range(watch.images)]
    short = 4
    settings = SamplingSettings(steps=short, t_sg=0, cfg=run.settings["cfg"])
    whole, memory = watch.seconds(
        lambda: list(sample(generator, items, settings, generation_seed=0, batch=watch.images))
    )
    step = max(whole - decode, 0) / short
    return (step * run.settings["steps"] + decode) / watch.images, memory, word


def _evaluations(
    layout: Layout, dataset: Dataset, counts: dict[str, int], watch: _Stopwatch
) -> Iterator[Row]:
    """Trainings of networks, and the pixels that test them."""
    classes = layout.classes[dataset.name]
    for entry in layout.config.evaluation:
        protocol = get_protocol(entry["protocol"])
        tested = counts.get("test", 0) + counts.get("validation", 0)
        pixels = [path for split in ("test", "validation") if counts.get(split)
                  for path in layout.pixels(dataset.name, split, protocol.pixels)]  # fmt: skip
        if left := _missing(pixels):
            took, size = len(left) * (watch.startup + _SMALL_JOB), tested * 3 * protocol.size**2
            yield Row("pixels", len(left), took, size, why=f"{tested:,} images, estimated")
        for network in entry["networks"]:
            timed: tuple[float, float, int] | None = None
            for ipc in (*layout.config.ipc, WHOLE_SPLIT):
                ending = f"/{entry['protocol']}/{network}_seed"
                files = [f for f in layout.scores()
                         if f.startswith(f"results/{dataset.name}/") and ending in f
                         and f"/ipc{ipc}/" in f]  # fmt: skip
                if not (left := _missing(files)):
                    continue
                if ipc == WHOLE_SPLIT:
                    yield Row("evaluate", len(left), None, why=f"{network}: the whole train split")
                    continue
                schedule = protocol.plan(len(classes), ipc, network)
                what = f"{network}, ipc {ipc}: {schedule.epochs:,} epochs"
                if protocol.engine != "hard":
                    yield Row(
                        "evaluate", len(left), None, why=f"{what}; {protocol.engine} is not timed"
                    )
                    continue
                timed = timed or _training(protocol, network, len(classes), watch)
                train, test, memory = timed
                each = (
                    schedule.epochs * len(classes) * ipc * train
                    + len(schedule.evaluation_epochs) * tested * test
                )
                yield Row(
                    "evaluate", len(left), len(left) * (each + watch.startup), 0, memory, what
                )


def _training(
    protocol: Any, network: str, classes: int, watch: _Stopwatch
) -> tuple[float, float, int]:
    """Seconds to train on one image once, seconds to test one, and peak bytes."""
    import torch

    from ..evaluation.hard import train_network
    from ..evaluation.loop import Split, predict
    from ..networks.architectures import create_network

    device = torch.device(watch.device)
    schedule = protocol.plan(classes, 10, network)
    count = 2 * schedule.optimiser.batch_size
    pixels = torch.randint(0, 256, (count, 3, protocol.size, protocol.size), dtype=torch.uint8)
    images = Split(pixels, torch.arange(count) % classes)

    def epochs(number: int) -> Callable[[], Any]:
        cut = replace(schedule, epochs=number, evaluation_epochs=(number,))
        return lambda: train_network(
            images, Split(pixels[:8], images.labels[:8]), None, protocol=protocol, plan=cut,
            network=network, num_classes=classes, generation_seed=0, training_seed=0,
            device=device, report=lambda line: None,
        )  # fmt: skip

    one, _ = watch.seconds(epochs(1))
    three, memory = watch.seconds(epochs(3))
    model = create_network(network, classes, protocol.size).to(device)
    test, _ = watch.seconds(lambda: predict(model, pixels.to(device), protocol))
    return max(three - one, 0) / (2 * count), test / count, memory


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
