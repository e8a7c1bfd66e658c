"""RDED's images: mosaics of the crops that a teacher finds most typical (Sun et al., CVPR 2024).

Facts from LINs-lab/RDED. Here mosaics are kept as they are, where the original writes JPEG files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from ..base.settings import Count, Setting
from .base import Job, MethodSettings, Teacher

if TYPE_CHECKING:
    from torch import Tensor


class Settings(MethodSettings):
    """Crops of real images, chosen by a teacher's losses."""

    label: ClassVar = "RDED mosaics"
    mirrors: ClassVar = False
    needs: ClassVar = ("teacher",)
    asks_for_classes: ClassVar = True
    teacher: Teacher = "resnet18"
    candidates: Annotated[
        Count, Setting("real images of a class that crops are taken from; at least 4 ipc are")
    ] = 300
    crops: Annotated[
        Count, Setting("random crops of each candidate, of which the best is kept")
    ] = 5


def distil(job: Job) -> dict[str, Tensor]:
    """2 x 2 mosaics of the 4 * `ipc` best crops of each class, crops of half the data set's size.

    Every crop depends on its image and the generation seed. At most one of an image is used.

    Raises:
        UserError: fewer than 4 * `ipc` images; an image that cannot be decoded.
    """
    from .selection.rded import made_of_crops

    return made_of_crops(job)
