"""Training as `evaluate_synset` of VICO-UoE/DatasetCondensation, and GLaD's descendant of it.

GLaD averages the weights once an epoch and tests the averaged network (GeorgeCazenavette/glad).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.memory import SplitBackward
from ..base.seeding import Draw, torch_generator
from ..networks.architectures import create_network
from ..networks.augment import normalise
from ..networks.dsa import apply_dsa, draw_dsa_epoch
from .loop import Autocast, Learner, Split, Training, fit, say, sgd, training_state
from .protocols import DcPlan, DcProtocol, GladPlan, GladProtocol
from .single import batch_sizes


def train_network(
    train: Split,
    test: Split,
    validation: Split | None,
    *,
    protocol: GladProtocol | DcProtocol,
    plan: GladPlan | DcPlan,
    network: str,
    num_classes: int,
    generation_seed: int,
    training_seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    report: Callable[[str], None] = say,
) -> Training:
    """Train `network` on `train` and test it, or its averaged weights, at the end: see `hard`.

    Raises:
        UserError: the network does not fit the image size, or the loss is not finite.
    """
    seeds = (generation_seed, training_seed)
    size, batch_size = train.images.shape[-1], plan.optimiser.batch_size
    rates, decays = plan.learning_rates(), plan.decays()
    with training_state(device, protocol.precision, *seeds) as autocast:
        model = create_network(network, num_classes, size, protocol.networks).to(device)
        average = copy.deepcopy(model).requires_grad_(False)
        weights, averages = list(model.parameters()), list(average.parameters())
        optimiser = sgd(weights, plan.optimiser, rates[0])
        train, test = train.to(device), test.to(device)
        validation = validation and validation.to(device)
        backward = SplitBackward(model)
        sizes = batch_sizes(model, len(train), batch_size, size)

        def train_epoch(epoch: int) -> Tensor:
            for group in optimiser.param_groups:
                group["lr"] = rates[epoch]
            if epoch in plan.restarts:
                optimiser.state.clear()
            generator = torch_generator(Draw.TRAIN, *seeds, "augmentation", epoch)
            draws = draw_dsa_epoch(len(train), size, sizes, protocol.operations, generator)
            draws = draws.to(device)
            batches = zip(
                draws.order.split(sizes),
                draws.operations,
                draws.parameters.split(sizes),
                strict=True,
            )
            total = torch.zeros((), device=device)
            for indices, operation, parameters in batches:
                images = normalise(train.images[indices], protocol.mean, protocol.std)
                images = apply_dsa(images, operation, parameters)
                loss_of = partial(_loss, model, images, train.labels[indices], autocast)
                loss = backward(len(indices), loss_of)
                optimiser.step()
                total += loss * len(indices)
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1 - decays[epoch])
            return total

        return fit(
            Learner(model, optimiser, train_epoch, len(train), tested=average),
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
    model: nn.Module, images: Tensor, labels: Tensor, autocast: Autocast, part: slice
) -> Tensor:
    """Mean cross-entropy of a part of a batch that is already augmented."""
    with autocast():
        logits = model(images[part])
    return F.cross_entropy(logits.float(), labels[part])
