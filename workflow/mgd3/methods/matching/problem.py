"""A problem of matching: what is optimised, with which networks, images and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UserError
from ...base.memory import MEND, Parts, SplitBackward
from ...base.seeding import Draw, seed_of, torch_generator
from ...networks.architectures import create_network
from ...networks.augment import send
from ...networks.dsa import OPERATIONS
from .images import Real, initial_pixels, labels_of
from .objectives import feature_distance, gradient_distance
from .synthesis import PIXELS, Synthesis

if TYPE_CHECKING:
    from ..base import Job


def one_of(operations: Sequence[str], draws: torch.Generator) -> list[str]:
    """Mode "S" of DSA: one of the operations."""
    return [operations[int(torch.randint(len(operations), (), generator=draws))]]


def augment_alike(images: Tensor, operations: Sequence[str], draws: torch.Generator) -> Tensor:
    """Operations of `mgd3.networks.dsa` one after another, each with one draw for all images."""
    for operation in operations:
        draw, apply = OPERATIONS[operation]
        parameters = send(draw(1, images.shape[-1], draws).to(images.dtype), images.device)
        images = apply(images, parameters.expand(len(images), -1))
    return images


@dataclass(frozen=True)
class Matching:
    """A problem: what is optimised, and what it is matched with.

    Attributes:
        synthesis: of the classes that are optimised.
        optimiser: over its leaves.
        real: images of at least those classes.
        labels: of all classes that the networks tell apart, 0 and up.
        network: of the family `hard` of `mgd3.evaluation.protocols.NETWORKS`.
        size: side of the images, pixels.
        real_batch: real images of a class in a step.
        operations: of `mgd3.networks.dsa`; a step has one draw of one of them for all images of a
            class, real and synthetic. Empty: no augmentation.
        seed: the generation seed.
        parts: images that are in a network at a time, all of a step if memory allows.
    """

    synthesis: Synthesis
    optimiser: torch.optim.Optimizer
    real: Real
    labels: Mapping[str, int]
    network: str
    size: int
    real_batch: int
    operations: tuple[str, ...]
    seed: int
    parts: Parts = field(default_factory=Parts)

    def fresh_network(self, number: int) -> nn.Module:
        """Network `number`, untrained, on the device; the host does not wait."""
        network = fresh_network(self.network, len(self.labels), self.size, self.seed, number)
        for weights in network.parameters():
            weights.data = send(weights.data, self.real.device)
        return network

    def step(
        self,
        iteration: int,
        step: int,
        distance: Callable[..., Tensor],
        choose: Callable[[Sequence[str], torch.Generator], Sequence[str]] = one_of,
    ) -> Tensor:
        """One step of the optimiser on the sum of the classes' distances.

        Args:
            iteration, step: name the step's draws, with the class.
            distance: of real [N, 3, S, S] and synthetic images [M, 3, S, S] of a label, with the
                keyword `size`: how many of them are in the network at a time.
            choose: the augmentations of a step, of `operations`.

        Returns:
            The distances' mean, a scalar on the device.

        Raises:
            UserError: too little memory for one image.
        """
        self.optimiser.zero_grad(set_to_none=True)
        distances = []
        # One class at a time is in the network, whatever their number.
        for name in self.synthesis.classes:
            draws = torch_generator(Draw.MATCHING_STEP, self.seed, name, iteration, step)
            real = self.real.batch(name, self.real_batch, draws)
            images = self.synthesis.images(name)
            both = torch.cat([real, images])
            if self.operations:
                both = augment_alike(both, choose(self.operations, draws), draws)
            real, augmented = both[: len(real)].detach(), both[len(real) :]
            found, gradient = self._with_gradient(distance, real, augmented, self.labels[name])
            (gradient,) = torch.autograd.grad(augmented, images, gradient)
            self.synthesis.push(name, gradient)
            distances.append(found)
        self.optimiser.step()
        return torch.stack(distances).mean()

    def _with_gradient(
        self, distance: Callable[..., Tensor], real: Tensor, synthetic: Tensor, label: int
    ) -> tuple[Tensor, Tensor]:
        """A class's distance, and its gradient at the synthetic images."""
        leaf = synthetic.detach().requires_grad_()

        def attempt(size: int) -> tuple[Tensor, Tensor]:
            found = distance(real, leaf, label, size=size)
            return found.detach(), torch.autograd.grad(found, leaf)[0]

        return self.parts(max(len(real), len(leaf)), attempt, _require_several)


def _require_several(size: int) -> None:
    if size == 1:
        raise UserError(
            "not enough memory to match one image",
            f"{MEND}, or lower `size` or choose a smaller `network` for this run",
        )


def network_for(size: int) -> str:
    """The ConvNet that reduces images of `size` pixels to maps of 4 to 7, as GLaD's."""
    return f"convnet{max(3, size.bit_length() - 3)}"


def dsa_operations(flip: bool) -> tuple[str, ...]:
    """All operations of DSA, without mirroring where a mirrored image does not keep its class."""
    return tuple(name for name in OPERATIONS if flip or name != "flip")


def fresh_network(name: str, classes: int, size: int, seed: int, number: int) -> nn.Module:
    """Network `number` of a generation seed, untrained, on the CPU."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of(Draw.MATCHING_NETWORK, seed, number))
        return create_network(name, classes, size)


def pixel_matching(job: Job, classes: Sequence[str], operations: tuple[str, ...]) -> Matching:
    """DC's and DM's problem: normalised pixels of `classes`, by SGD with momentum 0.5.

    Settings of the job: `size` (None: the data set's), `network` (None: `network_for`),
    `real_batch`, `init`, `learning_rate`.
    """
    settings = job.settings
    size = settings["size"] or job.dataset.size
    real = Real.read(job, classes, size)
    begun = initial_pixels(job, real, classes, settings["init"])
    synthesis = Synthesis({name: {PIXELS: x.requires_grad_()} for name, x in begun.items()})
    return Matching(
        synthesis=synthesis,
        optimiser=torch.optim.SGD(
            synthesis.parameters(), lr=settings["learning_rate"], momentum=0.5
        ),
        real=real,
        labels=labels_of(job),
        network=settings["network"] or network_for(size),
        size=size,
        real_batch=settings["real_batch"],
        operations=operations,
        seed=job.generation_seed,
    )


def distribution_iteration(matching: Matching) -> Callable[[int], Tensor]:
    """DM: an iteration is one step with a fresh network that is never trained."""

    def iteration(number: int) -> Tensor:
        network = matching.fresh_network(number).requires_grad_(False)
        return matching.step(number, 0, lambda a, b, _, size: feature_distance(network, a, b, size))

    return iteration


def gradient_iteration(
    matching: Matching,
    *,
    outer: int = 1,
    inner: int = 1,
    learning_rate: float = 0.01,
    batch: int = 256,
) -> Callable[[int], Tensor]:
    """DC: an iteration is `outer` steps with a fresh network, trained between them.

    Args:
        inner: epochs of training on all synthetic images between two steps, without augmentation.
        learning_rate, batch: of that training, by SGD with momentum 0.5.
    """

    def iteration(number: int) -> Tensor:
        network = matching.fresh_network(number)
        trainer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.5)
        backward = SplitBackward(network)
        distance = partial(gradient_distance, network)
        found = [matching.step(number, 0, distance)]
        for step in range(1, outer):
            images, labels = _all_images(matching)
            draws = torch_generator(Draw.MATCHING_TRAINING, matching.seed, number, step)
            for _ in range(inner):
                order = send(torch.randperm(len(labels), generator=draws), labels.device)
                for rows in order.split(batch):
                    loss_of = partial(_cross_entropy, network, images[rows], labels[rows])
                    backward(len(rows), loss_of)
                    trainer.step()
            found.append(matching.step(number, step, distance))
        return torch.stack(found).mean()

    return iteration


def _cross_entropy(network: nn.Module, images: Tensor, labels: Tensor, part: slice) -> Tensor:
    return F.cross_entropy(network(images[part]), labels[part])


def _all_images(matching: Matching) -> tuple[Tensor, Tensor]:
    classes = matching.synthesis.classes
    images = [matching.synthesis.images(name).detach() for name in classes]
    labels = [
        torch.full((len(of),), matching.labels[name], device=of.device)
        for name, of in zip(classes, images, strict=True)
    ]
    return torch.cat(images), torch.cat(labels)
