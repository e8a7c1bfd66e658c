"""What a sampler predicts on its way: recorded by a callback, without changing it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..generators.base import Generator
from .sampling import SamplingSettings, guided_steps, schedule_of


class Recorder:
    """A `Callback` that keeps x0_hat of chosen steps, on the device: no step waits for it.

    Args:
        steps: step indices i.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps = list(steps)
        self._held: dict[int, Tensor] = {}

    def __call__(self, i: int, x: Tensor, x0_hat: Tensor) -> None:
        if i in self.steps:
            self._held[i] = x0_hat

    def taken(self) -> Tensor:
        """Of the batch that has just ended, float32 [n, len(steps), C, h, w]; and forget it."""
        held, self._held = self._held, {}
        return torch.stack([held[i] for i in self.steps], dim=1)


class Trajectory(Recorder):
    """x0_hat of chosen steps as images.

    Attributes:
        images: by the item's place in its list, uint8 [len(steps), 3, H, W].
        guided: whether stop guidance lets each of `steps` be guided.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__(steps)
        self.images: dict[int, Tensor] = {}
        self.guided: list[bool] = []

    def finish(
        self, indices: Sequence[int], generator: Generator, settings: SamplingSettings
    ) -> None:
        """Decode what the batch of these items, which has just ended, has left."""
        x0_hat = self.taken()
        decoded = generator.decode(x0_hat.flatten(0, 1)).cpu().unflatten(0, x0_hat.shape[:2])
        self.images |= dict(zip(indices, decoded, strict=True))
        flags = guided_steps(schedule_of(generator, settings), settings)
        self.guided = [flags[i] for i in self.steps]
