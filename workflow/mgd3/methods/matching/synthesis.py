"""What is optimised, and the images that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...base.memory import halving

PIXELS = "pixels"
Part = TypeVar("Part")
# Leaves and constants of some images -> normalised float images [n, 3, S, S].
Make = Callable[[str, Mapping[str, Tensor]], Tensor]


class Synthesis(nn.Module):
    """What is optimised, by class, and the images that come of it.

    Args:
        tensors: by class and key, [n, ...] with one row an image. Of those that require gradients
            the leaves are copies; the others are constants of the images (their noise, for
            instance).
        make: makes normalised images [rows, 3, S, S] of a class of any of its rows, each image of
            its own row alone; weights in it must be frozen. None: the one key is `pixels`, the
            images themselves.
        chunk: images that `make` makes at a time, fewer when memory runs out; None for all of a
            class.
    """

    def __init__(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        make: Make | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = list(tensors)
        self._place = {name: place for place, name in enumerate(self.classes)}
        # By place: the names of classes may be anything.
        self.held = nn.ModuleList(
            nn.ParameterDict({k: _leaf(t) for k, t in of.items() if t.requires_grad})
            for of in tensors.values()
        )
        self._constants = [
            {key: t for key, t in of.items() if not t.requires_grad} for of in tensors.values()
        ]
        self._make, self._chunk = make, chunk

    def leaves(self, key: str) -> list[nn.Parameter]:
        """The leaves of a key, one for each class: a group of the optimiser's parameters."""
        return [of[key] for of in self.held]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Leaves and constants of a class."""
        place = self._place[name]
        return {**dict(self.held[place].items()), **self._constants[place]}

    def images(self, name: str) -> Tensor:
        """Normalised images of a class [n, 3, S, S], a leaf that takes gradients.

        Raises:
            UserError: too little memory to make one image.
        """
        if self._make is None:
            return self.tensors(name)[PIXELS]
        tensors = self.tensors(name)

        def made(part: slice) -> Tensor:
            return self._make(name, {key: tensor[part] for key, tensor in tensors.items()})

        with torch.no_grad():
            parts = list(self._by_parts(name, made, "make one image"))
        return torch.cat(parts).requires_grad_()

    def push(self, name: str, gradient: Tensor) -> None:
        """Add to the leaves' gradients what a gradient at the images [n, 3, S, S] is for them.

        Raises:
            UserError: too little memory for the gradient of one image.
        """
        if self._make is None:
            leaf = self.tensors(name)[PIXELS]
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
            return
        tensors, leaves = self.tensors(name), dict(self.held[self._place[name]].items())
        for leaf in leaves.values():
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)

        def add(part: slice) -> None:
            # Leaves of the part's own, so that one that does not fit adds nothing to the whole.
            rows = {
                key: tensor[part].detach().requires_grad_(key in leaves)
                for key, tensor in tensors.items()
            }
            made = self._make(name, rows)
            found = torch.autograd.grad(made, [rows[key] for key in leaves], gradient[part])
            for leaf, of_part in zip(leaves.values(), found, strict=True):
                leaf.grad[part] += of_part

        for _ in self._by_parts(name, add, "take the gradient of one image"):
            pass

    def _by_parts(self, name: str, work: Callable[[slice], Part], what: str) -> Iterator[Part]:
        n = len(next(iter(self.tensors(name).values())))

        def shrink(size: int) -> None:
            self._chunk = size

        return halving(n, self._chunk or n, work, what=what, shrunk=shrink)


def _leaf(tensor: Tensor) -> nn.Parameter:
    # Row by row in memory, whatever layout an encoder gives: as a leaf and its momentum come back
    # from a file. In another layout other kernels run, which round differently.
    return nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format))
