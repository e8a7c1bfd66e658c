"""A soft-label step against RDED's loop: transforms sample by sample, the student run twice.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_soft_step.py

Both arms train the same student with the same teacher on the same images, at equal state: the
usual arm's second pass moves the running statistics of batch norm once more, ours adjusts their
momentum, and `test_one_pass_leaves_what_two_would` compares what both leave. The usual arm gets
what costs nobody a rewrite: images preloaded as PIL, no loader processes to compete for the core,
`no_grad` where no gradient is wanted, the same memory settings of the C library and the same fused
AdamW. Arms run in processes of their own, in turn. `--arms usual one-pass mgd3` adds the usual arm
without its second pass, which tells the gain of dropping it from that of the data path. The limit
is the counted operations of the teacher's and the student's passes at the fastest rate of such
products here.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timing import (
    Row,
    Seconds,
    arguments,
    fastest,
    flops,
    in_child,
    interleaved,
    report,
    seconds_of,
    training_flops,
)
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from mgd3.base.device import keep_freed_memory
from mgd3.evaluation import soft
from mgd3.evaluation.loop import Split
from mgd3.evaluation.protocols import StepBudget, get_protocol
from mgd3.networks.architectures import create_network
from mgd3.teachers.model import Teacher

CLASSES, IPC = 10, 10
ARMS = ("usual", "one-pass", "mgd3")
# Side of the distilled images and of the crops.
SIZES = {64: (64, 64), 224: (256, 224)}


def data(side: int) -> Split:
    g = torch.Generator().manual_seed(0)
    n = CLASSES * IPC
    images = torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=g)
    return Split(images, torch.arange(n) % CLASSES)


def protocol_of(size: int, epochs: int):
    budget = StepBudget(steps=1, min_epochs=epochs)
    return replace(get_protocol("soft"), size=size, duration=budget, evaluations=1)


def make_teacher(network: str, size: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return create_network(network, CLASSES, size, "soft").eval().requires_grad_(False)


def run_mgd3(options: argparse.Namespace, epochs: int) -> Seconds:
    network, size, device = options.networks[0], options.size, torch.device(options.device)
    train = data(SIZES[size][0])
    protocol = protocol_of(size, epochs)
    model = make_teacher(network, size).to(device)
    teacher = Teacher(model, [], size, protocol.mean, protocol.std, "")
    one = Split(torch.zeros(1, 3, size, size, dtype=torch.uint8), torch.zeros(1).long())
    return seconds_of(
        lambda: soft.train_network(
            train,
            one,
            None,
            protocol=protocol,
            plan=protocol.plan(CLASSES, IPC, network),
            network=network,
            num_classes=CLASSES,
            generation_seed=0,
            training_seed=0,
            device=device,
            teacher=teacher,
            report=lambda line: None,
        )
    )


class ShufflePatches:
    """Strips of one tensor image change places along its width, then along its height."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        for axis in (2, 1):
            strips = list(image.chunk(self.factor, axis))
            random.shuffle(strips)
            image = torch.cat(strips, axis)
        return image


class Preloaded(Dataset):
    def __init__(self, split: Split, transform: T.Compose) -> None:
        self.images = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in split.images]
        self.labels, self.transform = split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def run_usual(options: argparse.Namespace, epochs: int, passes: int) -> Seconds:
    network, size, device = options.networks[0], options.size, options.device
    protocol = protocol_of(size, epochs)
    plan, views = protocol.plan(CLASSES, IPC, network), protocol.views
    transform = T.Compose(
        [
            T.ToTensor(),
            ShufflePatches(views.shuffle),
            T.RandomResizedCrop(size, views.crop_scale, antialias=True),
            T.RandomHorizontalFlip(),
            T.Normalize(protocol.mean, protocol.std),
        ]
    )
    loader = DataLoader(
        Preloaded(data(SIZES[size][0]), transform),
        batch_size=plan.batch_size,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    teacher = make_teacher(network, size).to(device)

    def work() -> None:
        torch.manual_seed(0)
        student = create_network(network, CLASSES, size, "soft").to(device)
        optimiser = torch.optim.AdamW(
            soft.parameter_groups(student, protocol.weight_decay), lr=plan.rate, fused=True
        )
        divergence = torch.nn.KLDivLoss(reduction="batchmean")
        for _ in range(epochs):
            for images, labels in loader:
                images, labels = images.to(device), labels.to(device)
                student.train()
                share, partners = np.random.beta(1, 1), torch.randperm(len(labels), device=device)
                half = int(size * (1 - share) ** 0.5) // 2
                row, column = np.random.randint(size, size=2)
                top, bottom = max(row - half, 0), min(row + half, size)
                left, right = max(column - half, 0), min(column + half, size)
                images[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
                with torch.no_grad():
                    if passes == 2:
                        (student(images).argmax(1) == labels).sum().item()
                    wanted = F.softmax(teacher(images) / protocol.temperature, dim=1)
                found = F.log_softmax(student(images) / protocol.temperature, dim=1)
                loss = divergence(found, wanted)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                loss.item()

    return seconds_of(work)


def child(options: argparse.Namespace) -> None:
    """One training of one arm, as JSON; one of an epoch comes first."""
    torch.set_num_threads(1)
    if options.device == "cpu":
        keep_freed_memory()

    def run(epochs: int) -> Seconds:
        if options.arm == "mgd3":
            return run_mgd3(options, epochs)
        return run_usual(options, epochs, 2 if options.arm == "usual" else 1)

    run(1)
    print(json.dumps(asdict(run(options.epochs))))


def limit(options: argparse.Namespace, network: str) -> float:
    """Seconds that the operations of a training take at least."""
    model = create_network(network, CLASSES, options.size, "soft")
    images = torch.randn(4, 3, options.size, options.size)
    with torch.no_grad():
        labelled = flops(lambda: model(images)) / len(images)
    total = options.epochs * CLASSES * IPC * (labelled + training_flops(model, images))
    return total / fastest()


def compare(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    rows, lines = [], ["| network | arm | wall (s) | CPU (s) |", "|---|---|---|---|"]
    for network in options.networks:

        def train(arm: str, network: str = network) -> Seconds:
            found = in_child(
                __file__, "--arm", arm, "--networks", network, "--epochs", options.epochs,
                "--size", options.size, "--device", options.device, "--workers", options.workers,
            )  # fmt: skip
            return Seconds(**found)

        arms = {arm: lambda arm=arm, train=train: train(arm) for arm in options.arms}
        taken = interleaved(arms, options.repeats, warm_up=False)
        for arm, spent in taken.items():
            lines.append(f"| {network} | {arm} | {spent.wall:.2f} | {spent.cpu:.2f} |")
        least = limit(options, network) if options.device == "cpu" else None
        what = f"soft labels, {network} at {options.size} px, {options.epochs} epochs of 100 images"
        rows.append(
            Row(what, taken["usual"], taken["mgd3"], options.gate, least, "float32 products")
        )
    return rows, lines


def parser() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet10", "conv3"])
    parser.add_argument("--size", type=int, choices=SIZES, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["usual", "mgd3"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the usual arm")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.set_defaults(gate=1.2)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.arm:
        return child(options)
    report(options, *compare(options))


if __name__ == "__main__":
    main()
