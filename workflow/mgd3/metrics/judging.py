"""Stages `judge` and `judge-originals`: what a teacher makes of images.

Its features (the input of its last layer), and for distilled images also the classes it sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..base import artifacts
from ..base.memory import halving
from ..base.progress import Progress
from ..base.seeding import Draw, torch_generator
from ..data.images import resize_tensor
from ..data.index import Index
from ..data.registry import Dataset
from ..networks.augment import normalise
from ..teachers import TEACHER_FILES, get_teacher, load
from ..teachers.features import Features
from .measures import frechet_distance, gaussian

if TYPE_CHECKING:
    # Imports torchvision, which readers of verdicts do not need.
    from ..teachers.model import Teacher

_BATCH = 128


def judge(
    distilled: Path,
    teacher: str,
    folder: Path,
    teacher_classes: Sequence[str] | None,
    output: Path,
    device: str = "cpu",
) -> None:
    """Write what a teacher makes of a distilled set, in tensors keyed by class.

    `features/{class}` float32 [ipc, D]; `predicted/{class}` int64 [ipc], the position of the class
    that it sees. Metadata: `classes`, and `teacher`, its name and what is known of its accuracy.

    Args:
        teacher: its name, by which its images are resized and cropped as for its test.
        teacher_classes: what it calls the classes; None: as the set does.

    Raises:
        UserError: it does not know one of the classes.
    """
    held = artifacts.load_tensors(distilled, ["images", "labels"])
    classes = artifacts.tensor_metadata(distilled)["classes"]
    network = load(folder, device).slice(teacher_classes or classes)
    features, predicted = look(held["images"], network, teacher)
    found = {"features": features, "predicted": predicted}
    tensors = {
        f"{what}/{name}": value[held["labels"] == label]
        for what, value in found.items()
        for label, name in enumerate(classes)
    }
    card = artifacts.load_json(folder / TEACHER_FILES[1])
    about = {"name": teacher, "accuracy": card.get("accuracy", {})}
    artifacts.save_tensors(output, tensors, {"classes": classes, "teacher": about})


@torch.inference_mode()
def look(images: Tensor, network: Teacher, teacher: str) -> tuple[Tensor, Tensor]:
    """What a teacher makes of images that are resized and cropped as for its test.

    Args:
        images: uint8 [N, 3, S, S], on any device.
        teacher: its name.

    Returns:
        Its features, float32 [N, D], and the class that it sees, int64 [N], by position among its
        `classes`; both on the CPU.

    Raises:
        UserError: too little memory for one image.
    """
    device = next(network.model.parameters()).device

    def of(part: slice) -> tuple[Tensor, Tensor]:
        pixels = _crop_as_tested(images[part].to(device), teacher, network.size)
        found, logits = network.features_and_logits(normalise(pixels, network.mean, network.std))
        return found.float().cpu(), logits.argmax(1).cpu()

    parts = list(halving(len(images), _BATCH, of, what="judge one image"))
    features, seen = (torch.cat(of_parts) for of_parts in zip(*parts, strict=True))
    return features, seen


def _crop_as_tested(images: Tensor, teacher: str, size: int) -> Tensor:
    """As the teacher's test images: shorter side to `test_resize`, the central square of `size`."""
    images = resize_tensor(images, get_teacher(teacher).test_resize)
    start = round((images.shape[-1] - size) / 2)
    return images[..., start : start + size, start : start + size]


def judge_originals(
    dataset: Dataset,
    index: Path,
    teacher: str,
    folder: Path,
    output: Path,
    device: str = "cpu",
) -> None:
    """Write a teacher's features of the training images, float32 [n, D] keyed by class.

    Raises:
        UserError: an image cannot be decoded.
    """
    known = Index.read(index)
    features, tensors = Features(teacher, folder, dataset, known, device), {}
    with Progress(len(known.classes), "Features", "classes") as bar:
        for name in known.classes:
            tensors[f"features/{name}"] = features.of(known.images(name, "train"))[0].cpu()
            bar.update(1)
    artifacts.save_tensors(output, tensors, {"classes": known.classes})


class Verdicts:
    """A teacher's judgement of several distilled sets of equal size.

    Args:
        judged: by run, a file of `judge`.
        originals: of `judge_originals`.
        classes: class keys in label order.
        generation_seed: names the draw of `real`.

    Attributes:
        teacher: name and accuracy of the teacher.
        frechet: by run, the Frechet distance of the teacher's features of the set to those of all
            training images.
        real: that of as many training images, drawn by class: what a set this small can reach.
    """

    def __init__(
        self,
        judged: Mapping[str, Path],
        originals: Path,
        classes: Sequence[str],
        generation_seed: int,
    ) -> None:
        self._judged, self._label = judged, {name: k for k, name in enumerate(classes)}
        first = next(iter(judged.values()))
        self.teacher = artifacts.tensor_metadata(first)["teacher"]
        real = gaussian(_features(originals, classes))
        self.frechet = {
            run: frechet_distance(gaussian(_features(path, classes)), real)
            for run, path in judged.items()
        }
        ipc = artifacts.tensor_shape(first, f"predicted/{classes[0]}")[0]
        drawn = (
            _some(x, ipc, torch_generator(Draw.FRECHET, generation_seed, name))
            for name, x in zip(classes, _features(originals, classes), strict=True)
        )
        self.real = frechet_distance(gaussian(drawn), real)

    def agreement(self, run: str, name: str) -> np.ndarray:
        """Whether the teacher sees the class in each of its samples, float [ipc] of 0 and 1."""
        key = f"predicted/{name}"
        predicted = artifacts.load_tensors(self._judged[run], [key])[key].numpy()
        return (predicted == self._label[name]).astype(float)


def _features(path: Path, classes: Sequence[str]) -> Iterator[np.ndarray]:
    for name in classes:
        key = f"features/{name}"
        yield artifacts.load_tensors(path, [key])[key].numpy()


def _some(x: np.ndarray, count: int, draws: torch.Generator) -> np.ndarray:
    return x[torch.randperm(len(x), generator=draws)[:count].numpy()]
