"""DatasetCondensation's evaluation at 32 px: what matching methods publish on CIFAR-10.

Source: `evaluate_synset` in `utils.py` and `main_DM.py`, `main.py` of VICO-UoE/DatasetCondensation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from .base import Optimiser, Protocol, as_json
from .glad import DSA_OPERATIONS

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class DcPlan:
    """The schedule: see `base.Plan`. The network is tested once, at the end.

    Attributes:
        optimiser: learning rate, weight decay and batch size.
        drop: the first epoch at a tenth of the learning rate, with an optimiser made anew.
    """

    epochs: int
    evaluation_epochs: tuple[int, ...]
    optimiser: Optimiser
    drop: int

    def learning_rates(self) -> list[float]:
        """The learning rate of each epoch, [epochs]."""
        rate = self.optimiser.learning_rate
        return [rate if epoch < self.drop else rate / 10 for epoch in range(self.epochs)]

    def decays(self) -> list[float]:
        """0 for each epoch, [epochs]: the weights themselves are tested, not an average of them."""
        return [0.0] * self.epochs

    @property
    def restarts(self) -> tuple[int, ...]:
        """Epochs at whose start the momentum is forgotten."""
        return (self.drop,)


@dataclass(frozen=True, kw_only=True)
class DcProtocol(Protocol):
    """Cross-entropy with SGD in two stages: see `base.Protocol`.

    Attributes:
        published_epochs: as the published code counts them; its loop runs once more.
        operations: of DSA, one of which is drawn for each batch; none trains on the images as they
            are.
    """

    published_epochs: int
    optimiser: Optimiser
    operations: tuple[str, ...] = ()
    networks: str = "dc"
    mean: tuple[float, float, float] = CIFAR_MEAN
    std: tuple[float, float, float] = CIFAR_STD
    engine: str = "glad"

    def plan(self, num_classes: int, ipc: int, network: str = "") -> DcPlan:
        epochs = self.published_epochs + 1
        # The rate falls after epoch published_epochs // 2 + 1 (counted from 0).
        return DcPlan(epochs, (epochs,), self.optimiser, drop=self.published_epochs // 2 + 2)

    def settings(self, num_classes: int, ipc: int, network: str = "") -> dict[str, Any]:
        plan = self.plan(num_classes, ipc, network)
        return as_json(
            {
                **self._common(),
                "epochs": plan.epochs,
                "evaluations": len(plan.evaluation_epochs),
                "drop": plan.drop,
                **asdict(plan.optimiser),
                "augmentation": {"dsa": self.operations},
            }
        )

    def without_flips(self) -> Self:
        return replace(self, operations=tuple(o for o in self.operations if o != "flip"))


_DC = DcProtocol(
    name="dc32",
    description="DatasetCondensation's evaluation at 32 px: 300 epochs, no augmentation.",
    size=32,
    published_epochs=300,
    optimiser=Optimiser(learning_rate=0.01, weight_decay=5e-4, batch_size=256),
)

DC_PROTOCOLS = (
    _DC,
    replace(
        _DC,
        name="dc32-dsa",
        description="DatasetCondensation's evaluation of DSA and DM: 1000 epochs under DSA.",
        published_epochs=1000,
        operations=DSA_OPERATIONS,
    ),
)
