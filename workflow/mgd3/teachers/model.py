"""A teacher's files: weights in safetensors, and a JSON that says what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..base.artifacts import load_json, load_tensors, save_json, save_tensors, sha256_of
from ..base.errors import UserError, did_you_mean
from ..networks.architectures import create_network, features, features_and_output
from . import TEACHER_FILES

_CARD = {
    "network": str, "classes": [str], "size": int, "mean": [float], "std": [float], "sha256": str,
    "accuracy?": dict, "teacher?": str,
}  # fmt: skip


@dataclass(frozen=True)
class Teacher:
    """A frozen network in evaluation mode.

    Attributes:
        model: float [N, 3, size, size], normalised -> logits [N, all of its classes].
        classes: keys of its classes in the order of its logits (wnids where it knows ImageNet).
        size: side of its input, pixels.
        mean, std: of the normalisation of images in [0, 1], per channel.
        digest: SHA-256 of the file of weights.
        rows: which logits are used, in order; None for all.
        given: mean and std of the images that it is handed, where they are not its own.
    """

    model: nn.Module
    classes: list[str]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    digest: str
    rows: Tensor | None = None
    given: tuple[Sequence[float], Sequence[float]] | None = None

    def normalised_with(self, mean: Sequence[float], std: Sequence[float]) -> Teacher:
        """The same teacher for images that are normalised with this mean and deviation."""
        own = (tuple(mean), tuple(std)) == (self.mean, self.std)
        return replace(self, given=None if own else (tuple(mean), tuple(std)))

    def _own(self, images: Tensor) -> Tensor:
        """Images as it was trained on them."""
        if self.given is None:
            return images
        own_mean, own_std, mean, std = (
            images.new_tensor(values)[:, None, None]
            for values in (self.mean, self.std, *self.given)
        )
        return images * (std / own_std) + (mean - own_mean) / own_std

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of normalised float images [N, 3, S, S], without gradients of its own
        weights; gradients flow to the images where they ask for them.
        """
        return self._chosen(self.model(self._own(images)))

    def features(self, images: Tensor) -> Tensor:
        """What the last linear layer is given, [N, D], of normalised float images [N, 3, S, S]."""
        return features(self.model, self._own(images))

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] and logits [N, classes] in one pass."""
        found, logits = features_and_output(self.model, self._own(images))
        return found, self._chosen(logits)

    def _chosen(self, logits: Tensor) -> Tensor:
        return logits if self.rows is None else logits[:, self.rows]

    @property
    def identity(self) -> list[Any]:
        """What tells its logits from those of others, as JSON."""
        return [self.digest, self.classes]

    def slice(self, classes: Sequence[str]) -> Teacher:
        """The same teacher with logits for `classes` only, in that order.

        Raises:
            UserError: it does not know one of them.
        """
        if list(classes) == self.classes and self.rows is None:
            return self
        return replace(self, classes=list(classes), rows=self.rows_of(classes))

    def rows_of(self, classes: Sequence[str]) -> Tensor:
        """Where classes stand among all of its own, int64 [len(classes)], on its device.

        Raises:
            UserError: it does not know one of them.
        """
        row_of = {name: row for row, name in enumerate(self.classes)}
        if missing := [name for name in classes if name not in row_of]:
            raise UserError(
                f"the teacher does not know class {missing[0]!r} ({len(missing)} unknown)",
                f"{did_you_mean(missing[0], row_of) if len(row_of) < 50 else ''} "
                "use a teacher trained on this data set".strip(),
            )
        device = next(self.model.parameters()).device
        return torch.tensor([row_of[name] for name in classes], device=device)


def save(folder: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write a teacher. The card names network, classes, size, mean, std and what is known of it."""
    model, description = (folder / file for file in TEACHER_FILES)
    save_tensors(model, weights, {k: card[k] for k in ("network", "classes", "size")})
    save_json(description, {**card, "sha256": sha256_of(model)})


def load(folder: Path, device: str | torch.device) -> Teacher:
    """See `mgd3.teachers.load`."""
    model_file, card_file = (folder / file for file in TEACHER_FILES)
    card = load_json(card_file, _CARD)
    weights = load_tensors(model_file)
    if card.get("sha256") != sha256_of(model_file):
        raise UserError(
            f"{model_file} is not the file that {card_file.name} describes",
            "delete the folder and run again to remake it",
        )
    with torch.random.fork_rng([]), torch.device("meta"):
        model = create_network(card["network"], len(card["classes"]), card["size"], "soft")
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{model_file} does not fit {card['network']}: {str(error).splitlines()[0]}",
            "delete the folder and run again to remake it",
        ) from error
    model.eval().requires_grad_(False).to(device)
    mean, std = tuple(card["mean"]), tuple(card["std"])
    return Teacher(model, card["classes"], card["size"], mean, std, card["sha256"])
