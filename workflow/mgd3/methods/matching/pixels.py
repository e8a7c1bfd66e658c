"""DC's and DM's pixels: the two objectives with the loops of their authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import loop, problem
from .images import as_set

if TYPE_CHECKING:
    from ..base import Job

# Steps of a network and epochs of its training between them by IPC, `get_loops` of DC's original.
# Another IPC has those of the next smaller one.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def distribution_matching(job: Job) -> dict[str, Tensor]:
    """DM: images of a class depend on its name and the generation seed, and on no other class."""
    posed = problem.pixel_matching(job, job.classes, problem.dsa_operations(job.dataset.flip))
    loop.optimise(
        posed.synthesis,
        posed.optimiser,
        problem.distribution_iteration(posed),
        job.settings["iterations"],
        what="DM",
        checkpoint=job.unfinished,
        identity=loop.identity_of(job, job.classes),
    )
    return as_set(posed.synthesis, job.classes)


def gradient_matching(job: Job) -> dict[str, Tensor]:
    """DC: images of all classes at once, on which networks are trained between steps."""
    # In an order that does not depend on that of the data set: it is the order of the labels.
    classes = sorted(job.index.classes)
    operations = problem.dsa_operations(job.dataset.flip) if job.settings["dsa"] else ()
    posed = problem.pixel_matching(job, classes, operations)
    outer, inner = LOOPS[max(ipc for ipc in LOOPS if ipc <= job.ipc)]
    loop.optimise(
        posed.synthesis,
        posed.optimiser,
        problem.gradient_iteration(
            posed,
            outer=job.settings["outer_loop"] or outer,
            inner=job.settings["inner_loop"] or inner,
        ),
        job.settings["iterations"],
        what="DC",
        checkpoint=job.unfinished,
        identity=loop.identity_of(job, classes),
    )
    return as_set(posed.synthesis, job.classes)
