"""A teacher's logits of all that a student will see, stored in half precision.

An epoch's crops and mixes are drawn from seeds named by the generation seed and the epoch, so that
nothing but logits has to be kept: two bytes for each class, image and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.artifacts import load_tensors, sha256_of, tensor_metadata
from ..base.errors import UserError
from ..base.seeding import Draw, torch_generator


def label_generator(generation_seed: int, epoch: int) -> torch.Generator:
    """The draws of an epoch's crops and mixes, for the teacher and for every student."""
    return torch_generator(Draw.RELABEL, generation_seed, epoch)


class StoredLabels:
    """The stored labels of one distilled set.

    Args:
        paths: all parts.
        train: the distilled set they must belong to.
        settings: of the protocol, resolved, which they must have been made with.

    Raises:
        UserError: a part is missing or damaged, or belongs to other images or settings.
    """

    def __init__(
        self, paths: Sequence[Path], train: Path, settings: dict[str, Any], generation_seed: int
    ) -> None:
        self.generation_seed = generation_seed
        self.parts = sorted(
            ((tensor_metadata(path), Path(path)) for path in paths), key=lambda p: p[0]["epochs"]
        )
        wanted = {"images": sha256_of(train), "generation_seed": generation_seed}
        # The learning rate is the student's.
        own = {k: v for k, v in settings.items() if k != "learning_rate"}
        end = 0
        for held, path in self.parts:
            made = {k: v for k, v in held["settings"].items() if k != "learning_rate"}
            if {k: held.get(k) for k in wanted} != wanted or made != own:
                raise UserError(
                    f"{path} holds labels of other images or settings than {train}",
                    "delete it and run the workflow again to remake it",
                )
            if held["epochs"][0] != end:
                break
            end = held["epochs"][1]
        if end != settings["epochs"]:
            raise UserError(
                f"the stored labels of {train} end at epoch {end} of {settings['epochs']}",
                "give all parts, each once",
            )
        self._held: tuple[Path, Tensor] | None = None

    @property
    def identity(self) -> list[Any]:
        """What tells them from other labels of the same images."""
        return [[held["teacher"], *held["epochs"]] for held, _ in self.parts]

    def bytes(self) -> int:
        """Of all logits."""
        return sum(held["bytes"] for held, _ in self.parts)

    def generator(self, epoch: int) -> torch.Generator:
        return label_generator(self.generation_seed, epoch)

    def logits(self, epoch: int) -> Tensor:
        """Of an epoch (0-based): float16 [images, classes], in the order of its batches."""
        for held, path in self.parts:
            start, stop = held["epochs"]
            if start <= epoch < stop:
                return self._read(path)[epoch - start]
        raise IndexError(epoch)

    def _read(self, path: Path) -> Tensor:
        # One part at a time, at most 2 GiB.
        if self._held is None or self._held[0] != path:
            self._held = None
            self._held = path, load_tensors(path, ["logits"])["logits"]
        return self._held[1]
