"""DatasetCondensation's evaluation: its schedule and its loop, against a plain one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mgd3.base.seeding import Draw, torch_generator
from mgd3.evaluation import glad, loop
from mgd3.evaluation.protocols import DSA_OPERATIONS, get_protocol
from mgd3.evaluation.protocols.dc import CIFAR_MEAN, CIFAR_STD
from mgd3.networks.architectures import create_network
from mgd3.networks.augment import normalise
from mgd3.networks.dsa import draw_dsa_epoch

CPU = torch.device("cpu")
DC = get_protocol("dc32")
SHORT = replace(DC, size=16, published_epochs=8, optimiser=replace(DC.optimiser, batch_size=8))


def split(n, seed, classes=3, size=16):
    """Images whose brightness tells their class, with noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(120, (n, 3, size, size), generator=g)
    return loop.Split((noise + labels[:, None, None, None] * 60).to(torch.uint8), labels)


@pytest.mark.parametrize("steps", [300, 1000, 8])
def test_the_rates_are_those_of_the_published_loop(steps):
    """`for ep in range(Epoch + 1): train; if ep in [Epoch // 2 + 1]: lr *= 0.1`."""
    expected, rate = [], 0.01
    for epoch in range(steps + 1):
        expected.append(rate)
        if epoch in [steps // 2 + 1]:
            rate *= 0.1
    plan = replace(DC, published_epochs=steps).plan(10, 10, "convnet3")
    assert plan.learning_rates() == pytest.approx(expected)
    assert plan.epochs == len(expected) and plan.evaluation_epochs == (len(expected),)
    assert plan.restarts == (expected.index(pytest.approx(0.001)),)


def test_settings_are_the_published_ones():
    settings = DC.settings(10, 50, "convnet3")
    assert (settings["batch_size"], settings["learning_rate"]) == (256, 0.01)
    assert (settings["momentum"], settings["weight_decay"]) == (0.9, 5e-4)
    assert settings["augmentation"] == {"dsa": []} and settings["epochs"] == 301
    assert settings["mean"] == list(CIFAR_MEAN)
    dsa = get_protocol("dc32-dsa").settings(10, 50, "convnet3")
    assert dsa["augmentation"] == {"dsa": list(DSA_OPERATIONS)} and dsa["epochs"] == 1001
    assert "flip" not in get_protocol("dc32-dsa").without_flips().operations
    # ConvNet-3 of width 128: `get_network("ConvNet", 3, 10, (32, 32))` has as many parameters.
    network = create_network("convnet3", 10, 32, "dc")
    assert sum(p.numel() for p in network.parameters()) == 320_010


def test_training_is_the_published_loop():
    """A plain loop over the same images in order; a new optimiser when the rate falls."""
    train, seeds = split(20, 1), (0, 0)
    lines = []
    found = glad.train_network(
        train,
        split(30, 2),
        None,
        protocol=SHORT,
        plan=SHORT.plan(3, 7, "convnet3"),
        network="convnet3",
        num_classes=3,
        generation_seed=0,
        training_seed=0,
        device=CPU,
        report=lines.append,
    )
    with loop.training_state(CPU, "fp32", *seeds):
        network = create_network("convnet3", 3, 16, "dc")
        rate, total = 0.01, 0.0
        optimiser = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4)
        for epoch in range(SHORT.published_epochs + 1):
            generator = torch_generator(Draw.TRAIN, *seeds, "augmentation", epoch)
            for rows in draw_dsa_epoch(20, 16, 8, (), generator).order.split(8):
                x = normalise(train.images[rows], CIFAR_MEAN, CIFAR_STD)
                loss = F.cross_entropy(network(x), train.labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(rows)
            if epoch == SHORT.published_epochs // 2 + 1:
                rate *= 0.1
                optimiser = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4)
    (record,) = found.scores.curve
    assert record["train_loss"] == pytest.approx(total / (20 * 9), rel=1e-4)
    test = split(30, 2)
    with torch.inference_mode():
        logits = network.eval()(normalise(test.images, CIFAR_MEAN, CIFAR_STD))
    # All but what rounding tips where two classes are nearly alike.
    assert (found.scores.predictions["last"] == logits.argmax(1)).sum() >= 29
    assert record["test"] > 60, "it learns brightness, three classes of it"
