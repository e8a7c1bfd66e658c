"""Training with a teacher's probabilities: the validations of LINs-lab/RDED and VILA-Lab/SRe2L.

Online, the teacher labels each batch as the student sees it, cropped and mixed. Stored, it did so
once (`mgd3.evaluation.labels`), and the student's crops are drawn from the same seeds. Images stay
on the device as uint8, at the side they were made at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.seeding import Draw, torch_generator
from ..networks.architectures import create_network
from ..teachers.model import Teacher
from .batches import batch_pairs, require_strips, send
from .labels import StoredLabels
from .loop import Learner, Split, Training, fit, say, training_state
from .protocols import SoftPlan, SoftProtocol
from .single import batch_sizes, joined


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's groups: what is named `weight` and has more than one dimension decays."""
    decaying, plain = [], []
    for name, parameter in model.named_parameters():
        decays = "weight" in name and parameter.ndim > 1
        (decaying if decays else plain).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def repeat_statistics(model: nn.Module, passes: int) -> None:
    """Let one pass of a batch move the running statistics of batch norm as `passes` would.

    Each pass of the same batch takes r to (1 - m) r + m b with the same b, so `passes` of them are
    one with momentum 1 - (1 - m)^passes: 0.19 for two of 0.1. Nothing else depends on the momentum.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** passes


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened logits [N, classes], the mean over the batch."""
    wanted = F.softmax(teacher.float() / temperature, dim=1)
    found = F.log_softmax(student.float() / temperature, dim=1)
    return F.kl_div(found, wanted, reduction="batchmean")


def train_network(
    train: Split,
    test: Split,
    validation: Split | None,
    *,
    protocol: SoftProtocol,
    plan: SoftPlan,
    network: str,
    num_classes: int,
    generation_seed: int,
    training_seed: int,
    device: torch.device,
    teacher: Teacher | None = None,
    labels: StoredLabels | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    report: Callable[[str], None] = say,
) -> Training:
    """Train `network` on `train` and test it at the plan's evaluation epochs.

    Args:
        train: distilled images, square, at the side they were made at.
        test, validation: images of the protocol's size.
        teacher: on the device, its logits those of the classes at hand; where labels are online.
        labels: of these images; where they are stored.
        checkpoint, fingerprint, report: see `loop.fit`.

    Raises:
        UserError: the network does not fit the image size, an image's side cannot be cut into the
            protocol's strips, or the loss is not finite.
    """
    require_strips(train.images, protocol)
    seeds, rates = (generation_seed, training_seed), plan.learning_rates()
    with training_state(device, protocol.precision, *seeds) as autocast:
        model = create_network(network, num_classes, protocol.size, protocol.networks).to(device)
        # Only CutMix, which mixes in place there, shows the pass for the log what is trained on.
        unmixed_passes = protocol.passes - 1 if protocol.views.mix == "mixup" else 0
        repeat_statistics(model, protocol.passes - unmixed_passes)
        optimiser = torch.optim.AdamW(
            parameter_groups(model, protocol.weight_decay), lr=rates[0], fused=True
        )
        train, test = train.to(device), test.to(device)
        validation = validation and validation.to(device)
        sizes = batch_sizes(model, len(train), plan.batch_size, protocol.size)

        def train_epoch(epoch: int) -> Tensor:
            for group in optimiser.param_groups:
                group["lr"] = rates[epoch]
            if labels is None:
                generator = torch_generator(Draw.TRAIN, *seeds, "augmentation", epoch)
                stored = None
            else:
                generator = labels.generator(epoch)
                stored = iter(send(labels.logits(epoch), device).split(sizes))
            total = torch.zeros((), device=device)
            seen = batch_pairs(train.images, protocol, plan.batch_size, generator)
            for unmixed, images in joined(seen, sizes):
                with autocast():
                    with torch.no_grad():
                        for _ in range(unmixed_passes):
                            model(unmixed)
                    if stored is None:
                        with torch.no_grad():
                            wanted = teacher(images)
                    else:
                        wanted = next(stored)
                    logits = model(images)
                loss = divergence(logits, wanted, protocol.temperature)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(images)
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
