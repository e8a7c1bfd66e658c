"""Jobs of the evaluation: stored labels, and networks trained on distilled sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from . import fields, folders, formats
from .contract import Job
from .fields import Json, OutFile, Registered, Text


def _protocol(name: str) -> Any:
    from ..evaluation.protocols import get_protocol

    return get_protocol(name)


Protocol = Annotated[str, Registered(_protocol), "an evaluation protocol"]
Network = Annotated[str, Text(), "a network of the protocol's family, or timm:NAME"]
TeacherClasses = Annotated[fields.Classes, "JSON list: what the teacher calls the classes"]
Flip = Annotated[fields.Flag, "mirrored images keep their class"]


class Relabel(Job, version=1):
    """Store a teacher's labels of a distilled set."""

    train: formats.ImageSet
    teacher_folder: folders.Teacher
    teacher_classes: TeacherClasses | None = None
    protocol: Protocol
    part: Annotated[
        int, fields.Number(), "of the parts that the labels' epochs are cut into, from 0"
    ]
    parts: fields.Positive
    generation_seed: fields.Count
    flip: Flip = False
    output: Annotated[Path, OutFile(".safetensors")]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..evaluation.relabel import relabel

        relabel(
            self.train,
            protocol=self.protocol,
            teacher=self.teacher_folder,
            teacher_classes=self.teacher_classes,
            generation_seed=self.generation_seed,
            part=self.part,
            parts=self.parts,
            flip=self.flip,
            device=self.device,
            threads=self.threads,
            output=self.output,
        )


class Evaluate(Job, version=2):
    """Train a network on a distilled set and test it."""

    train: formats.ImageSet
    test: formats.ImageSet
    validation: formats.ImageSet | None = None
    teacher_folder: folders.Teacher | None = None
    teacher_classes: TeacherClasses | None = None
    labels: Annotated[formats.Labels, "all parts of the stored labels"] | None = None
    protocol: Protocol
    network: Network
    generation_seed: fields.Count
    training_seed: fields.Count
    flip: Flip = False
    context: Annotated[
        dict[str, Any], Json(dict, "a JSON object"), "JSON object: what made the set"
    ]
    output: Annotated[Path, OutFile(".json", also=[".safetensors"])]
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..evaluation.stage import evaluate

        evaluate(
            self.train,
            self.test,
            self.validation,
            protocol=self.protocol,
            network=self.network,
            generation_seed=self.generation_seed,
            training_seed=self.training_seed,
            flip=self.flip,
            device=self.device,
            threads=self.threads,
            context={**self.context, **{key: self.made[key] for key in ("revision", "inputs")}},
            output=self.output,
            predictions=self.output.with_suffix(".safetensors"),
            teacher=self.teacher_folder,
            teacher_classes=self.teacher_classes,
            labels=self.labels or [],
        )
