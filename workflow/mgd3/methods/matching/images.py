"""Real images that are matched, and those that an optimisation begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...base.seeding import Draw, torch_generator
from ...data.images import decode_images, resize_centre_crop, settle_undecodable
from ...networks.augment import send
from ...networks.names import IMAGENET_MEAN, IMAGENET_STD
from .synthesis import Synthesis

if TYPE_CHECKING:
    from ..base import Job


class Real:
    """Training images of some classes: uint8 on the device where they take up at most half of its
    free memory, else in main memory.

    Args:
        images: uint8 [N, 3, S, S] by class.
    """

    def __init__(self, images: Mapping[str, Tensor], device: str) -> None:
        self.counts = {name: len(of_class) for name, of_class in images.items()}
        ends = torch.tensor(list(self.counts.values())).cumsum(0).tolist()
        self._start = dict(zip(self.counts, [0, *ends[:-1]], strict=True))
        self.device = torch.device(device)
        self._images = _resident(torch.cat(list(images.values())), self.device)
        self._normalise = Normalise(self.device)

    @classmethod
    def read(cls, job: Job, classes: Sequence[str], size: int) -> Real:
        """The training images of classes, their centre squares resized to `size` (bilinear).

        Raises:
            UserError: a class has fewer than IPC; an image that cannot be decoded, unless the data
                set says to leave such images out.
        """
        found = {}
        for name in classes:
            keys = job.training_images(name, at_least=job.ipc)
            job.index.require_unchanged(job.dataset.source, keys)
            read = decode_images(job.dataset.source, keys, size, resize_centre_crop)
            whose, enough = f"training images of {name}", len(read.images) >= job.ipc
            policy = job.dataset.undecodable
            settle_undecodable(read.errors, policy, whose, len(keys), enough=enough)
            found[name] = read.pixels
        return cls(found, job.device)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def at(self, places: Tensor) -> Tensor:
        """Normalised images float32 [n, 3, S, S] at places int64 [n] on the CPU, by class."""
        if self._images.device == self.device:
            return self._normalise(self._images[send(places, self.device)])
        return self._normalise(send(self._images[places], self.device))

    def labels(self, labels: Mapping[str, int]) -> Tensor:
        """int64 [N] on the device: the label of the class at each place."""
        of_classes = torch.tensor([labels[name] for name in self.counts])
        counts = torch.tensor(list(self.counts.values()))
        return of_classes.repeat_interleave(counts).to(self.device)

    def batch(self, name: str, count: int, draws: torch.Generator) -> Tensor:
        """`count` images of a class without replacement, or all if there are fewer."""
        order = torch.randperm(self.counts[name], generator=draws)
        return self.at(order[:count] + self._start[name])


class Normalise:
    """Images of values 0 to `top` to a mean and a deviation; its constants stay on the device."""

    def __init__(
        self,
        device: torch.device,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        *,
        top: float = 255,
    ) -> None:
        mean, std = (torch.tensor(values, device=device) for values in (mean, std))
        self._scale = (1 / (top * std))[:, None, None]
        self._offset = (-mean / std)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._offset, images.float(), self._scale)

    def undo(self, images: Tensor) -> Tensor:
        return (images - self._offset) / self._scale


def to_uint8(images: Tensor) -> Tensor:
    """Normalised float images as uint8 on the CPU; what is beyond black or white becomes that."""
    pixels = Normalise(images.device).undo(images.detach())
    return pixels.round().clamp(0, 255).to(torch.uint8).cpu()


def as_set(synthesis: Synthesis, classes: Sequence[str]) -> dict[str, Tensor]:
    """What a method's `distil` returns: uint8 [ipc, 3, S, S] by class."""
    return {name: to_uint8(synthesis.images(name)) for name in classes}


def initial_pixels(job: Job, real: Real, classes: Sequence[str], init: str) -> dict[str, Tensor]:
    """Normalised images to begin with, float32 [ipc, 3, S, S] on the device, by class.

    Args:
        init: `real`, the images that the method `random` takes; or `noise`, standard normal.
    """
    begun = {}
    for name in classes:
        if init == "real":
            draws = torch_generator(Draw.RANDOM_REAL, job.generation_seed, name)
            begun[name] = real.batch(name, job.ipc, draws)
        else:
            shape = real.batch(name, 1, torch.Generator()).shape[1:]
            noise = [
                torch.randn(
                    shape,
                    generator=torch_generator(Draw.MATCHING_NOISE, job.generation_seed, name, k),
                )
                for k in range(job.ipc)
            ]
            begun[name] = torch.stack(noise).to(real.device)
    return begun


def labels_of(job: Job) -> dict[str, int]:
    """A label for each class of the data set, by name: its order of classes does not enter."""
    return {name: label for label, name in enumerate(sorted(job.index.classes))}


def _resident(images: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images
