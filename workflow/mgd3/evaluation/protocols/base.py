"""What all evaluation protocols share: names, image size, durations."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self
from typing import Protocol as Interface

from ...networks.names import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from ...data.registry import Dataset

Precision = Literal["fp32", "tf32", "bf16"]
# How a real or distilled image becomes a square of the protocol's size: as PIL does (antialiased),
# or as a tensor, with antialiasing (torchvision's default from 0.17) or without (before).
Resize = Literal["pil", "tensor", "tensor-aliased"]


class Plan(Interface):
    """A protocol's schedule for one number of classes, of images per class, and one network.

    Attributes:
        epochs: epochs of training.
        evaluation_epochs: the epochs after which the network is tested; the last is `epochs`.
    """

    @property
    def epochs(self) -> int: ...

    @property
    def evaluation_epochs(self) -> Sequence[int]: ...

    def learning_rates(self) -> list[float]:
        """The learning rate of each epoch, [epochs]."""
        ...


@dataclass(frozen=True)
class EpochTable:
    """Epochs by images per class.

    Attributes:
        rows: (largest IPC, epochs), ascending.
        beyond: epochs above the last row.
        reduce_100: for exactly 100 classes, take two thirds, floored to a multiple of 100.
    """

    rows: tuple[tuple[int, int], ...]
    beyond: int
    reduce_100: bool

    def epochs(self, num_classes: int, ipc: int, batch_size: int) -> int:
        epochs = next((count for largest, count in self.rows if ipc <= largest), self.beyond)
        if self.reduce_100 and num_classes == 100:
            epochs = epochs * 2 // 3 // 100 * 100
        return epochs


@dataclass(frozen=True)
class StepBudget:
    """As many epochs as a number of optimiser steps takes, so that IPC hardly changes the time.

    Attributes:
        steps: optimiser steps to reach.
        min_epochs: fewest epochs, whatever the number of images.
    """

    steps: int
    min_epochs: int

    def epochs(self, num_classes: int, ipc: int, batch_size: int) -> int:
        steps_per_epoch = -(-num_classes * ipc // batch_size)
        return max(self.min_epochs, -(-self.steps // steps_per_epoch))


@dataclass(frozen=True)
class Optimiser:
    """SGD: initial learning rate, weight decay of all parameters, batch size."""

    learning_rate: float
    weight_decay: float
    batch_size: int
    momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """How a network is trained on a distilled set and tested.

    Attributes:
        name: the registry's key.
        description: one sentence, for the configuration's reference.
        size: side of the square input, pixels.
        networks: the family of `NETWORKS` in which its networks are named.
        resize: how images are brought to `size`; see `Resize`.
        mean, std: normalisation, per channel, of images in [0, 1].
        precision: `fp32`; `tf32` (convolutions in TF32, PyTorch's default on CUDA, and so
            the published runs'); `bf16` (autocast, CUDA only).
        engine: module of `mgd3.evaluation` whose `train_network` runs it; or, with dots, of another
            package.
        native: distilled images keep the side they were made at; the engine resizes its crops.
    """

    name: str
    description: str
    size: int
    networks: str = "hard"
    resize: Resize = "pil"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    precision: Precision = "fp32"
    engine: str = "hard"
    native: bool = False
    # To be raised when its results change; not a setting of its own.
    version: int = field(default=1, repr=False)

    @property
    def pixels(self) -> str:
        """How its real images are made: the `size` of `mgd3.methods.blocks.write_pixels`."""
        return str(self.size) + ("" if self.resize == "pil" else f"-{self.resize}")

    def require_dataset(self, dataset: Dataset) -> None:  # noqa: B027, most judge any
        """Raise UserError where this protocol cannot judge sets of this data set."""

    @abstractmethod
    def plan(self, num_classes: int, ipc: int, network: str = "") -> Plan:
        """The explicit schedule of a network on `num_classes` classes of `ipc` images."""

    @abstractmethod
    def settings(self, num_classes: int, ipc: int, network: str = "") -> dict[str, Any]:
        """Every setting that changes a result, resolved, as JSON values."""

    @abstractmethod
    def without_flips(self) -> Self:
        """The same for images whose mirror image is of another class."""

    def _common(self) -> dict[str, Any]:
        keys = ("size", "networks", "resize", "mean", "std", "precision")
        return {key: getattr(self, key) for key in keys}


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Lists for tuples, as a reader of the file will find them."""
    return json.loads(json.dumps(settings))
