"""Real images, drawn towards the mean of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mgd3.base.settings import Setting, Sweep
from mgd3.methods import Job, MethodSettings

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """The first images of a class, each mixed with the mean of the class."""

    label: ClassVar = "mean images"
    deterministic: ClassVar = True
    share: Annotated[
        Sweep[Annotated[float, Field(ge=0, le=1)]],
        Setting("how much of an image is the mean", label="share {:g}", always=True),
    ] = 0.5


def distil(job: Job) -> dict[str, Tensor]:
    import torch

    from mgd3.data.images import read_images

    made = {}
    for name in job.classes:
        keys = job.training_images(name, job.ipc)
        images = read_images(job.dataset.source, keys[:50], job.dataset.size).float()
        mixed = torch.lerp(images[: job.ipc], images.mean(0), job.settings["share"])
        made[name] = mixed.round().to(torch.uint8)
    return made
