"""Where a student's targets come from: a teacher in the loop, or the labels that one has left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import teachers
from ..base.errors import UserError
from ..teachers.model import Teacher
from .labels import StoredLabels
from .protocols import SoftProtocol


def supervise(
    protocol: SoftProtocol,
    settings: dict[str, Any],
    train: Path,
    teacher: Path | None,
    classes: Sequence[str],
    labels: Sequence[Path],
    generation_seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """What the engine `soft` is given beside images: a teacher, or the labels it left.

    Raises:
        UserError: it is missing, or does not belong to the images or the protocol.
    """
    if protocol.labels == "stored":
        if not labels:
            raise UserError(
                f"protocol {protocol.name!r} needs the stored labels",
                "make them with `mgd3 relabel`, and give all parts with --labels",
            )
        return {"labels": StoredLabels(labels, train, settings, generation_seed)}
    return {"teacher": load_teacher(protocol, teacher, classes, device)}


def load_teacher(
    protocol: SoftProtocol, folder: Path | None, classes: Sequence[str], device: torch.device
) -> Teacher:
    """The teacher of a protocol, with logits for `classes`.

    Raises:
        UserError: none is given, or it is not one for this protocol.
    """
    if folder is None:
        raise UserError(
            f"protocol {protocol.name!r} needs a teacher",
            "train one with `mgd3 train-teacher`, and give its folder with --teacher-folder",
        )
    teacher = teachers.load(folder, device)
    if teacher.size != protocol.size:
        raise UserError(
            f"the teacher in {folder} takes images of {teacher.size} px, and protocol "
            f"{protocol.name!r} has {protocol.size} px",
            f"use the teacher {protocol.teacher!r}",
        )
    return teacher.slice(classes).normalised_with(protocol.mean, protocol.std)
