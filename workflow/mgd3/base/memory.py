"""Going on with smaller batches when memory runs out, on a GPU or in main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from .device import is_out_of_memory
from .errors import UserError

Result = TypeVar("Result")
MEND = "use a device with more memory, or on a cluster raise this rule's `mem_mb`"


def halving(
    total: int,
    size: int,
    work: Callable[[slice], Result],
    *,
    what: str,
    mend: str = "use a device with more memory",
    shrunk: Callable[[int], None] | None = None,
) -> Iterator[Result]:
    """Yield `work(slice)` over 0 .. total - 1 in slices of at most `size`.

    When memory runs out the slice is halved and tried again, and the smaller size is kept. So
    `work` must give the same for a part however the parts are cut.

    Args:
        what: for the message, for instance "make one image".
        shrunk: told each smaller size, so that the next call may begin with it.

    Raises:
        UserError: a slice of one does not fit either.
    """
    start = 0
    while start < total:
        part = slice(start, min(total, start + size))
        count = part.stop - start
        try:
            result = work(part)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if count == 1:
                raise UserError(f"not enough memory to {what}", mend) from error
            size = count // 2
            if shrunk is not None:
                shrunk(size)
        else:
            yield result
            start = part.stop
            continue
        # Outside the handler, whose traceback would keep the failed batch alive.
        release()


def release() -> None:
    """Give unused memory back to the GPU, so that smaller blocks can be cut from it."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def undivided(what: str) -> Iterator[None]:
    """Work that cannot be cut.

    Raises:
        UserError: memory runs out in the block.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"not enough memory for {what}", MEND) from error


class Parts:
    """How many images are computed at a time: all until memory runs out, then ever fewer.

    What fits is kept for the next call, so that it need not run out again.
    """

    def __init__(self) -> None:
        self._size: int | None = None

    def __call__(
        self, n: int, work: Callable[[int], Result], on_failure: Callable[[int], None]
    ) -> Result:
        """`work(size)` for the first size, `n` or fewer, that memory allows.

        Args:
            work: must give the same for every size, and leave nothing behind when it fails.
            on_failure: told the size that did not fit; raises where there is no smaller one.
        """
        size = min(n, self._size or n)
        while True:
            try:
                return work(size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                on_failure(size)
            # Outside the handler, whose traceback would keep the failed batch alive.
            size = self._size = (size + 1) // 2
            release()


def require_separable(network: nn.Module, what: str) -> None:
    """Raise UserError for a network that makes of parts of a batch something else than of all of
    it: images see each other (batch norm), or dropout draws for the whole batch.

    Args:
        what: does not fit, for instance "a training batch of 64 images".
    """
    for module in network.modules():
        mixes = isinstance(module, _BatchNorm) and module.training
        if mixes or (isinstance(module, nn.Dropout) and module.training and module.p > 0):
            raise UserError(
                f"not enough memory for {what}, and {type(module).__name__} does not allow to "
                "cut it",
                f"{MEND}, or choose a network without it",
            )


class SplitBackward:
    """The gradient of a training batch, in as few parts as memory allows.

    A mean over the batch is the mean of its parts weighted by their lengths, so that the step is
    the same to float rounding however the batch is cut. That does not hold for the networks that
    `require_separable` names.

    Args:
        model: the network that is trained, in training mode when called.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._parts = model, Parts()

    def __call__(self, n: int, loss_of: Callable[[slice], Tensor]) -> Tensor:
        """Zero the gradients, and accumulate those of the batch's mean loss.

        Args:
            n: images in the batch.
            loss_of: the mean loss over a slice of the batch, a scalar with a graph.

        Returns:
            The batch's mean loss, detached, on its device.

        Raises:
            UserError: one image does not fit, or the batch cannot be cut.
        """

        def accumulate(size: int) -> Tensor:
            self._model.zero_grad(set_to_none=True)
            try:
                return _accumulate(n, size, loss_of)
            except Exception:
                self._model.zero_grad(set_to_none=True)
                raise

        return self._parts(n, accumulate, self._require_smaller)

    def _require_smaller(self, size: int) -> None:
        if size == 1:
            raise UserError("not enough memory to train on one image", MEND)
        require_separable(self._model, f"a training batch of {size} images")


def _accumulate(n: int, size: int, loss_of: Callable[[slice], Tensor]) -> Tensor:
    if size == n:
        loss = loss_of(slice(0, n))
        loss.backward()
        return loss.detach()
    parts = []
    for start in range(0, n, size):
        part = slice(start, min(n, start + size))
        loss = loss_of(part) * ((part.stop - start) / n)
        loss.backward()
        parts.append(loss.detach())
    return torch.stack(parts).sum()


def mean_of_parts(
    statistic: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, size: int
) -> tuple[Tensor, ...]:
    """`statistic(images)`, which are means over the images [N, ...], from `size` of them at a time.

    Of several parts only one has its graph at a time: the gradient at the images computes each part
    once more.

    Args:
        statistic: differentiable where its images require a gradient; of a part it must not depend
            on the other parts (see `require_separable`).
    """
    if size >= len(images):
        return statistic(images)
    return _MeanOfParts.apply(statistic, size, images)


class _MeanOfParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, statistic: Any, size: int, images: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(images)
        ctx.statistic, ctx.size = statistic, size
        means: list[Tensor] = []
        for part in images.detach().split(size):
            share = len(part) / len(images)
            found = [mean * share for mean in statistic(part)]
            means = [a + b for a, b in zip(means, found, strict=True)] if means else found
        return tuple(means)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        (images,), found = ctx.saved_tensors, []
        for part in images.detach().split(ctx.size):
            share = len(part) / len(images)
            with torch.enable_grad():
                leaf = part.requires_grad_()
                means = ctx.statistic(leaf)
            found += torch.autograd.grad(means, leaf, [share * of for of in gradients])
        return None, None, torch.cat(found)
