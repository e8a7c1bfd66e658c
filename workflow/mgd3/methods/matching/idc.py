"""IDC-1's networks, which learn from real images, and its steps with them: see `methods.idc`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.memory import SplitBackward
from ...base.seeding import Draw, torch_generator
from ...networks.augment import apply_cutmix, draw_cutmix, send
from ...networks.dsa import OPERATIONS
from . import loop
from .images import Normalise, Real, as_set, initial_pixels, labels_of
from .objectives import absolute, gradient_distance
from .problem import Matching
from .synthesis import PIXELS, Synthesis

if TYPE_CHECKING:
    from ..base import Job

_MATCHED = ("color", "crop", "cutout")
_TRAINED = ("color", "crop")  # and CutMix
# Real images on which the network learns after each step.
_LEARNED = 500


@dataclass(frozen=True)
class Recipe:
    """What goes by the number of classes.

    Attributes:
        learning_rate: of images in [0, 1], at IPC 10 and 224 px.
        warmup_epochs: of a network on the real images, before it is matched.
        networks: so many are warmed up and used in turn; None: each iteration has its own.
        real_batch: real images of a class in a step, and of all classes in a step of training.
        network_rate, weight_decay: of the network's training, by SGD with momentum 0.9.
    """

    learning_rate: float
    warmup_epochs: int
    networks: int | None
    real_batch: int
    network_rate: float
    weight_decay: float


FEW = Recipe(3e-3, 10, None, 64, 0.01, 5e-4)
MANY = Recipe(1e-3, 5, 10, 128, 0.1, 1e-4)
MANY_CLASSES = 100


def recipe_of(job: Job) -> Recipe:
    """That of the number of classes, with what the settings say otherwise."""
    recipe = FEW if len(job.index.classes) < MANY_CLASSES else MANY
    keys = ("learning_rate", "warmup_epochs", "real_batch")
    return replace(recipe, **{k: job.settings[k] for k in keys if job.settings[k] is not None})


def condense(job: Job) -> dict[str, Tensor]:
    """Images of a class depend on its name, the generation seed and the real images of all."""
    settings, recipe = job.settings, recipe_of(job)
    size = settings["size"] or job.dataset.size
    labels = labels_of(job)
    real = Real.read(job, list(labels), size)
    begun = initial_pixels(job, real, job.classes, settings["init"])
    # As the original has them, images are optimised as values in [0, 1].
    normalise = Normalise(real.device, top=1)
    synthesis = Synthesis(
        {
            name: {PIXELS: normalise.undo(x).clamp(0, 1).requires_grad_()}
            for name, x in begun.items()
        },
        lambda _, rows: normalise(rows[PIXELS]),
    )
    rate = recipe.learning_rate * job.ipc / 10 * (size / 224) ** 2
    problem = Matching(
        synthesis=synthesis,
        optimiser=torch.optim.SGD(synthesis.parameters(), lr=rate, momentum=0.5),
        real=real,
        labels=labels,
        network=settings["network"],
        size=size,
        real_batch=recipe.real_batch,
        operations=_MATCHED,
        seed=job.generation_seed,
    )
    loop.optimise(
        synthesis,
        problem.optimiser,
        iteration_of(problem, recipe, settings["inner_loop"]),
        settings["iterations"],
        what="IDC-1",
        checkpoint=job.unfinished,
        identity=loop.identity_of(job, list(labels)) | {"optimised": job.classes},
    )
    return as_set(synthesis, job.classes)


def iteration_of(problem: Matching, recipe: Recipe, inner: int) -> Callable[[int], Tensor]:
    """An iteration: a network warmed up on real images, and `inner` steps with it, each followed by
    some of its training.
    """
    labels = problem.real.labels(problem.labels)
    warmed: dict[int, nn.Module] = {}

    def iteration(number: int) -> Tensor:
        if recipe.networks is None:
            learner = Learner(problem, recipe, problem.fresh_network(number), labels)
            learner.warm_up(number)
        else:
            place = number % recipe.networks
            if place not in warmed:
                learner = Learner(problem, recipe, problem.fresh_network(place), labels)
                learner.warm_up(place)
                warmed[place] = learner.network
            learner = Learner(problem, recipe, copy.deepcopy(warmed[place]), labels)
        with torch.no_grad():
            for images in problem.synthesis.parameters():
                images.clamp_(0, 1)
        distance = partial(gradient_distance, learner.network, distance=absolute, least_dims=4)
        found = []
        for step in range(inner):
            found.append(problem.step(number, step, distance, choose=lambda names, _: names))
            learner.learn(number, step)
        return torch.stack(found).mean()

    return iteration


class Learner:
    """A network that learns from the real images of all classes."""

    def __init__(
        self, problem: Matching, recipe: Recipe, network: nn.Module, labels: Tensor
    ) -> None:
        self.network, self._labels = network, labels
        self._backward = SplitBackward(network)
        self._problem, self._recipe = problem, recipe
        self._trainer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.network_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
        )

    def warm_up(self, number: int) -> None:
        """Whole epochs; draws are named by the network's number."""
        for epoch in range(self._recipe.warmup_epochs):
            draws = torch_generator(Draw.IDC_WARMUP, self._problem.seed, number, epoch)
            self._train(torch.randperm(len(self._labels), generator=draws), draws)

    def learn(self, iteration: int, step: int) -> None:
        """Some whole batches, of `_LEARNED` images or a little more."""
        draws = torch_generator(Draw.IDC_TRAINING, self._problem.seed, iteration, step)
        count = math.ceil(_LEARNED / self._recipe.real_batch) * self._recipe.real_batch
        self._train(torch.randperm(len(self._labels), generator=draws)[:count], draws)

    def _train(self, order: Tensor, draws: torch.Generator) -> None:
        """With colour and crop, each image with its own, and with CutMix."""
        real = self._problem.real
        for places in order.split(self._recipe.real_batch):
            images, labels = real.at(places), self._labels[send(places, real.device)]
            for operation in _TRAINED:
                draw, apply = OPERATIONS[operation]
                parameters = draw(len(places), self._problem.size, draws).float()
                images = apply(images, send(parameters, real.device))
            mix = draw_cutmix(len(places), self._problem.size, 1.0, draws)
            mix = replace(mix, partners=send(mix.partners, real.device))
            mixed, others = apply_cutmix(images, mix), labels[mix.partners]
            loss_of = partial(_loss, self.network, mixed, labels, others, mix.weight)
            self._backward(len(places), loss_of)
            self._trainer.step()


def _loss(
    network: nn.Module, images: Tensor, own: Tensor, others: Tensor, weight: float, part: slice
) -> Tensor:
    """Mean cross-entropy of a part of a batch, `weight` of it for an image's own label."""
    logits = network(images[part])
    loss = weight * F.cross_entropy(logits, own[part])
    return loss + (1 - weight) * F.cross_entropy(logits, others[part])
