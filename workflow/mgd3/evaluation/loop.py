"""What all training engines share: the loop over epochs, tests, checkpoints, arithmetic.

An engine makes a `Learner` and hands it to `fit`. All images live on the device as uint8. The host
waits for the device only at evaluations, for one small copy (the progress line, and the check that
training has not diverged).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..base.checkpoint import Unfinished, misfit, pack, unpack
from ..base.errors import UserError
from ..base.memory import halving
from ..base.seeding import Draw, seed_of
from ..networks.augment import normalise
from .protocols import Optimiser, Plan, Precision, Protocol

CHECKPOINT_SECONDS = 60.0
Autocast = Callable[[], Any]


@dataclass(frozen=True)
class Split:
    """Labelled images: uint8 [N, 3, S, S] and int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass
class Scores:
    """What one training has shown so far; accuracies in percent.

    Attributes:
        curve: one record for each evaluation: epoch, train_loss (mean since the previous one),
            test, validation (None without a validation split).
        best: index into the curve of the highest test accuracy, the earliest on ties.
        selected: index of the highest validation accuracy, the earliest on ties.
        predictions: test predictions, int16 [n_test], at `best`, `last` and `selected`.
    """

    curve: list[dict[str, float | int | None]] = field(default_factory=list)
    best: int | None = None
    selected: int | None = None
    predictions: dict[str, Tensor] = field(default_factory=dict)

    def add(self, record: dict[str, float | int | None], predictions: Tensor) -> None:
        self.curve.append(record)
        self.predictions["last"] = predictions
        for name, split in (("best", "test"), ("selected", "validation")):
            index, value = getattr(self, name), record[split]
            if value is not None and (index is None or value > self.curve[index][split]):
                setattr(self, name, len(self.curve) - 1)
                self.predictions[name] = predictions

    def accuracy(self, split: str) -> dict[str, float | None]:
        """The accuracy on `test` or `validation` at `best`, `last` and `selected`."""
        at = {"best": self.best, "last": len(self.curve) - 1, "selected": self.selected}
        return {
            name: None if index is None else self.curve[index][split] for name, index in at.items()
        }


@dataclass(frozen=True)
class Training:
    """The outcome of one training.

    Attributes:
        scores: accuracies and predictions.
        seconds: wall time, over all attempts when it was resumed.
        peak_memory_bytes: of the device on CUDA, of the process on a CPU.
    """

    scores: Scores
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Learner:
    """What is trained, and how an epoch of it goes.

    Attributes:
        model: the network in training, on its device.
        optimiser: over the parameters of `model`.
        train_epoch: trains epoch e (0-based); returns the loss summed over the epoch's images, a
            scalar on the device. Its random draws are named by the epoch, so that a resumed
            training needs no state of generators; torch's global generator, which serves dropout,
            is seeded anew before each epoch.
        images: images in an epoch.
        tested: the network that is tested where that is not `model`: a moving average of it.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    train_epoch: Callable[[int], Tensor]
    images: int
    tested: nn.Module | None = None


def fit(
    learner: Learner,
    test: Split,
    validation: Split | None,
    *,
    protocol: Protocol,
    plan: Plan,
    seeds: tuple[int, int],
    autocast: Autocast,
    checkpoint: Path | None,
    fingerprint: str,
    report: Callable[[str], None],
) -> Training:
    """Train to the end, testing at the plan's evaluation epochs.

    Args:
        test, validation: images of the protocol's size, on the device.
        seeds: of generation and of training; with the epoch they name torch's global seed.
        autocast: from `arithmetic`.
        checkpoint: where to keep the state of an unfinished training, at most once a minute; an
            existing one of the same `fingerprint` is continued. Removed at the end.
        report: receives a progress line at each evaluation.

    Raises:
        UserError: the loss is not finite.
    """
    run = _Run(learner, checkpoint, fingerprint)
    started, begin = time.monotonic(), run.epoch
    for epoch in range(begin, plan.epochs):
        torch.manual_seed(seed_of(Draw.TRAIN, *seeds, "network", epoch))
        learner.model.train()
        run.loss += learner.train_epoch(epoch)
        run.images += learner.images
        run.epoch += 1
        if run.epoch in plan.evaluation_epochs:
            with autocast():
                run.evaluate(test, validation, protocol)
            done, spent = run.epoch - begin, time.monotonic() - started
            report(_progress(run.scores, plan, learner.images * done / spent, spent / done))
        run.save_if_due()
    run.finish()
    return Training(run.scores, run.seconds(), peak_memory(run.loss.device))


@contextmanager
def training_state(
    device: torch.device, precision: Precision, *seeds: str | int
) -> Iterator[Autocast]:
    """The state of the process for one training; all is put back afterwards.

    Seeds torch's global generators (initial weights), sets the arithmetic, and restarts the
    measure of memory. Yields what makes the context of a forward pass.

    Raises:
        UserError: bfloat16 without CUDA.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), _arithmetic(device, precision) as autocast:
        torch.manual_seed(seed_of(Draw.TRAIN, *seeds, "initial weights"))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        yield autocast


def sgd(
    parameters: Iterable[nn.Parameter], settings: Optimiser, learning_rate: float
) -> torch.optim.SGD:
    """SGD with momentum over parameters that are on their device already."""
    held = list(parameters)
    return torch.optim.SGD(
        held,
        lr=learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=held[0].is_cuda,
    )


@torch.inference_mode()
def predict(
    model: nn.Module, images: Tensor, protocol: Protocol, batch_size: int | None = None
) -> Tensor:
    """Predicted classes, int64 [N], of uint8 images [N, 3, S, S], in evaluation mode."""
    model.eval()
    # On a CPU, large activations leave the cache, and the channels-last kernels are faster.
    on_cuda, pixels = images.is_cuda, images.shape[-1] ** 2
    layout = torch.contiguous_format if on_cuda else torch.channels_last
    if batch_size is None:
        batch_size = max(64, (1 << 23) // pixels) if on_cuda else max(8, min(32, 65536 // pixels))

    def classes(part: slice) -> Tensor:
        x = normalise(images[part], protocol.mean, protocol.std)
        return model(x.contiguous(memory_format=layout)).argmax(1)

    return torch.cat(list(halving(len(images), batch_size, classes, what="test one image")))


class _Run:
    """How far one training has come, and its checkpoint."""

    def __init__(self, learner: Learner, checkpoint: Path | None, fingerprint: str) -> None:
        self.optimiser = learner.optimiser
        self.tested = learner.tested or learner.model
        self.modules = {"model": learner.model}
        if learner.tested is not None:
            self.modules["tested"] = learner.tested
        self.epoch = 0
        self.scores = Scores()
        # Summed since the last evaluation.
        self.loss = next(learner.model.parameters()).new_zeros(())
        self.images = 0
        self.before, self.started = 0.0, time.monotonic()
        self.kept: Unfinished | None = None
        if checkpoint is not None:
            self.kept = Unfinished(checkpoint, {"training": fingerprint}, CHECKPOINT_SECONDS)
            self._resume(self.kept)

    def evaluate(self, test: Split, validation: Split | None, protocol: Protocol) -> None:
        predictions = predict(self.tested, test.images, protocol)
        figures = [self.loss / self.images, (predictions == test.labels).sum()]
        if validation is not None:
            found = predict(self.tested, validation.images, protocol)
            figures.append((found == validation.labels).sum())
        loss, right, *held = torch.stack([figure.double() for figure in figures]).tolist()
        if loss - loss != 0:  # infinite or not a number
            raise UserError(
                f"training diverged: the loss is {loss} at epoch {self.epoch}",
                "check the distilled images, or use a protocol with a lower learning rate",
            )
        self.scores.add(
            {
                "epoch": self.epoch,
                "train_loss": loss,
                "test": 100 * right / len(test),
                "validation": 100 * held[0] / len(validation) if held else None,
            },
            predictions.to(torch.int16).cpu(),
        )
        self.loss.zero_()
        self.images = 0

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def save_if_due(self) -> None:
        if self.kept is None or not self.kept.is_due():
            return
        tensors = {f"predictions.{name}": found for name, found in self.scores.predictions.items()}
        self.kept.save(
            {"loss": self.loss, **tensors, **pack(self.modules, self.optimiser)},
            {
                "epoch": self.epoch,
                "images": self.images,
                "seconds": self.seconds(),
                "curve": self.scores.curve,
                "best": self.scores.best,
                "selected": self.scores.selected,
            },
        )

    def _resume(self, kept: Unfinished) -> None:
        state = kept.load()
        if state is None:
            return
        tensors, note = state
        if why := misfit(tensors, self.modules, self.optimiser):
            kept.doubt(f"{kept.path} {why}")
            return
        unpack(tensors, self.modules, self.optimiser)
        self.loss.copy_(tensors["loss"])
        self.epoch, self.images, self.before = note["epoch"], note["images"], note["seconds"]
        group = "predictions."
        predictions = {k.removeprefix(group): t for k, t in tensors.items() if k.startswith(group)}
        self.scores = Scores(note["curve"], note["best"], note["selected"], predictions)

    def finish(self) -> None:
        if self.kept is not None:
            self.kept.remove()


def _progress(scores: Scores, plan: Plan, speed: float, epoch_seconds: float) -> str:
    last = scores.curve[-1]
    held = "" if last["validation"] is None else f"  validation {last['validation']:.2f} %"
    left = round((plan.epochs - last["epoch"]) * epoch_seconds)
    return (
        f"epoch {last['epoch']}/{plan.epochs}  loss {last['train_loss']:.4f}  "
        f"test {last['test']:.2f} %{held}  {speed:.0f} images/s  "
        f"ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    )


@contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[Autocast]:
    """Set the arithmetic for a training; yields what makes the context of a forward pass."""
    if precision == "bf16" and device.type != "cuda":
        raise UserError(
            f"precision 'bf16' needs a CUDA device, and this is {device.type}",
            "use precision fp32",
        )
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    # Matrix products stay in float32: those of the augmentation are exact, and the rest is small.
    cudnn.allow_tf32, matmul.allow_tf32 = precision == "tf32", False
    # The same seeds give the same accuracy only when the algorithms are chosen the same way.
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        if precision == "bf16":
            yield lambda: torch.autocast("cuda", dtype=torch.bfloat16)
        else:
            yield nullcontext
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def say(line: str) -> None:
    """A progress line on stderr."""
    print(line, file=sys.stderr, flush=True)
