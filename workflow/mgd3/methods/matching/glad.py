"""GLaD's latents through a decoder: see `methods.glad_vae`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...diffusion.synthesis import chunk_size, decoding
from ...generators.vae import load_vae
from . import priors
from .images import Real, as_set

if TYPE_CHECKING:
    from ..base import Job


def optimise_latents(job: Job) -> dict[str, Tensor]:
    """Scaled latents, begun as those of random real images, are optimised."""
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
    real = Real.read(job, job.classes, size)
    priors.optimise(job, synthesis, real, "GLaD")
    return as_set(synthesis, job.classes)
