"""The cross-architecture protocol of GLaD.

Source: `evaluate_synset` in `utils.py` of GeorgeCazenavette/glad. Entries named `-small` are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from .base import Optimiser, Protocol, Resize, as_json

DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
_FIRST_FACTOR = 1e-7  # of the learning rate, in the first epoch


@dataclass(frozen=True)
class GladPlan:
    """The schedule: see `base.Plan`. The network is tested once, at the end.

    Attributes:
        optimiser: learning rate (the peak), weight decay and batch size.
        average_decay: upper bound of the decay of the averaged weights.
    """

    epochs: int
    evaluation_epochs: tuple[int, ...]
    optimiser: Optimiser
    average_decay: float

    def learning_rates(self) -> list[float]:
        """The learning rate of each epoch, [epochs]: linear up to the middle, then half a cosine.

        The published loop changes over one epoch late, so the peak lasts for two epochs.
        """
        half = self.epochs // 2
        rates = []
        for epoch in range(self.epochs):
            factor = _FIRST_FACTOR + (1 - _FIRST_FACTOR) * epoch / half
            if epoch > half:
                factor = (1 + math.cos(math.pi * (epoch - half - 1) / half)) / 2
            rates.append(self.optimiser.learning_rate * factor)
        return rates

    @property
    def restarts(self) -> tuple[int, ...]:
        """Epochs at whose start the momentum is forgotten: none."""
        return ()

    def decays(self) -> list[float]:
        """The decay of the averaged weights at each epoch's end, [epochs]; 0 copies the weights.

        Below the bound it is n / (n + 1), which makes the average almost a plain mean.
        """
        return [0.0 if n < 2 else min(self.average_decay, n / (n + 1)) for n in range(self.epochs)]


@dataclass(frozen=True, kw_only=True)
class GladProtocol(Protocol):
    """Cross-entropy on images under DSA; the averaged weights are tested: see `base.Protocol`.

    Attributes:
        epochs: whatever the number of images.
        optimiser: of most networks.
        learning_rates: of the networks that have their own.
        average_decay: see `GladPlan`.
        operations: of DSA, one of which is drawn for each batch.
    """

    epochs: int
    optimiser: Optimiser
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    average_decay: float
    operations: tuple[str, ...] = DSA_OPERATIONS
    networks: str = "glad"
    resize: Resize = "tensor"
    engine: str = "glad"

    def plan(self, num_classes: int, ipc: int, network: str = "") -> GladPlan:
        rate = self.learning_rates.get(network, self.optimiser.learning_rate)
        return GladPlan(
            epochs=self.epochs,
            evaluation_epochs=(self.epochs,),
            optimiser=replace(self.optimiser, learning_rate=rate),
            average_decay=self.average_decay,
        )

    def settings(self, num_classes: int, ipc: int, network: str = "") -> dict[str, Any]:
        plan = self.plan(num_classes, ipc, network)
        return as_json(
            {
                **self._common(),
                "epochs": plan.epochs,
                "evaluations": len(plan.evaluation_epochs),
                **asdict(plan.optimiser),
                "average_decay": plan.average_decay,
                "augmentation": {"dsa": self.operations},
            }
        )

    def without_flips(self) -> Self:
        return replace(self, operations=tuple(o for o in self.operations if o != "flip"))


_GLAD = GladProtocol(
    name="glad",
    description="GLaD's cross-architecture evaluation at 128 px, tested once at the end.",
    size=128,
    epochs=1000,
    optimiser=Optimiser(learning_rate=0.001, weight_decay=5e-4, batch_size=256),
    learning_rates={"vgg11": 0.0001},
    average_decay=0.995,
)

GLAD_PROTOCOLS = (
    _GLAD,
    replace(
        _GLAD,
        name="glad-aliased",
        description="`glad` with images shrunk as torchvision did before 0.17: not antialiased.",
        resize="tensor-aliased",
    ),
    replace(
        _GLAD,
        name="glad-small",
        description="`glad` at 64 px in 40 epochs, at ten times its learning rates (not of ViT).",
        size=64,
        epochs=40,
        optimiser=replace(_GLAD.optimiser, learning_rate=0.01),
        # Without a norm, ViT diverges at 0.01.
        learning_rates={"vgg11": 0.001, "vit": 0.001},
        # The published bound forgets over 200 of 1000 epochs; this one over 8 of 40.
        average_decay=0.875,
    ),
)
