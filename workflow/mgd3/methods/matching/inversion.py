"""SRe2L's inversion of a teacher: see `methods.sre2l`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import teachers
from ...base.memory import undivided
from ...base.seeding import Draw, torch_generator
from ...networks.augment import send
from ...networks.resampling import draw_views, view_matrices
from ...teachers.model import Teacher
from . import loop
from .images import Normalise

if TYPE_CHECKING:
    from ..base import Job

_CROP_SCALE = (0.08, 1.0)
# Of the side: 32 of 224 px.
_LARGEST_SHIFT = 1 / 7
_FIRST_LAYER = 10.0


def invert(job: Job, together: int) -> dict[str, Tensor]:
    """uint8 [ipc, 3, S, S] of each class of a job; see `methods.sre2l.distil`.

    Args:
        together: classes of a batch.
    """
    teacher = teachers.load(job.teacher, job.device)
    classes = sorted(job.index.classes)
    made: dict[str, Tensor] = {}
    for start in range(0, len(classes), together):
        group = classes[start : start + together]
        if not set(group).isdisjoint(job.classes):
            made |= _invert_group(job, teacher, group)
    return {name: made[name] for name in job.classes}


class Recovery(nn.Module):
    """The images of a group of classes, one batch after another.

    Args:
        teacher: what is inverted.
        names: what it calls the classes.
        classes: one image of each is a batch.
        ipc: batches.
        seed: the generation seed.
        flip: whether a mirrored image keeps its class.
        iterations, learning_rate: of Adam, for each batch; a cosine to 0.
        bn_weight: of the distance of batch statistics, beside the cross-entropy.

    Attributes:
        done: uint8 [classes, ipc, 3, S, S]; noise where it is not done yet.
    """

    def __init__(
        self,
        teacher: Teacher,
        classes: list[str],
        names: list[str],
        ipc: int,
        *,
        seed: int,
        flip: bool,
        iterations: int,
        learning_rate: float,
        bn_weight: float,
    ) -> None:
        super().__init__()
        known = teacher.slice(names)
        device = next(teacher.model.parameters()).device
        self._model, self._size = [teacher.model], teacher.size  # in a list: not part of the state
        self._labels = torch.arange(len(classes), device=device)
        if known.rows is not None:
            self._labels = known.rows
        self._normalise = Normalise(device, teacher.mean, teacher.std)
        black, white = (torch.full((3, 1, 1), v, device=device) for v in (0.0, 255.0))
        self._bounds = self._normalise(black), self._normalise(white)
        self._classes, self._seed, self._flip = classes, seed, flip
        self._iterations, self._rate, self._bn_weight = iterations, learning_rate, bn_weight
        self.batch = nn.Parameter(self._noise(0).to(device))
        self.optimiser = torch.optim.Adam([self.batch], lr=learning_rate, betas=(0.5, 0.9))
        begun = [self._normalise.undo(self._noise(k).to(device)) for k in range(ipc)]
        self.register_buffer(
            "done", torch.stack([x.round().clamp(0, 255).to(torch.uint8) for x in begun], 1)
        )

    def _noise(self, k: int) -> Tensor:
        shape = (3, self._size, self._size)
        keys = ((self._seed, name, k) for name in self._classes)
        return torch.stack(
            [torch.randn(shape, generator=torch_generator(Draw.SRE2L, *key)) for key in keys]
        )

    def iteration(self, number: int) -> Tensor:
        """Iteration `number` of all batches; returns its loss, a scalar on the device."""
        k, step = divmod(number, self._iterations)
        if step == 0:
            with torch.no_grad():
                self.batch.copy_(send(self._noise(k), self.batch.device))
            self.optimiser.state.clear()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate * 0.5 * (1 + math.cos(math.pi * step / self._iterations))
        # The statistics are of the whole batch.
        what = f"a batch of {len(self.batch)} images whose statistics are taken together"
        with undivided(what):
            loss = self.loss(self.view(k, step))
            (self.batch.grad,) = torch.autograd.grad(loss, self.batch)
        self.optimiser.step()
        with torch.no_grad():
            self.batch.clamp_(*self._bounds)
            if step == self._iterations - 1:
                pixels = self._normalise.undo(self.batch)
                self.done[:, k] = pixels.round().clamp(0, 255).to(torch.uint8)
        return loss.detach()

    def view(self, k: int, step: int) -> Tensor:
        """The batch cropped, resized, maybe mirrored, and shifted round: one draw for all of it."""
        size = self._size
        draws = torch_generator(Draw.SRE2L_VIEW, self._seed, k, step)
        flip = 0.5 if self._flip else 0.0
        views = draw_views(1, size, draws, crop_scale=_CROP_SCALE, flip=flip)
        most = round(size * _LARGEST_SHIFT)
        shifts = torch.randint(most + 1, (2,), generator=draws).tolist()
        rows, columns = view_matrices(send(views, self.batch.device), size, size)
        return (rows @ self.batch @ columns.mT).roll(shifts, (2, 3))

    def loss(self, images: Tensor) -> Tensor:
        """Cross-entropy, and the weighted distance of batch statistics, of normalised images."""
        (model,) = self._model
        with batch_norm_distances(model) as distances:
            logits = model(images)
        first, *others = distances
        total = _FIRST_LAYER * first + torch.stack(others).sum()
        return F.cross_entropy(logits, self._labels) + self._bn_weight * total


@contextmanager
def batch_norm_distances(model: nn.Module) -> Iterator[list[Tensor]]:
    """For each batch norm, as it is run in the block: |variance - running| + |mean - running|.

    Norms are L2, over channels; the variance is the biased one of all images and places.
    """
    found: list[Tensor] = []

    def measure(module: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(given[0], (0, 2, 3), correction=0)
        found.append((variance - module.running_var).norm() + (mean - module.running_mean).norm())

    hooks = [
        module.register_forward_pre_hook(measure)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _invert_group(job: Job, teacher: Teacher, classes: list[str]) -> dict[str, Tensor]:
    settings = {k: job.settings[k] for k in ("iterations", "learning_rate", "bn_weight")}
    names = teachers.names_for(job.settings["teacher"], job.dataset, classes)
    recovery = Recovery(
        teacher,
        classes,
        names,
        job.ipc,
        seed=job.generation_seed,
        flip=job.dataset.flip,
        **settings,
    )
    loop.optimise(
        recovery,
        recovery.optimiser,
        recovery.iteration,
        job.ipc * settings["iterations"],
        what="SRe2L",
        checkpoint=job.unfinished,
        identity={**loop.identity_of(job, classes), "teacher": teacher.identity},
        each=settings["iterations"] or None,
    )
    return dict(zip(classes, recovery.done.cpu(), strict=True))
