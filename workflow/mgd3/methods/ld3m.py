"""LD3M: optimisation through all steps of a latent diffusion model.

LD3M (Moser et al., NeurIPS 2025, arXiv 2403.03881) optimises, for each image, a latent and the
class embedding that the sampler is given; facts from `distill_dc_LD3M.py`, `distill_dm_LD3M.py` and
`glad_utils.py` of Brian-Moser/prune_and_distill, whose generator is the class-conditional LDM of
ImageNet. Latents begin as those of random real images of the class, conditions as the class's. Here
each image's noise is drawn once, the one that `unguided` begins with; there anew at every call, the
gradient's call included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Cfg, Iterations, Job, LearningRate, Prior, Steps

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Prior):
    """Latents and conditions are optimised through the sampler."""

    label: ClassVar = "LD3M"
    needs: ClassVar = ("generator",)
    by_objective: ClassVar = {"dm": {"learning_rate": 1.0}}
    iterations: Iterations = 10_000
    learning_rate: LearningRate = 0.1
    cfg: Cfg = 3.0
    steps: Steps = 10


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
    from .matching.ld3m import optimise_walks

    return optimise_walks(job)
