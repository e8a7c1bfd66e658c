"""DC and DM behind a generator: what GLaD, H-GLaD and LD3M share.

Facts from the authors' code (GeorgeCazenavette/glad, ndhg1213/H-PD, Brian-Moser/prune_and_distill).
All three match in networks that are never trained, so that a class depends on no other, by SGD with
momentum 0.5, with 256 real images of a class in a step, and with DSA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...generators.vae import to_size
from ..selection import random
from . import loop
from .images import Normalise, Real, labels_of
from .problem import (
    Matching,
    distribution_iteration,
    dsa_operations,
    gradient_iteration,
    network_for,
)
from .synthesis import Synthesis

if TYPE_CHECKING:
    from ..base import Job

_OBJECTIVES = {
    "dc": gradient_iteration,
    "dm": distribution_iteration,
}


def first_images(job: Job, size: int) -> dict[str, Tensor]:
    """The real images to begin with, those of the method `random`: uint8 [ipc, 3, size, size]."""
    drawn = random.first_images(job)
    return {name: to_size(images, size) for name, images in drawn.items()}


def size_of(job: Job) -> int:
    """Side of the images that are matched, pixels."""
    return job.settings["size"] or job.dataset.size


def identity_of(job: Job) -> dict[str, Any]:
    """What tells an unfinished job from others: also the files of the generator, by their looks."""
    folder = job.generator
    states = [(str(f.relative_to(folder)), f.stat()) for f in sorted(folder.rglob("*.*"))]
    files = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
    return {**loop.identity_of(job, job.classes), "generator": files}


def synthesis_of(
    leaves: Mapping[str, Mapping[str, Tensor]],
    pictures: Callable[[Mapping[str, Tensor]], Tensor],
    size: int,
    chunk: int,
) -> Synthesis:
    """Images of `size` pixels that are optimised through what makes them.

    Args:
        leaves: by class and key; those that require no gradient are constants.
        pictures: [n, 3, H, W] in -1 .. 1 of rows of all keys, on their device.
        chunk: images whose graphs are held at a time.
    """
    device = next(iter(next(iter(leaves.values())).values())).device
    normalise = Normalise(device, top=1)

    def make(name: str, rows: Mapping[str, Tensor]) -> Tensor:
        made = (pictures(rows) + 1) / 2
        if made.shape[-1] != size:
            made = F.interpolate(made, (size, size), mode="bilinear", antialias=True)
        return normalise(made)

    return Synthesis(leaves, make, chunk)


def optimise(job: Job, synthesis: Synthesis, real: Real, what: str, stage: int = 0) -> None:
    """Match all classes of the job with its objective, in place.

    Args:
        what: for the log.
        stage: of several optimisations of one job; each has draws of its own.
    """
    settings, size = job.settings, size_of(job)
    iterations = settings["iterations"]
    optimiser = torch.optim.SGD(synthesis.parameters(), lr=settings["learning_rate"], momentum=0.5)
    problem = Matching(
        synthesis=synthesis,
        optimiser=optimiser,
        real=real,
        labels=labels_of(job),
        network=settings["network"] or network_for(size),
        size=size,
        real_batch=settings["real_batch"],
        operations=dsa_operations(job.dataset.flip),
        seed=job.generation_seed,
    )
    iteration = _OBJECTIVES[settings["objective"]](problem)
    loop.optimise(
        synthesis,
        optimiser,
        lambda number: iteration(stage * iterations + number),
        iterations,
        what=what,
        checkpoint=job.unfinished,
        identity={**identity_of(job), "stage": stage},
    )
