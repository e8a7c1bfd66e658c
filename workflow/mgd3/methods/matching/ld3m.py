"""LD3M's latents and conditions through a sampler: see `methods.ld3m`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...base.seeding import Draw, torch_generator
from ...diffusion.sampling import draw_noise
from ...diffusion.synthesis import chunk_size, decoding, sampling
from ...generators.conditions import conditions_of
from ...generators.loading import load_generator
from . import priors
from .images import Real, as_set

if TYPE_CHECKING:
    from ..base import Job


def optimise_walks(job: Job) -> dict[str, Tensor]:
    """Latents, and a shift of the conditions, are optimised."""
    size = priors.size_of(job)
    label_rows, prompts = conditions_of(job.generator, job.dataset, job.classes)
    generator = load_generator(job.generator, prompts=prompts, device=job.device)
    generator.freeze()
    walk = sampling(generator, decoding(generator), job.settings["steps"], job.settings["cfg"])
    tensors = {}
    for name, images in priors.first_images(job, generator.image_size).items():
        labels = torch.full((job.ipc,), label_rows[name], device=generator.device)
        conditions = generator.conditions(labels)
        rngs = [torch_generator(Draw.NOISE, job.generation_seed, name, k) for k in range(job.ipc)]
        tensors[name] = {
            "latent": generator.encode(images)[0].requires_grad_(),
            "shift": torch.zeros_like(conditions[:, :1]).requires_grad_(),
            "condition": conditions,
            "noise": draw_noise(rngs, generator.latent_shape, 1)[0].to(generator.device),
        }
    synthesis = priors.synthesis_of(
        tensors,
        lambda rows: walk(rows["latent"], rows["shift"], rows["condition"], rows["noise"]),
        size,
        chunk_size(generator.image_size),
    )
    real = Real.read(job, job.classes, size)
    priors.optimise(job, synthesis, real, "LD3M")
    return as_set(synthesis, job.classes)
