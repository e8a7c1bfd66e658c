"""The modes through the decoder, without diffusion: what mode discovery alone is worth."""

from __future__ import annotations

import torch

from ..base import artifacts
from ..generators.vae import load_vae, to_size
from . import Job


def distil(job: Job) -> dict[str, torch.Tensor]:
    vae = load_vae(job.generator, device=job.device)
    modes = artifacts.load_tensors(job.modes, job.classes)
    size = job.dataset.size
    return {
        name: to_size(vae.decode(modes[name].to(job.device)), size).cpu() for name in job.classes
    }
