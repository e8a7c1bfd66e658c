"""Training with hard labels: the loop of `train.py` of vimar-gu/MinimaxDiffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.memory import SplitBackward
from ..base.seeding import Draw, torch_generator
from ..networks.architectures import create_network
from ..networks.augment import CutMix, augment, draw_epoch
from .loop import Autocast, Learner, Split, Training, fit, say, sgd, training_state
from .protocols import HardPlan, HardProtocol
from .single import batch_sizes


def train_network(
    train: Split,
    test: Split,
    validation: Split | None,
    *,
    protocol: HardProtocol,
    plan: HardPlan,
    network: str,
    num_classes: int,
    generation_seed: int,
    training_seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    report: Callable[[str], None] = say,
) -> Training:
    """Train `network` on `train` and test it at the plan's evaluation epochs.

    Every draw is named by both seeds and by nothing else, so the same seeds give the same initial
    weights and the same augmentation to every method, and distilled sets without a seed of their
    own still get independent trainings.

    Args:
        train, test, validation: images of the protocol's size.
        checkpoint, fingerprint, report: see `loop.fit`.

    Raises:
        UserError: the network does not fit the image size, or the loss is not finite.
    """
    seeds = (generation_seed, training_seed)
    size, rates = train.images.shape[-1], plan.learning_rates()
    batch_size = plan.optimiser.batch_size
    settings = {**asdict(protocol.augmentation), "mean": protocol.mean, "std": protocol.std}
    with training_state(device, protocol.precision, *seeds) as autocast:
        model = create_network(network, num_classes, size, protocol.networks).to(device)
        optimiser = sgd(model.parameters(), plan.optimiser, rates[0])
        train, test = train.to(device), test.to(device)
        validation = validation and validation.to(device)

        backward = SplitBackward(model)
        sizes = batch_sizes(model, len(train), batch_size, size)

        def train_epoch(epoch: int) -> Tensor:
            for group in optimiser.param_groups:
                group["lr"] = rates[epoch]
            generator = torch_generator(Draw.TRAIN, *seeds, "augmentation", epoch)
            draws = draw_epoch(len(train), size, sizes, generator, **settings).to(device)
            batches = zip(
                draws.order.split(sizes),
                draws.per_image.split(sizes),
                draws.cutmix,
                strict=True,
            )
            total = torch.zeros((), device=device)
            for indices, per_image, mix in batches:
                labels = train.labels[indices]
                images = augment(train.images[indices], per_image, mix)
                loss_of = partial(_loss, model, images, labels, mix, autocast)
                loss = backward(len(labels), loss_of)
                optimiser.step()
                total += loss * len(labels)
            return total

        return fit(
            Learner(model, optimiser, train_epoch, len(train)),
            test,
            validation,
            protocol=protocol,
            plan=plan,
            seeds=seeds,
            autocast=autocast,
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            report=report,
        )


def _loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    mix: CutMix | None,
    autocast: Autocast,
    part: slice,
) -> Tensor:
    """Mean cross-entropy of a part of a batch that is already augmented."""
    with autocast():
        logits = model(images[part])
    loss = F.cross_entropy(logits.float(), labels[part])
    if mix is None:
        return loss
    other = F.cross_entropy(logits.float(), labels[mix.partners[part]])
    return mix.weight * loss + (1 - mix.weight) * other
