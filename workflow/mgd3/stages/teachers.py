"""Jobs of the teachers: networks trained on real images, or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from . import fields, folders, formats
from .contract import Job
from .fields import InFile, Registered


def _teacher(name: str) -> Any:
    from ..teachers import get_teacher

    return get_teacher(name)


TeacherName = Annotated[str, Registered(_teacher), "a teacher's name"]


class TrainTeacher(Job, version=1, keeps_freed_memory=True):
    """Train a classifier on real images."""

    teacher: TeacherName
    train: formats.ImageSet
    test: formats.ImageSet | None = None
    validation: formats.ImageSet | None = None
    flip: Annotated[fields.Flag, "mirrored images keep their class"] = False
    folder: folders.TrainedTeacher
    device: fields.Device = "auto"
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..base.threads import preparing
        from ..teachers.training import train_teacher

        with preparing(self.device, self.threads) as device:
            train_teacher(
                self.teacher,
                _teacher(self.teacher),
                self.train,
                self.test,
                self.validation,
                flip=self.flip,
                device=device,
                folder=self.folder,
            )


class FetchTeacher(Job, version=1, online=True):
    """torchvision's ImageNet-1K weights as a teacher."""

    teacher: TeacherName
    folder: folders.TrainedTeacher
    file: Annotated[
        Path | None,
        InFile(setting=True, tracked=False),
        "weights on this machine, instead of fetching them",
    ] = None

    def run(self) -> None:
        from ..teachers.pretrained import fetch_teacher

        fetch_teacher(self.teacher, self.folder, self.file)
