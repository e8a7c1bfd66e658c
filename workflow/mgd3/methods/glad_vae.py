"""GLaD on a VAE's decoder: latents are optimised, not pixels.

GLaD (Cazenavette et al., CVPR 2023, arXiv 2305.01649) optimises the inputs and inner features of
StyleGAN-XL, begun from random ones; facts from `distill_dc.py`, `distill_dm.py` and `glad_utils.py`
of GeorgeCazenavette/glad. Here they are scaled latents of any generator's VAE, which has no samples
of its own to begin with: they begin as those of random real images.
"""

from __future__ import annotations

from torch import Tensor

from ..diffusion.synthesis import chunk_size, decoding
from ..generators.vae import load_vae
from . import Job, matching, priors


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
    size = priors.size_of(job)
    codec = load_vae(job.generator, device=job.device)
    codec.freeze()
    decode = decoding(codec)
    latents = {
        name: {"latent": codec.encode(images)[0].requires_grad_()}
        for name, images in priors.first_images(job, size).items()
    }
    synthesis = priors.synthesis_of(
        latents, lambda rows: decode(rows["latent"]), size, chunk_size(size)
    )
    real = matching.Real.read(job, job.classes, size)
    priors.optimise(job, synthesis, real, "GLaD")
    return matching.as_set(synthesis, job.classes)
