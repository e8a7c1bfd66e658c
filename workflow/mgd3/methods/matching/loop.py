"""The loop of an optimisation: checkpoints, the log, and the same result each time."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...base.checkpoint import Checkpoint
from ...base.errors import UserError
from ...base.progress import LOG_SECONDS, Progress
from ...base.seeding import Draw, seed_of
from ...generators.base import exact_float32

if TYPE_CHECKING:
    from ..base import Job


CHECKPOINT_SECONDS = 60.0


def identity_of(job: Job, classes: Sequence[str]) -> dict[str, Any]:
    """What tells an unfinished optimisation from others; `classes` are those whose images count."""
    keys = [key for name in classes for key in job.index.images(name, "train")]
    return {
        "version": job.version,
        "torch": torch.__version__,
        "device": torch.device(job.device).type,
        "dataset": [job.dataset.name, job.dataset.flip],
        "images": seed_of(Draw.IMAGES, *keys),
        "classes": list(classes),
        "ipc": job.ipc,
        "generation_seed": job.generation_seed,
        "settings": job.settings,
    }


def optimise(
    synthesis: nn.Module,
    optimiser: torch.optim.Optimizer,
    iteration: Callable[[int], Tensor],
    iterations: int,
    *,
    what: str,
    checkpoint: Path | None,
    identity: Mapping[str, Any],
    each: int | None = None,
) -> Tensor:
    """Run iterations 0 .. `iterations` - 1, or what an interrupted attempt left of them.

    Args:
        synthesis: what is optimised, with all that a later iteration needs of the earlier ones.
        iteration: runs one and returns its loss, a scalar on the device. Its draws are named by its
            number.
        what: for the log.
        checkpoint: where to keep the state of an unfinished optimisation, at most once a minute;
            an existing one of the same `identity` is continued. Removed at the end.
        identity: JSON.
        each: iterations of one optimisation, where these are several after one another.

    Returns:
        The losses, float32 [iterations], on the CPU.

    Raises:
        UserError: a loss is not finite.
    """
    history = nn.Module()
    device = next(synthesis.parameters()).device
    history.register_buffer("losses", torch.zeros(iterations, device=device))
    modules: dict[str, nn.Module] = {"synthesis": synthesis, "history": history}
    kept, begin = None, 0
    if checkpoint is not None:
        kept = Checkpoint(
            checkpoint, {**identity, "iterations": iterations}, every=CHECKPOINT_SECONDS
        )
        begin = kept.restore(modules, optimiser)
    told, noted = time.monotonic(), begin
    with reproducible(), Progress(iterations, what, "iterations", begin) as bar:
        for number in range(begin, iterations):
            history.losses[number] = iteration(number)
            if kept is not None:
                kept.save_if_due(number + 1, modules, optimiser)
            # The one time at which the host waits for the device.
            if time.monotonic() - told >= LOG_SECONDS or number == iterations - 1:
                bar.note(loss=f"{_finite(history.losses[noted : number + 1], what):.4g}")
                told, noted = time.monotonic(), number + 1
            bar.update()
    if kept is not None:
        kept.remove()
    losses = history.losses.cpu()
    if iterations > 1:
        courses, tenth = losses.view(-1, each or iterations), math.ceil((each or iterations) / 10)
        print(
            f"{what}: loss {courses[:, :tenth].mean():.4g} at first, "
            f"{courses[:, -tenth:].mean():.4g} at last (a tenth of the iterations)",
            file=sys.stderr,
        )
    return losses


def _finite(losses: Tensor, what: str) -> float:
    mean = losses.mean().item()
    if not math.isfinite(mean):
        raise UserError(
            f"{what} diverged: its loss is {mean}", "set a lower `learning_rate` for this run"
        )
    return mean


@contextmanager
def reproducible() -> Iterator[None]:
    """Float32 without TF32, and the same algorithms for the same shapes."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with exact_float32(torch.float32):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
