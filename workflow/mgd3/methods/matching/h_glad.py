"""H-GLaD's stages through a decoder: see `methods.h_glad_vae`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...base.checkpoint import Unfinished
from ...base.errors import UserError
from ...base.memory import halving
from ...diffusion.synthesis import Decode, chunk_size, decoding
from ...generators.vae import load_vae
from . import priors
from .images import Real, as_set

if TYPE_CHECKING:
    from ..base import Job


def optimise_stages(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name and the generation seed, and on no other class.

    Raises:
        UserError: more stages than the decoder has.
    """
    size = priors.size_of(job)
    codec = load_vae(job.generator, device=job.device)
    codec.freeze()
    parts, chunk = codec.stages(), chunk_size(size)
    stages = job.settings["stages"] or len(parts)
    if stages > len(parts):
        raise UserError(
            f"stages is {stages}, and the decoder of this VAE has {len(parts)}",
            "set fewer, or null for all",
        )
    real = Real.read(job, job.classes, size)
    passed = _Passed(job)
    begun, features = passed.restore()
    if not begun:
        images = priors.first_images(job, size)
        features = {name: codec.encode(of_class)[0] for name, of_class in images.items()}
    for depth in range(begun, stages):
        decode = decoding(codec, depth)
        synthesis = priors.synthesis_of(
            {n: {"features": x.to(job.device).requires_grad_()} for n, x in features.items()},
            lambda rows, decode=decode: decode(rows["features"]),
            size,
            chunk,
        )
        priors.optimise(job, synthesis, real, f"H-GLaD, stage {depth + 1} of {stages}", depth)
        if depth + 1 < stages:
            features = {
                name: _through(parts[depth], synthesis.tensors(name)["features"], chunk)
                for name in job.classes
            }
            passed.keep(depth + 1, features)
    passed.remove()
    return as_set(synthesis, job.classes)


@torch.no_grad()
def _through(stage: Decode, features: Tensor, chunk: int) -> Tensor:
    def through(part: slice) -> Tensor:
        return stage(features[part])

    return torch.cat(list(halving(len(features), chunk, through, what="decode one image")))


class _Passed:
    """Where an interrupted job goes on: the stages it has finished, in a file by the unfinished
    one's side."""

    def __init__(self, job: Job) -> None:
        self._classes = job.classes
        self._kept = job.unfinished and Unfinished(
            job.unfinished.with_name(f"{job.unfinished.name}.passed"), priors.identity_of(job)
        )

    def restore(self) -> tuple[int, dict[str, Tensor]]:
        """How many, and the features to begin the next with; 0 for none."""
        state = self._kept.load() if self._kept else None
        if state is None:
            return 0, {}
        # In the order of the job, by which the checkpoint of a stage tells classes apart.
        return state.note["stages"], {name: state.tensors[name] for name in self._classes}

    def keep(self, stages: int, features: dict[str, Tensor]) -> None:
        if self._kept:
            self._kept.save(features, {"stages": stages})

    def remove(self) -> None:
        if self._kept:
            self._kept.remove()
