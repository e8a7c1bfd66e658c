"""LD3M: optimisation through all steps of a latent diffusion model.

LD3M (Moser et al., NeurIPS 2025, arXiv 2403.03881) optimises, for each image, a latent and the
class embedding that the sampler is given; facts from `distill_dc_LD3M.py`, `distill_dm_LD3M.py` and
`glad_utils.py` of Brian-Moser/prune_and_distill, whose generator is the class-conditional LDM of
ImageNet. Latents begin as those of random real images of the class, conditions as the class's. Here
each image's noise is drawn once, the one that `unguided` begins with; there anew at every call, the
gradient's call included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.seeding import Draw, torch_generator
from ..diffusion.sampling import draw_noise
from ..diffusion.synthesis import chunk_size, decoding, sampling
from ..generators.conditions import conditions_of
from ..generators.loading import load_generator
from . import Job, matching, priors


def distil(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class."""
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
    real = matching.Real.read(job, job.classes, size)
    priors.optimise(job, synthesis, real, "LD3M")
    return matching.as_set(synthesis, job.classes)
