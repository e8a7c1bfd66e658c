"""Features of real images: the input of a teacher's last layer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..augment import normalise
from ..data.images import prefetched, raise_undecodable, resize_centre_crop
from ..memory import halving
from . import get_teacher, load

if TYPE_CHECKING:
    from ..methods import Job

_BATCH = 128


class Features:
    """The features that a method's teacher has of the training images of a class.

    Images are resized and cropped as the teacher's test images are. A class is one pass of its own,
    so that its features do not depend on how classes are split into jobs.
    """

    def __init__(self, job: Job) -> None:
        recipe = get_teacher(job.settings["teacher"])
        self._crop = partial(resize_centre_crop, resized=recipe.test_resize)
        self._teacher = load(job.teacher, job.device)
        self._job = job

    @torch.inference_mode()
    def of_class(self, name: str) -> tuple[Tensor, list[str]]:
        """Float32 [N, D] on the teacher's device, and the keys of the N images.

        Raises:
            UserError: fewer images than IPC; one that cannot be decoded, unless the data set says
                to leave such images out.
        """
        job, teacher = self._job, self._teacher
        keys = job.training_images(name, at_least=job.ipc)
        job.index.require_unchanged(job.dataset.source, keys)
        chunks = [keys[k : k + _BATCH] for k in range(0, len(keys), _BATCH)]
        found, kept, errors = [], [], []
        for read in prefetched(job.dataset.source, chunks, teacher.size, self._crop):
            errors += read.errors
            kept += read.images
            if read.images:
                of = partial(self._features, read.pixels)
                found += halving(len(read.images), _BATCH, of, what="see one image")
        if len(kept) < job.ipc or job.dataset.undecodable == "fail":
            raise_undecodable(errors)
        return torch.cat(found), kept

    def _features(self, pixels: Tensor, part: slice) -> Tensor:
        teacher = self._teacher
        x = normalise(pixels[part].to(self._job.device), teacher.mean, teacher.std)
        return teacher.features(x).float()
