"""Stages `trajectory` and `decode-modes`: what a sampler predicts on its way, and where to.

For the paper's Figure 9, and for modes beside the samples that they guided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..base import artifacts
from ..diffusion.trajectories import Trajectory
from ..generators.vae import load_vae, to_size
from . import Job, distiller

# Steps of a trajectory that are kept, the first and the last among them.
_SHOWN_STEPS = 8
# Modes of a class that are decoded: a picture holds no more.
_SHOWN_MODES = 10


def shown_steps(steps: int) -> list[int]:
    """Step indices i to keep of a run of so many (two or more), falling to 0, evenly spaced."""
    count = min(_SHOWN_STEPS, steps)
    return [round((steps - 1) * (1 - k / (count - 1))) for k in range(count)]


def trace(method: str, job: Job, output: Path) -> None:
    """Write how the first image of each class came to be: the same one as in the distilled set.

    `x0/{class}` uint8 [steps, 3, S, S], x0_hat decoded, and `image/{class}` uint8 [3, S, S].
    Metadata: `classes`; `steps`, the step indices; `guided`, whether the step was.
    """
    trajectory = Trajectory(shown_steps(job.settings["steps"]))
    images = distiller(method)(replace(job, ipc=1, trajectory=trajectory))
    tensors = {}
    for place, name in enumerate(job.classes):
        tensors[f"x0/{name}"] = to_size(trajectory.images[place], job.dataset.size)
        tensors[f"image/{name}"] = images[name][0]
    guided = [job.modes is not None and flag for flag in trajectory.guided]
    header = {"classes": job.classes, "steps": trajectory.steps, "guided": guided}
    artifacts.save_tensors(output, tensors, header)


def decode_modes(
    modes: Path, vae_folder: Path, classes: Sequence[str], size: int, output: Path, device: str
) -> None:
    """Write the first modes of some classes as images, laid out as a distilled set.

    Args:
        size: side of the images, pixels.
    """
    vae = load_vae(vae_folder, device=device)
    found = artifacts.load_tensors(modes, classes)
    images = [to_size(vae.decode(found[n][:_SHOWN_MODES]), size).cpu() for n in classes]
    labels = [torch.full((len(x),), label) for label, x in enumerate(images)]
    tensors = {"images": torch.cat(images), "labels": torch.cat(labels)}
    artifacts.save_tensors(output, tensors, {"classes": list(classes)})
