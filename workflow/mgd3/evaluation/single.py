"""A last batch of a single image, which batch norm over maps of 1 x 1 cannot be trained on.

The published loops stop there with torch's error. Here the image joins the batch before it, so that
an epoch still sees each image once; where a network can be trained on a single image, nothing is
other than published.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..base.errors import UserError


def batch_sizes(model: nn.Module, images: int, batch_size: int, size: int) -> list[int]:
    """The sizes of an epoch's batches: `batch_size`, the last one smaller, but never one image that
    `model` cannot be trained on.

    Args:
        size: side of the images, pixels.

    Raises:
        UserError: there is no other batch that it could join.
    """
    sizes = [min(batch_size, images - start) for start in range(0, images, batch_size)]
    if sizes[-1] > 1 or trains_on_one(model, size):
        return sizes
    if batch_size == 1 or len(sizes) == 1:
        raise UserError(
            f"a network with batch norm cannot be trained on batches of one image of {size} px",
            "raise `ipc`, or choose another network",
        )
    return [*sizes[:-2], sizes[-2] + 1]


def trains_on_one(model: nn.Module, size: int) -> bool:
    """Whether a pass over one image in training mode succeeds; it leaves no trace."""
    device = next(model.parameters()).device
    trial = copy.deepcopy(model).train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        try:
            trial(torch.zeros(1, 3, size, size, device=device))
        except ValueError:  # "Expected more than 1 value per channel when training"
            return False
    return True


def joined(batches: Iterable[tuple[Tensor, ...]], sizes: list[int]) -> Iterator[tuple[Tensor, ...]]:
    """Batches, tuples of tensors of one length; the last joined to the one before if `sizes` says
    so."""
    held: list[tuple[Tensor, ...]] = []
    position = 0
    for batch in batches:
        held.append(batch)
        if sum(len(part[0]) for part in held) == sizes[position]:
            yield held[0] if len(held) == 1 else tuple(map(torch.cat, zip(*held, strict=True)))
            held, position = [], position + 1
