"""Features of real images: the input of a teacher's last layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..base.errors import UserError
from ..base.memory import halving
from ..data.images import prefetched, resize_centre_crop, settle_undecodable
from ..data.index import Index
from ..data.registry import Dataset
from ..networks.augment import normalise
from . import get_teacher, load

_BATCH = 128


class Features:
    """The features that a teacher has of the images of a data set.

    Images are resized and cropped as the teacher's test images are.

    Args:
        teacher: its name, of `TEACHERS`.
        folder: where its weights lie.
    """

    def __init__(
        self, teacher: str, folder: Path, dataset: Dataset, index: Index, device: str
    ) -> None:
        self._crop = partial(resize_centre_crop, resized=get_teacher(teacher).test_resize)
        self._teacher = load(folder, device)
        self._dataset, self._index, self._device = dataset, index, device

    @torch.inference_mode()
    def of(self, images: Sequence[str], at_least: int = 1) -> tuple[Tensor, list[str]]:
        """Float32 [N, D] on the teacher's device, and the keys of the N images.

        A call is a pass of its own: ask for one class at a time, and its features do not depend on
        how classes are split into jobs.

        Raises:
            UserError: an image cannot be decoded, unless the data set says to leave such images out
                and `at_least` as many are left.
        """
        source, teacher = self._dataset.source, self._teacher
        if not images:
            raise UserError(f"{self._dataset.name} has a class without images", "add images")
        self._index.require_unchanged(source, images)
        chunks = [images[k : k + _BATCH] for k in range(0, len(images), _BATCH)]
        found, kept, errors = [], [], []
        for read in prefetched(source, chunks, teacher.size, self._crop):
            errors += read.errors
            kept += read.images
            if read.images:
                of = partial(self._features, read.pixels)
                found += halving(len(read.images), _BATCH, of, what="see one image")
        whose, enough = f"images of {self._dataset.name}", len(kept) >= at_least
        policy = self._dataset.undecodable
        settle_undecodable(errors, policy, whose, len(images), enough=enough)
        return torch.cat(found), kept

    def _features(self, pixels: Tensor, part: slice) -> Tensor:
        teacher = self._teacher
        x = normalise(pixels[part].to(self._device), teacher.mean, teacher.std)
        return teacher.features(x).float()
