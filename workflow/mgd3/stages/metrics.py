"""Jobs of the metrics: distilled sets as latents, judged by teachers, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError
from ..base.shapes import shortened
from . import fields, folders, formats
from .contract import Job, Positional
from .evaluation import TeacherClasses
from .fields import OutFile
from .teachers import TeacherName


def by_run(slugs: list[str], files: list[Path], what: str) -> dict[str, Path]:
    """Files by run. Raises UserError unless there is one for each."""
    if len(slugs) != len(files):
        raise UserError(
            f"argument --{what}: {len(files)} files for {len(slugs)} runs", "give one for each run"
        )
    return dict(zip(slugs, files, strict=True))


def _no_reasons(value: dict[str, Any]) -> str | None:
    if odd := [run for run, why in value.items() if not (isinstance(why, str) and why)]:
        return f"has no reason for {shortened(odd[0])}"
    return None


NotJudged = Annotated[
    dict[str, str], fields.Json(dict, "a JSON object of a reason for each run", _no_reasons)
]


class Embed(Job, version=1):
    """A distilled set as latents."""

    distilled: formats.ImageSet
    generator: folders.GeneratorsVae
    size: fields.Side
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..metrics.stage import embed

        device = pick_device(self.device)
        embed(self.distilled, self.generator, int(self.size), self.output, device)


class Measure(Job, version=3):
    """Measures of distilled sets, in latent space and on a teacher's features."""

    latents: formats.Latents
    index: formats.Index
    embedded: formats.Embedded
    slugs: fields.Names
    of: fields.Of
    judged: Annotated[formats.Judged, "a teacher's judgement of the sets"] | None = None
    judged_originals: (
        Annotated[formats.JudgedOriginals, "its features of the real images"] | None
    ) = None
    not_judged: Annotated[NotJudged, "the other sets, and why not"] | None = None
    output: Annotated[Path, OutFile(".parquet")]
    points: Annotated[Path, OutFile(".parquet"), "output: the coordinates of the map"]
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..metrics.stage import measure

        out = self.not_judged or {}
        measure(
            self.latents,
            self.index,
            by_run(self.slugs, self.embedded, "embedded"),
            self.of,
            self.output,
            self.points,
            by_run([s for s in self.slugs if s not in out], self.judged or [], "judged"),
            self.judged_originals,
            out,
        )


class Judge(Job, version=2):
    """A teacher's features of a distilled set, and what it says of its classes."""

    distilled: formats.ImageSet
    teacher_classes: TeacherClasses | None = None
    teacher: TeacherName
    teacher_folder: folders.Teacher
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..metrics.judging import judge

        judge(
            self.distilled,
            self.teacher,
            self.teacher_folder,
            self.teacher_classes,
            self.output,
            pick_device(self.device),
        )


class JudgeOriginals(Job, version=2, reads_images=True):
    """A teacher's features of the training and test images."""

    dataset: fields.Dataset
    index: formats.Index
    teacher: TeacherName
    teacher_folder: folders.Teacher
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.device import pick_device
        from ..data import make_dataset
        from ..metrics.judging import judge_originals

        judge_originals(
            make_dataset(self.dataset),
            self.index,
            self.teacher,
            self.teacher_folder,
            self.output,
            pick_device(self.device),
        )


class MeasuresTable(Job, version=3):
    """The measures by method and by class."""

    measures: Annotated[formats.ManyMeasured, Positional(), "what `measure` wrote"]
    runs: Annotated[list[dict[str, Any]], fields.rows()]
    output: Annotated[Path, OutFile(".csv", also=[".md", "_classes.csv"])]

    def run(self) -> None:
        from ..metrics.summary import summarise

        summarise(self.measures, self.runs, self.output)
