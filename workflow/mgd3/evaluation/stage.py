"""The stage `evaluate`: distilled set and test images in, scores and predictions out."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.artifacts import (
    SCHEMA_VERSION,
    load_tensors,
    save_json,
    save_tensors,
    sha256_of,
    tensor_metadata,
)
from ..base.device import keep_freed_memory
from ..base.errors import UserError
from ..base.threads import fixed_threads, processor
from ..data.images import resize_tensor
from ..networks.names import get_network
from . import VERSION
from .loop import Split
from .protocols import Resize, SoftProtocol, get_protocol
from .supervision import supervise

_RESIZE_CHUNK = 256


def evaluate(
    train: Path,
    test: Path,
    validation: Path | None,
    *,
    protocol: str,
    network: str,
    generation_seed: int,
    training_seed: int,
    flip: bool,
    device: str = "auto",
    threads: int | None = None,
    context: Mapping[str, Any],
    output: Path,
    predictions: Path,
    teacher: Path | None = None,
    teacher_classes: Sequence[str] | None = None,
    labels: Sequence[Path] = (),
) -> dict[str, Any]:
    """Train `network` on a distilled set and write its accuracies.

    Args:
        train, test, validation: safetensors with `images` uint8 [N, 3, S, S], `labels` int64 [N]
            and metadata `classes`, the list of class keys in label order.
        protocol, network: keys of `protocols.PROTOCOLS` and `protocols.NETWORKS`.
        flip: whether a mirrored image keeps its class in this data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of torch beside a GPU; None keeps torch's own choice. A training on
            the CPU takes a fixed number: see `base.threads`.
        context: passed through to the JSON (data set, run, method, IPC, ...).
        output: JSON; `accuracy` in percent at the `best`, `last` and `selected` evaluation.
        predictions: safetensors, int16 [n_test] each: `labels`, `best`, `last`, and `selected`
            where there is a validation split.
        teacher: folder of the teacher, for a protocol with one in the loop.
        teacher_classes: what the teacher calls the classes; None: as the images do.
        labels: all parts of the stored labels, for a protocol that has them.

    Returns:
        What was written to `output`.

    Raises:
        UserError: a name is unknown, files do not agree, labels are out of range, a class has no
            image, the device is absent, or training diverged.
    """
    entry = get_protocol(protocol)
    get_network(network, entry.size, entry.networks)
    where = _device(device)
    if where.type == "cpu":
        keep_freed_memory()
    if not flip:
        entry = entry.without_flips()

    splits: dict[str, Split] = {}
    classes: list[str] = []
    for name, path in (("train", train), ("test", test), ("validation", validation)):
        if path is None:
            continue
        size = None if name == "train" and entry.native else entry.size
        # Where a class is too small, none of its images is held out for validation.
        whole = name != "validation"
        splits[name], listed = read_split(Path(path), size, entry.resize, every_class=whole)
        classes = classes or listed
        if listed != classes:
            raise UserError(
                f"{path} lists other classes than {train}: {_difference(listed, classes)}",
                "make both from the same data set, with the classes in the same order",
            )
    # The schedule goes by the images that are there; the context's IPC is only a name.
    ipc = int(splits["train"].labels.bincount().max())
    schedule = (len(classes), ipc, network)
    plan, settings = entry.plan(*schedule), entry.settings(*schedule)

    supervision: dict[str, Any] = {}
    if isinstance(entry, SoftProtocol):
        supervision = supervise(
            entry, settings, train, teacher, teacher_classes or classes, labels,
            generation_seed, where,
        )  # fmt: skip
    stored = supervision.get("labels")

    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    identity = {
        "stage": VERSION,
        "files": [sha256_of(path) for path in (train, test, validation) if path],
        "settings": settings,
        "keys": [protocol, network, generation_seed, training_seed, where.type],
        "supervision": [given.identity for given in supervision.values()],
        "versions": versions,
    }
    output = Path(output)
    with fixed_threads(where.type, threads) as taken:
        inside = "" if "." in entry.engine else f"{__package__}."
        engine = importlib.import_module(f"{inside}{entry.engine}")
        result = engine.train_network(
            splits["train"],
            splits["test"],
            splits.get("validation"),
            protocol=entry,
            plan=plan,
            network=network,
            num_classes=len(classes),
            generation_seed=generation_seed,
            training_seed=training_seed,
            device=where,
            **supervision,
            checkpoint=output.with_name(f".{output.name}.checkpoint.safetensors"),
            fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        )

    scores = result.scores
    found = {
        "schema": SCHEMA_VERSION,
        **context,
        "generation_seed": generation_seed,
        "training_seed": training_seed,
        "protocol": protocol,
        "network": network,
        "num_classes": len(classes),
        **{f"n_{name}": len(splits.get(name, ())) for name in ("train", "test", "validation")},
        "accuracy": scores.accuracy("test"),
        "validation_accuracy": scores.accuracy("validation"),
        "curve": scores.curve,
        "settings": settings,
        **({"label_bytes": stored.bytes()} if stored else {}),
        "seconds": round(result.seconds, 3),
        "peak_memory_bytes": result.peak_memory_bytes,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "processor": processor(),
        "threads": taken,
        "versions": versions,
    }
    tensors = {name: value.clone() for name, value in scores.predictions.items()}
    tensors["labels"] = splits["test"].labels.to(torch.int16)
    save_tensors(predictions, tensors, {"classes": classes})
    save_json(output, found)
    return found


def resize(images: Tensor, size: int, how: Resize = "pil") -> Tensor:
    """Resize uint8 images [N, 3, H, W] to [N, 3, size, size]: see `data.images.resize_tensor`."""
    parts = images.split(_RESIZE_CHUNK)
    return torch.cat([resize_tensor(part, size, how) for part in parts])


def read_split(
    path: Path, size: int | None, how: Resize = "pil", *, every_class: bool = True
) -> tuple[Split, list[str]]:
    """Images at a size (None: at their own), and the classes in label order.

    Args:
        every_class: whether each class must have an image.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    classes = tensor_metadata(path).get("classes")
    if not classes:
        raise UserError(f"{path} does not list its classes", "make it with this workflow")
    tensors = load_tensors(path, ("images", "labels"))
    images, labels = tensors["images"], tensors["labels"].long()
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            f"{path} holds images {images.dtype} {list(images.shape)}, not uint8 [N, 3, S, S]",
            "delete it and run the workflow again to remake it",
        )
    if len(labels) != len(images):
        raise UserError(
            f"{path} holds {len(images)} images and {len(labels)} labels",
            "delete it and run the workflow again to remake it",
        )
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        raise UserError(
            f"{path} has label {int(outside[0])}, and its {len(classes)} classes are "
            f"0 to {len(classes) - 1}",
            "delete it and run the workflow again to remake it",
        )
    empty = (labels.bincount(minlength=len(classes)) == 0).nonzero()[:, 0].tolist()
    if empty and every_class:
        raise UserError(
            f"{path} has no image of class {classes[empty[0]]!r} ({len(empty)} empty)",
            "every class needs an image: add some, or leave the class out of the data set",
        )
    return Split(images if size is None else resize(images, size, how), labels), classes


def _difference(found: list[str], wanted: list[str]) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} instead of {len(wanted)}"
    at = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
    return f"label {at} is {found[at]!r} instead of {wanted[at]!r}"


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}", "use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}", "use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r} is not on this machine",
            "use device auto or cpu, or install a torch built for CUDA (envs/requirements-gpu.txt)",
        )
    return device
