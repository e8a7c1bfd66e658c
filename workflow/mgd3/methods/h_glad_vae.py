"""H-GLaD on a VAE's decoder: latents are optimised, then ever deeper features of the decoder.

H-GLaD (Zhong et al., CVPR 2025, arXiv 2406.05704, there also H-PD) goes through StyleGAN-XL's
layers: at each a fresh optimiser, and what it ends with is taken through the next layer to begin
with there; facts from `h_glad_dc.py`, `h_glad_dm.py` and `h_glad_utils.py` of ndhg1213/H-PD. Its
choice among the states of a layer by a distance of features is an option of the original (off by
default) and not here: the last state of each stage counts, and the last stage's images. It keeps
features within -10 .. 10 between layers, for its float16; those of a VAE may be larger, and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from ..base.settings import Count, Setting
from .base import Iterations, Job, Prior

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Prior):
    """Latents are optimised, then the features after each part of the decoder."""

    label: ClassVar = "H-GLaD on the VAE's decoder"
    needs: ClassVar = ("vae",)
    by_objective: ClassVar = {"dm": {"iterations": 10, "learning_rate": 10.0}}
    iterations: Iterations = 100
    stages: Annotated[
        Count | None,
        Setting(
            "of how many the latents and the features after each part of the decoder are "
            "optimised; null for all"
        ),
    ] = None


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class.

    Raises:
        UserError: more stages than the decoder has.
    """
    from .matching.h_glad import optimise_stages

    return optimise_stages(job)
