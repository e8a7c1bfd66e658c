"""Stages `judge` and `judge-originals`: what a teacher makes of images.

Its features (the input of its last layer), and for distilled images also what it says of their
class among all classes that it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from . import OF_IMAGES, OF_SETS, measures

if TYPE_CHECKING:
    # Imports torchvision, which readers of verdicts do not need.
    from ..teachers.model import Teacher

_BATCH = 128
# The splits whose features are kept, as they stand in files: what sets are distilled from, and real
# images that neither methods nor generators saw.
_TRAINING, _HELD_OUT = "train", "test"
# Held-out images without which nothing is nearer than 99 % of them.
_LEAST_HELD_OUT = 100


def judge(
    distilled: Path,
    teacher: str,
    folder: Path,
    teacher_classes: Sequence[str] | None,
    output: Path,
    device: str = "cpu",
) -> None:
    """Write what a teacher makes of a distilled set, in tensors keyed by class.

    `features/{class}` float32 [ipc, D]; `log_probability/{class}` float32 [ipc], of the image's
    class in the full softmax, and `agrees/{class}` bool [ipc], whether no other class has more.
    Metadata: `classes`, and `teacher`, its name and what is known of its accuracy.

    Args:
        teacher: its name, by which its images are resized and cropped as for its test.
        teacher_classes: what it calls the classes; None: as the set does.

    Raises:
        UserError: it does not know one of the classes.
    """
    held = artifacts.load_tensors(distilled, ["images", "labels"])
    classes = artifacts.tensor_metadata(distilled)["classes"]
    network = load(folder, device)
    own = network.rows_of(teacher_classes or classes).cpu()[held["labels"].long()]
    seen = look(held["images"], own, network, teacher)
    found = {
        "features": seen.features,
        "agrees": seen.agrees,
        "log_probability": seen.log_probability,
    }
    tensors = {
        f"{what}/{name}": value[held["labels"] == label]
        for what, value in found.items()
        for label, name in enumerate(classes)
    }
    card = artifacts.load_json(folder / TEACHER_FILES[1])
    about = {"name": teacher, "accuracy": card.get("accuracy", {})}
    artifacts.save_tensors(output, tensors, {"classes": classes, "teacher": about})


@dataclass(frozen=True)
class Seen:
    """What a teacher makes of N images, on the CPU.

    Attributes:
        features: float32 [N, D].
        agrees: bool [N], whether it takes an image for its class, of all classes that it knows.
        log_probability: float32 [N], natural logarithm, of the image's class among all of them.
    """

    features: Tensor
    agrees: Tensor
    log_probability: Tensor


@torch.inference_mode()
def look(images: Tensor, own: Tensor, network: Teacher, teacher: str) -> Seen:
    """What a teacher makes of images that are resized and cropped as for its test.

    Args:
        images: uint8 [N, 3, S, S], on any device.
        own: int64 [N], where each image's class stands among all of the network's.
        network: with the logits of all of its classes.
        teacher: its name.

    Raises:
        UserError: too little memory for one image.
    """
    device = next(network.model.parameters()).device

    def of(part: slice) -> tuple[Tensor, Tensor, Tensor]:
        pixels = _crop_as_tested(images[part].to(device), teacher, network.size)
        found, logits = network.features_and_logits(normalise(pixels, network.mean, network.std))
        says, row = logits.float().log_softmax(1), own[part].to(device)
        probability = says.gather(1, row[:, None])[:, 0]
        return found.float().cpu(), (says.argmax(1) == row).cpu(), probability.cpu()

    parts = list(halving(len(images), _BATCH, of, what="judge one image"))
    return Seen(*(torch.cat(of_parts) for of_parts in zip(*parts, strict=True)))


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
    """Write a teacher's features of the real images, by class: `train/{class}` and, held out from
    methods and generators, `test/{class}`, float32 [n, D].

    Raises:
        UserError: an image cannot be decoded.
    """
    known = Index.read(index)
    features, tensors = Features(teacher, folder, dataset, known, device), {}
    with Progress(len(known.classes), "Features", "classes") as bar:
        for name in known.classes:
            for split in (_TRAINING, _HELD_OUT):
                found, _ = features.of(known.images(name, split))
                tensors[f"{split}/{name}"] = found.cpu()
            bar.update(1)
    artifacts.save_tensors(output, tensors, {"classes": known.classes})


class Verdicts:
    """A teacher's judgement of several distilled sets of equal size, measured on its features.

    Whole sets are compared with the held-out images, which no method has seen, so that a set of
    copied training images gains nothing by it. Beside each figure stands that of as many training
    images, drawn by class: what a real set of this size scores.

    Args:
        judged: by run, a file of `judge`.
        originals: of `judge_originals`.
        classes: class keys in label order.
        generation_seed: names the draw of the training images.

    Attributes:
        teacher: name and accuracy of the teacher.
        whole: by run, its `OF_SETS`. The Frechet distance is to the training images that were not
            drawn, for held-out ones are few; NaN where `no_frechet` says why.
        real: `OF_SETS` of the drawn training images, and `nearest_train`, the mean of the held-out
            ones.
        no_frechet: why there is no Frechet distance; None where there is one.
    """

    def __init__(
        self,
        judged: Mapping[str, Path],
        originals: Path,
        classes: Sequence[str],
        generation_seed: int,
    ) -> None:
        self._judged, self._originals, self._classes = judged, originals, classes
        first = next(iter(judged.values()))
        self.teacher = artifacts.tensor_metadata(first)["teacher"]
        ipc = artifacts.tensor_shape(first, f"agrees/{classes[0]}")[0]
        self._drawn = {
            name: _drawn(len(x), ipc, generation_seed, name)
            for name, x in zip(classes, self._real(_TRAINING), strict=True)
        }
        held_out = np.concatenate([*self._real(_HELD_OUT)])
        self.no_frechet = self._too_few(ipc * len(classes))
        rest = None if self.no_frechet else measures.gaussian(self._split_training(drawn=False))
        self.whole = {
            run: _of_set([*_tensors(path, "features", classes)], held_out, rest)
            for run, path in judged.items()
        }
        self.real = _of_set([*self._split_training(drawn=True)], held_out, rest)
        self.real["nearest_train"] = float(self._held_out_distances.mean())

    def of_class(self, run: str, name: str) -> dict[str, np.ndarray]:
        """`OF_IMAGES` of a class, float64 [ipc], or one NaN for all of them.

        `nearest_train`: distance of the features to those of the nearest training image of the
        class. `closer_than_99`: whether that is less than of 99 % of all held-out images, 0 or 1;
        NaN where fewer than 100 are held out. `agreement`, 0 or 1, and `log_probability`: see
        `Seen`; both rise with guidance, whatever becomes of the data.
        """
        (train,) = _tensors(self._originals, _TRAINING, [name])
        features, agrees, log_probability = (
            next(_tensors(self._judged[run], what, [name]))
            for what in ("features", "agrees", "log_probability")
        )
        distances = measures.nearest_distance(features, train)
        few = len(self._held_out_distances) < _LEAST_HELD_OUT
        near = np.nan if few else distances < np.quantile(self._held_out_distances, 0.01)
        found = (distances, near, agrees, log_probability)
        return dict(zip(OF_IMAGES, map(np.float64, found), strict=True))

    @cached_property
    def _held_out_distances(self) -> np.ndarray:
        """Of each held-out image to the nearest training image of its class, [n]."""
        pairs = zip(self._real(_HELD_OUT), self._real(_TRAINING), strict=True)
        return np.concatenate([measures.nearest_distance(x, train) for x, train in pairs])

    def _real(self, split: str) -> Iterator[np.ndarray]:
        return _tensors(self._originals, split, self._classes)

    def _split_training(self, *, drawn: bool) -> Iterator[np.ndarray]:
        """The training images that were drawn, or the others, by class; classes without any fall
        out."""
        for name, x in zip(self._classes, self._real(_TRAINING), strict=True):
            if len(part := x[self._drawn[name] == drawn]):
                yield part

    def _too_few(self, images: int) -> str | None:
        """Why there is no Frechet distance of sets of this size."""
        drawn, least = sum(int(rows.sum()) for rows in self._drawn.values()), measures.FRECHET_LEAST
        rest = sum(map(len, self._drawn.values())) - drawn
        if images < least:
            return f"the sets have {images:,} images, fewer than {least:,}"
        if drawn < images or rest < least:
            return (
                f"the data set has {drawn + rest:,} training images, too few to compare {images:,} "
                f"with {least:,} others"
            )
        return None


def _of_set(
    parts: Sequence[np.ndarray], held_out: np.ndarray, rest: measures.Gaussian | None
) -> dict[str, float]:
    whole = np.concatenate(parts)
    found = (
        measures.kid(whole, held_out),
        *measures.precision_recall(whole, held_out),
        measures.coverage(whole, held_out),
        np.nan if rest is None else measures.frechet_distance(measures.gaussian(parts), rest),
    )
    return dict(zip(OF_SETS, found, strict=True))


def _tensors(path: Path, what: str, classes: Sequence[str]) -> Iterator[np.ndarray]:
    for name in classes:
        key = f"{what}/{name}"
        yield artifacts.load_tensors(path, [key])[key].numpy()


def _drawn(held: int, count: int, generation_seed: int, name: str) -> np.ndarray:
    """Which of a class's images are drawn, bool [held]."""
    draws = torch_generator(Draw.FRECHET, generation_seed, name)
    rows = np.zeros(held, dtype=bool)
    rows[torch.randperm(held, generator=draws)[:count].numpy()] = True
    return rows
