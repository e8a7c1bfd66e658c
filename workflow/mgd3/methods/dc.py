"""DC: gradients of the loss are matched (Zhao, Mopuri and Bilen, ICLR 2021, arXiv 2006.05929).

Facts from `main.py` of VICO-UoE/DatasetCondensation. The defaults are those of the rows that later
tables print of it, made with `distill_dc.py` of GeorgeCazenavette/glad in pixel space: one step for
each network, which is never trained, and DSA. As in the original, there images are floats without
bounds; here they are clipped to black and white when they are saved.
"""

from __future__ import annotations

from torch import Tensor

from . import Job, matching

# Steps of a network and epochs of its training between them by IPC, `get_loops` of the original.
# Another IPC has those of the next smaller one.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def distil(job: Job) -> dict[str, Tensor]:
    """Images of all classes at once: networks are trained on the images of all.

    With the default `outer_loop` of 1 they are not trained, and a class depends on no other.
    """
    # In an order that does not depend on that of the data set: it is the order of the labels.
    classes = sorted(job.index.classes)
    flip = job.dataset.flip
    operations = matching.dsa_operations(flip) if job.settings["dsa"] else ()
    problem = matching.pixel_matching(job, classes, operations)
    outer, inner = LOOPS[max(ipc for ipc in LOOPS if ipc <= job.ipc)]
    matching.optimise(
        problem.synthesis,
        problem.optimiser,
        matching.gradient_iteration(
            problem,
            outer=job.settings["outer_loop"] or outer,
            inner=job.settings["inner_loop"] or inner,
        ),
        job.settings["iterations"],
        what="DC",
        checkpoint=job.unfinished,
        identity=matching.identity_of(job, classes),
    )
    return matching.as_set(problem.synthesis, job.classes)
