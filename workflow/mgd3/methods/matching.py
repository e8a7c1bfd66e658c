"""Synthetic images that do to a network what real ones do: objectives, and their optimisation.

DC (Zhao, Mopuri and Bilen, ICLR 2021) matches gradients of the loss, DM (Zhao and Bilen, WACV 2023)
mean features; facts from `main.py`, `main_DM.py` and `utils.py` of VICO-UoE/DatasetCondensation.
The images may be the pixels that are optimised, or what a differentiable function makes of latents
(`Synthesis`), as GLaD (Cazenavette et al., CVPR 2023) does it.

Every draw is named by the generation seed, the iteration and the class, and each iteration has a
fresh network. So a class's images depend on no other class, except where the network is trained on
synthetic images (`gradient_iteration` with `outer` > 1), and an interrupted optimisation needs no
more than leaves, momenta and the number of the iteration to go on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.checkpoint import Checkpoint
from ..base.errors import UserError
from ..base.memory import MEND, Parts, SplitBackward, halving, mean_of_parts, require_separable
from ..base.progress import LOG_SECONDS, Progress
from ..base.seeding import Draw, seed_of, torch_generator
from ..data.images import decode_images, resize_centre_crop, settle_undecodable
from ..generators.base import exact_float32
from ..networks.architectures import create_network, features
from ..networks.augment import send
from ..networks.dsa import OPERATIONS
from ..networks.names import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from . import Job

CHECKPOINT_SECONDS = 60.0
PIXELS = "pixels"
Part = TypeVar("Part")
# Leaves and constants of some images -> normalised float images [n, 3, S, S].
Make = Callable[[str, Mapping[str, Tensor]], Tensor]


class Synthesis(nn.Module):
    """What is optimised, by class, and the images that come of it.

    Args:
        tensors: by class and key, [n, ...] with one row an image. Those that require gradients are
            the leaves; the others are constants of the images (their noise, for instance).
        make: makes normalised images [rows, 3, S, S] of a class of any of its rows, each image of
            its own row alone; weights in it must be frozen. None: the one key is `pixels`, the
            images themselves.
        chunk: images that `make` makes at a time, fewer when memory runs out; None for all of a
            class.
    """

    def __init__(
        self,
        tensors: Mapping[str, Mapping[str, Tensor]],
        make: Make | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = list(tensors)
        self._place = {name: place for place, name in enumerate(self.classes)}
        # By place: the names of classes may be anything.
        self.held = nn.ModuleList(
            nn.ParameterDict({k: nn.Parameter(t) for k, t in of.items() if t.requires_grad})
            for of in tensors.values()
        )
        self._constants = [
            {key: t for key, t in of.items() if not t.requires_grad} for of in tensors.values()
        ]
        self._make, self._chunk = make, chunk

    def leaves(self, key: str) -> list[nn.Parameter]:
        """The leaves of a key, one for each class: a group of the optimiser's parameters."""
        return [of[key] for of in self.held]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Leaves and constants of a class."""
        place = self._place[name]
        return {**dict(self.held[place].items()), **self._constants[place]}

    def images(self, name: str) -> Tensor:
        """Normalised images of a class [n, 3, S, S], a leaf that takes gradients.

        Raises:
            UserError: too little memory to make one image.
        """
        if self._make is None:
            return self.tensors(name)[PIXELS]
        tensors = self.tensors(name)

        def made(part: slice) -> Tensor:
            return self._make(name, {key: tensor[part] for key, tensor in tensors.items()})

        with torch.no_grad():
            parts = list(self._by_parts(name, made, "make one image"))
        return torch.cat(parts).requires_grad_()

    def push(self, name: str, gradient: Tensor) -> None:
        """Add to the leaves' gradients what a gradient at the images [n, 3, S, S] is for them.

        Raises:
            UserError: too little memory for the gradient of one image.
        """
        if self._make is None:
            leaf = self.tensors(name)[PIXELS]
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
            return
        tensors, leaves = self.tensors(name), dict(self.held[self._place[name]].items())
        for leaf in leaves.values():
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)

        def add(part: slice) -> None:
            # Leaves of the part's own, so that one that does not fit adds nothing to the whole.
            rows = {
                key: tensor[part].detach().requires_grad_(key in leaves)
                for key, tensor in tensors.items()
            }
            made = self._make(name, rows)
            found = torch.autograd.grad(made, [rows[key] for key in leaves], gradient[part])
            for leaf, of_part in zip(leaves.values(), found, strict=True):
                leaf.grad[part] += of_part

        for _ in self._by_parts(name, add, "take the gradient of one image"):
            pass

    def _by_parts(self, name: str, work: Callable[[slice], Part], what: str) -> Iterator[Part]:
        n = len(next(iter(self.tensors(name).values())))

        def shrink(size: int) -> None:
            self._chunk = size

        return halving(n, self._chunk or n, work, what=what, shrunk=shrink)


class Real:
    """Training images of some classes: uint8 on the device where they take up at most half of its
    free memory, else in main memory.

    Args:
        images: uint8 [N, 3, S, S] by class.
    """

    def __init__(self, images: Mapping[str, Tensor], device: str) -> None:
        self.counts = {name: len(of_class) for name, of_class in images.items()}
        ends = torch.tensor(list(self.counts.values())).cumsum(0).tolist()
        self._start = dict(zip(self.counts, [0, *ends[:-1]], strict=True))
        self.device = torch.device(device)
        self._images = _resident(torch.cat(list(images.values())), self.device)
        self._normalise = Normalise(self.device)

    @classmethod
    def read(cls, job: Job, classes: Sequence[str], size: int) -> Real:
        """The training images of classes, their centre squares resized to `size` (bilinear).

        Raises:
            UserError: a class has fewer than IPC; an image that cannot be decoded, unless the data
                set says to leave such images out.
        """
        found = {}
        for name in classes:
            keys = job.training_images(name, at_least=job.ipc)
            job.index.require_unchanged(job.dataset.source, keys)
            read = decode_images(job.dataset.source, keys, size, resize_centre_crop)
            whose, enough = f"training images of {name}", len(read.images) >= job.ipc
            policy = job.dataset.undecodable
            settle_undecodable(read.errors, policy, whose, len(keys), enough=enough)
            found[name] = read.pixels
        return cls(found, job.device)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def at(self, places: Tensor) -> Tensor:
        """Normalised images float32 [n, 3, S, S] at places int64 [n] on the CPU, by class."""
        if self._images.device == self.device:
            return self._normalise(self._images[send(places, self.device)])
        return self._normalise(send(self._images[places], self.device))

    def labels(self, labels: Mapping[str, int]) -> Tensor:
        """int64 [N] on the device: the label of the class at each place."""
        of_classes = torch.tensor([labels[name] for name in self.counts])
        counts = torch.tensor(list(self.counts.values()))
        return of_classes.repeat_interleave(counts).to(self.device)

    def batch(self, name: str, count: int, draws: torch.Generator) -> Tensor:
        """`count` images of a class without replacement, or all if there are fewer."""
        order = torch.randperm(self.counts[name], generator=draws)
        return self.at(order[:count] + self._start[name])


class Normalise:
    """Images of values 0 to `top` to a mean and a deviation; its constants stay on the device."""

    def __init__(
        self,
        device: torch.device,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        *,
        top: float = 255,
    ) -> None:
        mean, std = (torch.tensor(values, device=device) for values in (mean, std))
        self._scale = (1 / (top * std))[:, None, None]
        self._offset = (-mean / std)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._offset, images.float(), self._scale)

    def undo(self, images: Tensor) -> Tensor:
        return (images - self._offset) / self._scale


def to_uint8(images: Tensor) -> Tensor:
    """Normalised float images as uint8 on the CPU; what is beyond black or white becomes that."""
    pixels = Normalise(images.device).undo(images.detach())
    return pixels.round().clamp(0, 255).to(torch.uint8).cpu()


def initial_pixels(job: Job, real: Real, classes: Sequence[str], init: str) -> dict[str, Tensor]:
    """Normalised images to begin with, float32 [ipc, 3, S, S] on the device, by class.

    Args:
        init: `real`, the images that the method `random` takes; or `noise`, standard normal.
    """
    begun = {}
    for name in classes:
        if init == "real":
            draws = torch_generator(Draw.RANDOM_REAL, job.generation_seed, name)
            begun[name] = real.batch(name, job.ipc, draws)
        else:
            shape = real.batch(name, 1, torch.Generator()).shape[1:]
            noise = [
                torch.randn(
                    shape,
                    generator=torch_generator(Draw.MATCHING_NOISE, job.generation_seed, name, k),
                )
                for k in range(job.ipc)
            ]
            begun[name] = torch.stack(noise).to(real.device)
    return begun


def feature_distance(
    network: nn.Module, real: Tensor, synthetic: Tensor, size: int | None = None
) -> Tensor:
    """DM: squared L2 distance of the mean features of two batches [N, 3, S, S], [M, 3, S, S].

    Args:
        size: images in the network at a time; None for all.
    """

    def means(images: Tensor) -> tuple[Tensor, ...]:
        return (features(network, images).mean(0),)

    with torch.no_grad():
        (wanted,) = _in_parts(network, means, real, size)
    (found,) = _in_parts(network, means, synthetic, size)
    return (found - wanted).square().sum()


def _in_parts(
    network: nn.Module,
    means: Callable[[Tensor], tuple[Tensor, ...]],
    images: Tensor,
    size: int | None,
) -> tuple[Tensor, ...]:
    if size is not None and size < len(images):
        require_separable(network, f"a batch of {len(images)} images")
    return mean_of_parts(means, images, size or len(images))


def row_cosine(a: Tensor, b: Tensor) -> Tensor:
    """DC: sum over the outputs of a layer of 1 - cosine of its two gradients [out, ...]."""
    a, b = a.flatten(1), b.flatten(1)
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """IDC: sum of the absolute differences."""
    return (a - b).abs().sum()


def gradient_distance(
    network: nn.Module,
    real: Tensor,
    synthetic: Tensor,
    label: int,
    distance: Callable[[Tensor, Tensor], Tensor] = row_cosine,
    least_dims: int = 2,
    size: int | None = None,
) -> Tensor:
    """Distance of the gradients that two batches of one class have at the network's weights.

    Summed over the weights of at least `least_dims` dimensions: 2 leaves out biases and norms (DC),
    4 the linear layer, too (IDC).

    Args:
        size: images in the network at a time; None for all.
    """
    weights = [weight for weight in network.parameters() if weight.dim() >= least_dims]

    @torch.enable_grad()
    def gradients(images: Tensor) -> tuple[Tensor, ...]:
        labels = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(network(images), labels)
        return torch.autograd.grad(loss, weights, create_graph=images.requires_grad)

    wanted = _in_parts(network, gradients, real.detach(), size)
    found = _in_parts(network, gradients, synthetic, size)
    return torch.stack([distance(a, b) for a, b in zip(wanted, found, strict=True)]).sum()


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


def labels_of(job: Job) -> dict[str, int]:
    """A label for each class of the data set, by name: its order of classes does not enter."""
    return {name: label for label, name in enumerate(sorted(job.index.classes))}


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


def identity_of(job: Job, classes: Sequence[str]) -> dict[str, Any]:
    """What tells an unfinished optimisation from others; `classes` are those whose images count."""
    keys = [key for name in classes for key in job.index.images(name, "train")]
    return {
        "version": job.version,
        "torch": torch.__version__,
        "device": torch.device(job.device).type,
        "dataset": [job.dataset.name, job.dataset.flip],
        "images": seed_of(Draw.IMAGES, *keys),
        "classes": list(classes),
        "ipc": job.ipc,
        "generation_seed": job.generation_seed,
        "settings": job.settings,
    }


def optimise(
    synthesis: nn.Module,
    optimiser: torch.optim.Optimizer,
    iteration: Callable[[int], Tensor],
    iterations: int,
    *,
    what: str,
    checkpoint: Path | None,
    identity: Mapping[str, Any],
    each: int | None = None,
) -> Tensor:
    """Run iterations 0 .. `iterations` - 1, or what an interrupted attempt left of them.

    Args:
        synthesis: what is optimised, with all that a later iteration needs of the earlier ones.
        iteration: runs one and returns its loss, a scalar on the device. Its draws are named by its
            number.
        what: for the log.
        checkpoint: where to keep the state of an unfinished optimisation, at most once a minute;
            an existing one of the same `identity` is continued. Removed at the end.
        identity: JSON.
        each: iterations of one optimisation, where these are several after one another.

    Returns:
        The losses, float32 [iterations], on the CPU.

    Raises:
        UserError: a loss is not finite.
    """
    history = nn.Module()
    device = next(synthesis.parameters()).device
    history.register_buffer("losses", torch.zeros(iterations, device=device))
    modules: dict[str, nn.Module] = {"synthesis": synthesis, "history": history}
    kept, begin = None, 0
    if checkpoint is not None:
        kept = Checkpoint(
            checkpoint, {**identity, "iterations": iterations}, every=CHECKPOINT_SECONDS
        )
        begin = kept.restore(modules, optimiser)
    told, noted = time.monotonic(), begin
    with reproducible(), Progress(iterations, what, "iterations", begin) as bar:
        for number in range(begin, iterations):
            history.losses[number] = iteration(number)
            if kept is not None:
                kept.save_if_due(number + 1, modules, optimiser)
            # The one time at which the host waits for the device.
            if time.monotonic() - told >= LOG_SECONDS or number == iterations - 1:
                bar.note(loss=f"{_finite(history.losses[noted : number + 1], what):.4g}")
                told, noted = time.monotonic(), number + 1
            bar.update()
    if kept is not None:
        kept.remove()
    losses = history.losses.cpu()
    if iterations > 1:
        courses, tenth = losses.view(-1, each or iterations), math.ceil((each or iterations) / 10)
        print(
            f"{what}: loss {courses[:, :tenth].mean():.4g} at first, "
            f"{courses[:, -tenth:].mean():.4g} at last (a tenth of the iterations)",
            file=sys.stderr,
        )
    return losses


def _finite(losses: Tensor, what: str) -> float:
    mean = losses.mean().item()
    if not math.isfinite(mean):
        raise UserError(
            f"{what} diverged: its loss is {mean}", "set a lower `learning_rate` for this run"
        )
    return mean


@contextmanager
def reproducible() -> Iterator[None]:
    """Float32 without TF32, and the same algorithms for the same shapes."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with exact_float32(torch.float32):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _resident(images: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images


def as_set(synthesis: Synthesis, classes: Sequence[str]) -> dict[str, Tensor]:
    """What a method's `distil` returns: uint8 [ipc, 3, S, S] by class."""
    return {name: to_uint8(synthesis.images(name)) for name in classes}
