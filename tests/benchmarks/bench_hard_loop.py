"""The hard-label training against the usual one: PIL images, transforms per sample, a DataLoader.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_hard_loop.py

Both arms do the same work at 64 px: the same network, steps, augmentation, CutMix and tests, on
one thread. The usual arm gets what costs nobody a rewrite: images decoded and resized beforehand,
no loader processes to compete for the core, `no_grad` in tests. Arms run in processes of their
own, in turn, one repeat with each seed. After ten epochs accuracies are low:
`--networks convnet3 --epochs 100` compares those of trained networks. `--arms usual allocator mgd3`
adds the usual arm with `keep_freed_memory`, which tells the gain of the loop from that of the
memory settings. The limit is the counted operations of all passes at the fastest rate of such
products here.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
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
    together,
    training_flops,
)
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from mgd3.base.device import keep_freed_memory
from mgd3.data import make_dataset
from mgd3.data.images import read_images, resize_centre_crop
from mgd3.evaluation import hard
from mgd3.evaluation.loop import Split, Training
from mgd3.evaluation.protocols import StepBudget, get_protocol
from mgd3.networks.architectures import create_network
from mgd3.networks.augment import LIGHTING_VALUES, LIGHTING_VECTORS

CLASSES, IPC, N_TEST = 10, 10, 250
# `hard` trains 20 epochs between two tests of 500 images; this is half of both.
EPOCHS = 10
ARMS = ("usual", "allocator", "mgd3")
# What a training gives: its times, and its accuracy in percent.
Outcome = tuple[Seconds, float]


@functools.cache
def data(size: int) -> tuple[Split, Split]:
    """Handwritten digits, enlarged: the first images of each class."""
    dataset = make_dataset("mnist")
    table = dataset.source.table()
    splits = []
    for split, count in (("train", IPC), ("test", N_TEST // CLASSES)):
        rows = table[table["split"] == split].groupby("class").head(count)
        keys = rows["image"].tolist()
        labels = rows["class"].map(dataset.source.classes().index)
        images = read_images(dataset.source, keys, size, resize_centre_crop)
        splits.append(Split(images, torch.tensor(labels.to_numpy())))
    return tuple(splits)


def run_mgd3(options: argparse.Namespace, epochs: int) -> Outcome:
    train, test = data(options.size)
    budget = StepBudget(steps=1, min_epochs=epochs)
    protocol = replace(get_protocol("hard"), size=options.size, duration=budget, evaluations=1)
    if options.device == "cpu":
        keep_freed_memory()
    found: list[Training] = []

    def work() -> None:
        training = hard.train_network(
            train,
            test,
            None,
            protocol=protocol,
            plan=protocol.plan(CLASSES, IPC),
            network=options.networks[0],
            num_classes=CLASSES,
            generation_seed=0,
            training_seed=options.seed,
            device=torch.device(options.device),
            report=lambda line: None,
        )
        found.append(training)

    spent = seconds_of(work)
    return spent, found[0].scores.accuracy("test")["last"]


class ColourJitter:
    """Brightness, contrast and saturation of one tensor image, in random order."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        for step in random.sample((self.brightness, self.contrast, self.saturation), 3):
            image = step(image, random.uniform(-0.4, 0.4))
        return image

    @staticmethod
    def grey(image: torch.Tensor) -> torch.Tensor:
        return (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2])[None]

    def brightness(self, image: torch.Tensor, a: float) -> torch.Tensor:
        return image * (1 - a)

    def contrast(self, image: torch.Tensor, a: float) -> torch.Tensor:
        return image.lerp(self.grey(image).mean(), a)

    def saturation(self, image: torch.Tensor, a: float) -> torch.Tensor:
        return image.lerp(self.grey(image).expand_as(image), a)


class Lighting:
    vectors, values = torch.tensor(LIGHTING_VECTORS), torch.tensor(LIGHTING_VALUES)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        shift = (self.vectors * (torch.randn(3) * 0.1 * self.values)).sum(1)
        return image + shift[:, None, None]


class Preloaded(Dataset):
    def __init__(self, split: Split, transform: T.Compose) -> None:
        self.images = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in split.images]
        self.labels, self.transform = split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def run_usual(options: argparse.Namespace, epochs: int) -> Outcome:
    size, device = options.size, options.device
    normal = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    crop = T.RandomResizedCrop(size, (0.5, 1.0), antialias=True)
    flip = T.RandomHorizontalFlip()
    train, test = data(size)
    augmented = T.Compose([T.ToTensor(), crop, flip, ColourJitter(), Lighting(), normal])
    train_set = Preloaded(train, augmented)
    test_set = Preloaded(test, T.Compose([T.ToTensor(), normal]))
    for draw in (torch.manual_seed, np.random.seed, random.seed):
        draw(options.seed)
    workers = {"num_workers": options.workers, "persistent_workers": options.workers > 0}
    loader = DataLoader(train_set, batch_size=64, shuffle=True, **workers)
    test_loader = DataLoader(test_set, batch_size=32, **workers)
    right = 0

    def work() -> None:
        nonlocal right
        model = create_network(options.networks[0], CLASSES, size).to(device)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        milestones = [epochs * 2 // 3, epochs * 5 // 6]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.2)
        for _ in range(epochs):
            model.train()
            for images, labels in loader:
                images, labels = images.to(device), labels.to(device)
                keep, partners = np.random.beta(1, 1), torch.randperm(len(labels), device=device)
                half = int(size * (1 - keep) ** 0.5) // 2
                row, column = np.random.randint(size, size=2)
                top, bottom = max(row - half, 0), min(row + half, size)
                left, right_ = max(column - half, 0), min(column + half, size)
                pasted = images[partners, :, top:bottom, left:right_]
                images[:, :, top:bottom, left:right_] = pasted
                weight = 1 - (bottom - top) * (right_ - left) / size**2
                logits = model(images)
                loss = weight * F.cross_entropy(logits, labels)
                loss = loss + (1 - weight) * F.cross_entropy(logits, labels[partners])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                loss.item()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            for images, labels in test_loader:
                found = model(images.to(device)).argmax(1)
                right += (found == labels.to(device)).sum().item()

    spent = seconds_of(work)
    return spent, 100 * right / len(test)


def child(options: argparse.Namespace) -> None:
    """One training of one arm, as JSON; one of an epoch comes first."""
    torch.set_num_threads(1)
    if options.arm == "allocator":
        keep_freed_memory()
    run = run_mgd3 if options.arm == "mgd3" else run_usual
    run(options, 1)
    spent, accuracy = run(options, options.epochs)
    print(json.dumps({**asdict(spent), "accuracy": accuracy}))


def profile(options: argparse.Namespace) -> None:
    """Where the time of our arm goes, by operation."""
    torch.set_num_threads(1)
    run_mgd3(options, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        run_mgd3(options, options.epochs)
    print(found.key_averages().table("self_cpu_time_total", row_limit=15))


def limit(options: argparse.Namespace, network: str) -> float:
    """Seconds that the operations of the training and the test take at least."""
    model = create_network(network, CLASSES, options.size)
    images = torch.randn(4, 3, options.size, options.size)
    trained = options.epochs * CLASSES * IPC * training_flops(model, images)
    with torch.no_grad():
        tested = N_TEST * flops(lambda: model(images)) / len(images)
    return (trained + tested) / fastest()


def compare(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    rows, lines = [], ["| network | arm | wall (s) | accuracy (%) |", "|---|---|---|---|"]
    for network in options.networks:
        accuracies: dict[str, list[float]] = {arm: [] for arm in options.arms}

        def train(arm: str, network: str = network, accuracies: dict = accuracies) -> Seconds:
            found = in_child(
                __file__, "--arm", arm, "--networks", network, "--epochs", options.epochs,
                "--seed", len(accuracies[arm]), "--size", options.size, "--device", options.device,
                "--workers", options.workers,
            )  # fmt: skip
            accuracies[arm].append(found["accuracy"])
            return Seconds(found["wall"], found["cpu"])

        arms = {arm: lambda arm=arm, train=train: train(arm) for arm in options.arms}
        taken = interleaved(arms, options.repeats, warm_up=False)
        for arm, found in accuracies.items():
            spread = f"{statistics.mean(found):.1f} ± {statistics.pstdev(found):.1f}"
            lines.append(f"| {network} | {arm} | {taken[arm].wall:.2f} | {spread} |")
        least = limit(options, network) if options.device == "cpu" else None
        what = f"hard labels, {network} at {options.size} px, {options.epochs} epochs of 100 images"
        rows.append(Row(what, taken["usual"], taken["mgd3"], None, least, "float32 products"))
    return [*rows, together("hard labels, the networks together", rows, options.gate)], lines


def parser() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    networks = ["convnet3", "convnet6", "resnetap10"]
    parser.add_argument("--networks", nargs="+", default=networks)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["usual", "mgd3"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="our arm by operation, no times")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the usual arm")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.set_defaults(gate=1.5)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.arm:
        return child(options)
    if options.profile:
        return profile(options)
    report(options, *compare(options))


if __name__ == "__main__":
    main()
