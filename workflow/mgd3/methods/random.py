"""Real images of the train split: drawn anew for each generation seed, or the first files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ..base.settings import Setting
from .base import Job, MethodSettings

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Random real images: the baseline of every table."""

    label: ClassVar = "random real images"
    mirrors: ClassVar = False
    deterministic: ClassVar = {"selection": "first"}
    selection: Annotated[
        Literal["seeded", "first"],
        Setting(
            "which real images: drawn with the generation seed, or the first files in "
            "lexicographic order",
            place=20,
            label=lambda _: "first files",
        ),
    ] = "seeded"


def distil(job: Job) -> dict[str, Tensor]:
    """`ipc` images a class without replacement; IPC 10 is the start of IPC 20.

    The draw depends on the class and the generation seed. With `selection` = `first` there is none:
    the first images in lexicographic order of their files, the rule of MinimaxDiffusion's data
    loader (`slct_type random`).
    """
    from .selection.random import first_images

    return first_images(job, seeded=job.settings["selection"] == "seeded")
