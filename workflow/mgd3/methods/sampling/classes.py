"""Images of classes from the diffusion model: guided to a mode, begun from it, or neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...base import artifacts
from ...base.device import network_dtype
from ...base.errors import UserError
from ...base.progress import Progress
from ...diffusion.manifold import ManifoldSettings
from ...diffusion.sampling import Item, SamplingSettings, sample
from ...generators.conditions import conditions_of
from ...generators.loading import load_generator
from ...generators.vae import to_size

if TYPE_CHECKING:
    from ..base import Job


def sample_classes(
    job: Job,
    make_item: Callable[[str, int, Tensor | None, int], Item],
    manifold: ManifoldSettings | None = None,
) -> dict[str, torch.Tensor]:
    """Sample `ipc` images a class.

    Args:
        make_item: (class, label row, mode k of the class or None, k) -> what to sample.
        manifold: ManifoldGD's options, which are no sampling settings of their own.

    Raises:
        UserError: modes that are not finite.
    """
    rows, prompts = conditions_of(job.generator, job.dataset, job.classes)
    modes = artifacts.load_tensors(job.modes, job.classes) if job.modes else {}
    for name, of_class in modes.items():
        if not torch.isfinite(of_class).all():
            raise UserError(
                f"{job.modes}: the modes of class {name!r} are not finite",
                "delete the file and run again to remake it",
            )
    settings = {("lambda_" if k == "lambda" else k): v for k, v in job.settings.items()}
    for of_the_modes in ("modes", "pca", "flips"):
        settings.pop(of_the_modes, None)
    dtype = network_dtype(settings.pop("precision"), job.device)
    settings.setdefault("t_sg", 0)  # the unguided sampler has no say in it
    generator = load_generator(job.generator, prompts=prompts, device=job.device, dtype=dtype)
    if job.compile:
        generator.compile()
    items = [
        make_item(name, rows[name], modes[name][k] if modes else None, k)
        for name in job.classes
        for k in range(job.ipc)
    ]
    images: list[torch.Tensor] = [torch.empty(0)] * len(items)
    chosen = SamplingSettings(**settings, manifold=manifold)
    steps = chosen.steps if items[0].start is None else chosen.walked
    done = 0
    with Progress(len(items), "Sampling", "images") as bar:

        def after_step(i: int, x: Tensor, x0_hat: Tensor) -> None:
            # A batch of a large network takes minutes: its steps count, too.
            bar.update(len(x) / steps)
            if job.trajectory is not None:
                job.trajectory(i, x, x0_hat)

        for batch in sample(
            generator,
            items,
            chosen,
            generation_seed=job.generation_seed,
            batch=job.batch,
            callback=after_step,
        ):
            pictures = to_size(batch.images, job.dataset.size)
            for index, image in zip(batch.indices, pictures, strict=True):
                images[index] = image
            if job.trajectory is not None:
                job.trajectory.finish(batch.indices, generator, chosen)
            done += len(batch.indices)
            bar.reach(done)
    return {
        name: torch.stack(images[row * job.ipc : (row + 1) * job.ipc])
        for row, name in enumerate(job.classes)
    }
