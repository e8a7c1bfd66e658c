"""Jobs of the tuning: rungs, trials, their report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError
from . import fields, folders, formats
from .contract import Contract, Job, Positional
from .evaluation import Flip, Network, Protocol
from .fields import Json, OutFile, Text
from .methods import Compile, Method, Settings, _Making

_TUNING = {
    "id": str, "label": str, "position": int, "dataset": str, "ipc": int, "points": [dict],
    "choice": dict, "slugs": [str], "protocol": str, "network": str, "scores": [[str]],
    "chosen": str,
}  # fmt: skip


def _unlike(tunings: list[dict[str, Any]]) -> str | None:
    for tuning in tunings:
        if not tuning["points"] or len(tuning["points"]) != len(tuning["slugs"]):
            return "has not a slug for each of its points"
        if not tuning["scores"] or not all(tuning["scores"]):
            return "has a rung without scores"
    return None


class Tunings(Json):
    """What was searched; names the files of its scores and of what was chosen."""

    def inputs(self, value: Any, job: Contract) -> Iterator[Path]:
        for tuning in value:
            for rung in tuning["scores"]:
                yield from map(Path, rung)
            yield Path(tuning["chosen"])


class TuneRung(Job, version=2):
    """The settings of a rung: the best of the one before."""

    grid: Annotated[
        list[dict[str, Any]],
        Json([dict], "a JSON list of objects"),
        "JSON list: every setting to try",
    ]
    keep: Annotated[fields.Positive, "settings of the rung"]
    scores: formats.AnyFiles | None = None
    before: Annotated[formats.Rung, "the rung that the scores are of"] | None = None
    output: Annotated[Path, OutFile(".json")]

    def run(self) -> None:
        from ..tuning.rungs import choose

        choose(self.grid, self.keep, self.scores or [], self.output, self.before)


Rung = Annotated[formats.Rung, "the settings of a rung"]
Slot = Annotated[fields.Count, "which of them, from 0"]


class TuneSample(_Making, version=3, keeps_freed_memory=True):
    """Make the distilled set of a rung's slot."""

    rung: Rung
    slot: Slot
    dataset: fields.Dataset
    index: formats.Index
    method: Method
    settings: Settings
    classes: fields.Classes
    ipc: fields.Positive
    generation_seed: fields.Count
    generator: folders.Generator
    modes: formats.Modes | None = None
    batch: fields.Batch = "auto"
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None
    compile: Compile = "no"

    def run(self) -> None:
        from ..tuning.trials import sample

        sample(self.method, self.job(), self.rung, self.slot, self.output)


class TuneProxy(Job, version=3):
    """Judge a distilled set without training."""

    distilled: formats.Trial
    rung: Rung
    slot: Slot
    latents: formats.Latents
    index: formats.Index
    generator: folders.GeneratorsVae
    size: fields.Side
    teacher_folder: folders.Teacher
    output: Annotated[Path, OutFile(".json")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..tuning.trials import proxy

        proxy(
            self.distilled,
            self.rung,
            self.slot,
            self.latents,
            self.index,
            self.generator,
            int(self.size),
            self.teacher_folder,
            self.output,
            pick_device(self.device),
        )


class TuneTrain(Job, version=2):
    """Train on a distilled set, test on held-out training images."""

    distilled: formats.Trial
    rung: Rung
    slot: Slot
    validation: formats.ImageSet
    protocol: Protocol
    network: Network
    flip: Flip = False
    output: Annotated[Path, OutFile(".json", also=[".safetensors"])]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..tuning.trials import train

        train(
            self.distilled,
            self.rung,
            self.slot,
            self.validation,
            protocol=self.protocol,
            network=self.network,
            flip=self.flip,
            device=self.device,
            threads=self.threads,
            output=self.output,
        )


class TuneReport(Job, version=2):
    """What was tried, and the chosen settings as an overlay."""

    tunings: Annotated[list[dict[str, Any]], Tunings([_TUNING], "a JSON list of tunings", _unlike)]
    runs: Annotated[
        list[dict[str, Any]], Json([{"method": str}], "a JSON list of runs, as written")
    ]
    slugs: fields.Names
    title: fields.Title
    output: Annotated[Path, OutFile(".csv", also=[".md"])]
    overlay: Annotated[
        Path, OutFile(".yaml"), "output: a configuration's runs with the chosen ones"
    ]

    def run(self) -> None:
        from ..tuning.report import report

        if not self.tunings:
            raise UserError("argument --tunings: there is none", "give at least one")
        report(self.tunings, self.runs, self.slugs, self.title, self.output, self.overlay)


class TuneSurface(Job, version=1):
    """A heat map of a tuning."""

    results: Annotated[formats.AnyFile, Positional(), "a tuning.csv"]
    tuning: Annotated[str, Text(), "the id of one"]
    output: Annotated[Path, OutFile(".png", also=[".svg"])]

    def run(self) -> None:
        from ..tuning.surface import load, surface

        surface(load(self.results), self.tuning, self.output)
