"""DM: mean features of random networks are matched (Zhao and Bilen, WACV 2023, 2110.04181).

Facts from `main_DM.py` of VICO-UoE/DatasetCondensation. There images are floats without bounds;
here they are clipped to black and white when they are saved.
"""

from __future__ import annotations

from torch import Tensor

from . import Job, matching


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
    problem = matching.pixel_matching(job, job.classes, matching.dsa_operations(job.dataset.flip))
    matching.optimise(
        problem.synthesis,
        problem.optimiser,
        matching.distribution_iteration(problem),
        job.settings["iterations"],
        what="DM",
        checkpoint=job.unfinished,
        identity=matching.identity_of(job, job.classes),
    )
    return matching.as_set(problem.synthesis, job.classes)
