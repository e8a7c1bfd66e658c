"""Stage `relabel`: a teacher labels, once, what a student will see of a distilled set."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..base.artifacts import save_tensors, sha256_of
from ..base.device import keep_freed_memory
from ..base.errors import UserError
from .batches import batches, require_strips
from .labels import label_generator
from .protocols import SoftProtocol, get_protocol
from .protocols.soft import part_epochs
from .stage import _device, read_split
from .supervision import load_teacher

# Of one pass of the teacher: a batch of 1,024 is only mixed at once.
_TEACHER_BATCH = 128
_REPORT_SECONDS = 10.0


@torch.no_grad()
def relabel(
    train: Path,
    *,
    protocol: str,
    teacher: Path,
    teacher_classes: Sequence[str] | None,
    generation_seed: int,
    part: int,
    parts: int,
    flip: bool,
    device: str = "auto",
    threads: int | None = None,
    output: Path,
) -> None:
    """Write one part of the labels: `logits` float16 [epochs of the part, images, classes].

    Logits stand in the order in which an epoch goes through the images, not in that of the file.

    Args:
        train: the distilled set; its hash goes into the labels.
        teacher: the teacher's folder.
        teacher_classes: what the teacher calls the classes; None: as the images do.
        part, parts: see `part_epochs`.

    Raises:
        UserError: as `evaluate`; or the protocol stores no labels.
    """
    entry, where = get_protocol(protocol), _device(device)
    if not isinstance(entry, SoftProtocol) or entry.labels != "stored":
        raise UserError(f"protocol {protocol!r} stores no labels", "choose soft-fkd")
    if where.type == "cpu":
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    if not flip:
        entry = entry.without_flips()
    split, classes = read_split(Path(train), None)
    ipc = int(split.labels.bincount().max())
    labeller = load_teacher(entry, teacher, teacher_classes or classes, where)
    require_strips(split.images, entry)
    plan = entry.plan(len(classes), ipc)
    epochs, images = part_epochs(plan.epochs, parts, part), split.images.to(where)
    logits = torch.empty(len(epochs), len(images), len(classes), dtype=torch.float16)
    started = said = time.monotonic()
    for row, epoch in enumerate(epochs):
        generator = label_generator(generation_seed, epoch)
        seen = batches(images, entry, plan.batch_size, generator)
        found = [labeller(x) for batch in seen for x in batch.split(_TEACHER_BATCH)]
        logits[row] = torch.cat(found)
        if time.monotonic() - said > _REPORT_SECONDS or epoch == epochs[-1]:
            said, done = time.monotonic(), row + 1
            speed = done / (said - started)
            print(
                f"epoch {done}/{len(epochs)}  {speed * len(images):.0f} images/s  "
                f"{(len(epochs) - done) / speed:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    save_tensors(
        output,
        {"logits": logits},
        {
            "epochs": [epochs.start, epochs.stop],
            "bytes": logits.nbytes,
            "classes": list(classes),
            "images": sha256_of(train),
            "teacher": labeller.identity,
            "protocol": entry.name,
            "settings": entry.settings(len(classes), ipc),
            "generation_seed": generation_seed,
        },
    )
