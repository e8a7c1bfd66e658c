"""A last batch of one image: batch norm over 1 x 1 maps cannot be trained on it."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from mgd3.base.errors import UserError
from mgd3.evaluation import hard, soft
from mgd3.evaluation.loop import Split
from mgd3.evaluation.protocols import Optimiser, StepBudget, get_protocol
from mgd3.evaluation.single import batch_sizes, joined, trains_on_one
from mgd3.networks.architectures import create_network
from mgd3.teachers.model import Teacher

HARD = replace(
    get_protocol("hard-small"),
    size=32,
    duration=StepBudget(steps=4, min_epochs=2),
    few_classes=Optimiser(0.01, 5e-4, batch_size=8),
    evaluations=2,
)
SOFT = replace(
    get_protocol("soft-small"), name="tiny", size=32, test_resize=32,
    duration=StepBudget(steps=4, min_epochs=2), batch=8, evaluations=2, gap=1,
)  # fmt: skip


class Pooled(nn.Module):
    """Batch norm over the mean of each map: one value a channel and image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.AdaptiveAvgPool2d(1),
            nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def split(n: int) -> Split:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n) % 3)


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [(65, 64, [65]), (17, 8, [8, 9]), (16, 8, [8, 8]), (18, 8, [8, 8, 2]), (5, 8, [5])],
)
def test_a_single_image_joins_the_batch_before_it(images, batch, sizes):
    assert batch_sizes(Pooled(), images, batch, 32) == sizes
    parts = [(part, -part) for part in torch.arange(images).split(batch)]
    found = list(joined(parts, sizes))
    assert [len(part) for part, _ in found] == sizes
    assert torch.equal(torch.cat([part for part, _ in found]), torch.arange(images))
    assert torch.equal(torch.cat([part for _, part in found]), -torch.arange(images))


def test_where_one_image_can_be_trained_on_nothing_changes():
    network = create_network("convnet3", 3, 32)
    assert batch_sizes(network, 17, 8, 32) == [8, 8, 1]
    assert batch_sizes(network, 1, 8, 32) == [1]


@pytest.mark.parametrize(("images", "batch"), [(1, 8), (4, 1)])
def test_one_image_alone_is_refused_by_name(images, batch):
    with pytest.raises(UserError, match="cannot be trained on batches of one image of 32 px"):
        batch_sizes(Pooled(), images, batch, 32)


@pytest.mark.parametrize("make", [Pooled, lambda: create_network("conv3", 3, 32, "soft")])
def test_the_trial_leaves_no_trace(make):
    network = make().eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert trains_on_one(network, 32) == (make is not Pooled)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("engine", [hard, soft])
def test_both_loops_train_through_a_last_image(engine, monkeypatch):
    monkeypatch.setattr(engine, "create_network", lambda *_: Pooled())
    protocol = HARD if engine is hard else SOFT
    teacher = Teacher(Pooled().eval(), ["a", "b", "c"], 32, SOFT.mean, SOFT.std, "0" * 64)
    more = {} if engine is hard else {"teacher": teacher}
    result = engine.train_network(
        split(17), split(6), None, protocol=protocol, plan=protocol.plan(3, 6, "convnet3"),
        network="convnet3", num_classes=3, generation_seed=0, training_seed=0,
        device=torch.device("cpu"), report=logging.getLogger(__name__).debug, **more,
    )  # fmt: skip
    assert result.scores.curve[-1]["train_loss"] > 0
