"""The schedules of the hard-label protocols, as explicit numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from mgd3.base.errors import UserError
from mgd3.evaluation.protocols import PROTOCOLS, get_protocol
from mgd3.networks.names import NETWORKS, get_network

# IPC, then (epochs, milestones, evaluated every) for 10 classes and for 100.
TABLE = [
    (1, (3000, (2000, 2500), 30), (2000, (1333, 1666), 20)),
    (10, (2000, (1333, 1666), 20), (1300, (866, 1083), 13)),
    (20, (1500, (1000, 1250), 15), (1000, (666, 833), 10)),
    (50, (1500, (1000, 1250), 15), (1000, (666, 833), 10)),
    (70, (1000, (666, 833), 10), (600, (400, 500), 6)),
    (100, (1000, (666, 833), 10), (600, (400, 500), 6)),
]


@pytest.mark.parametrize("ipc, ten, hundred", TABLE)
def test_hard_has_the_published_schedule(ipc, ten, hundred):
    for num_classes, (epochs, milestones, every) in ((10, ten), (100, hundred)):
        plan = get_protocol("hard").plan(num_classes, ipc)
        assert (plan.epochs, plan.milestones) == (epochs, milestones)
        assert plan.evaluation_epochs == tuple(range(every, epochs + 1, every))
        assert len(plan.evaluation_epochs) == 100


@pytest.mark.parametrize(
    "num_classes, ipc, epochs",
    [
        (10, 2, 2000),
        (10, 11, 1500),
        (10, 200, 1000),
        (10, 201, 500),
        (10, 501, 300),
        (100, 501, 200),
        (99, 10, 2000),
        (101, 10, 2000),
        (1000, 50, 1500),
    ],
)
def test_epochs_between_and_beyond_the_table(num_classes, ipc, epochs):
    assert get_protocol("hard").plan(num_classes, ipc).epochs == epochs


@pytest.mark.parametrize(
    "ipc, epochs", [(1, 3000), (10, 2000), (20, 1500), (50, 1500), (100, 1500)]
)
@pytest.mark.parametrize("num_classes", [10, 100])
def test_paper_epochs_are_those_of_the_appendix(num_classes, ipc, epochs):
    plan = get_protocol("hard-paper-epochs").plan(num_classes, ipc)
    assert plan.epochs == epochs and len(plan.evaluation_epochs) == 100


@pytest.mark.parametrize(
    "num_classes, expected",
    [
        (10, (0.01, 5e-4, 64)),
        (100, (0.01, 5e-4, 64)),
        (101, (0.1, 1e-4, 128)),
        (1000, (0.1, 1e-4, 128)),
    ],
)
def test_the_optimiser_changes_above_100_classes(num_classes, expected):
    optimiser = get_protocol("hard").plan(num_classes, 10).optimiser
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.batch_size) == expected
    assert optimiser.momentum == 0.9


def test_learning_rates_are_multisteplrs():
    plan = get_protocol("hard").plan(100, 70)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.01)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(plan.milestones), gamma=0.2)
    expected = []
    for _ in range(plan.epochs):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert plan.learning_rates() == pytest.approx(expected)
    rates = plan.learning_rates()
    assert (rates[399], rates[400], rates[500]) == pytest.approx((0.01, 0.002, 0.0004))


@pytest.mark.parametrize("num_classes", [1, 2, 10, 100, 150])
@pytest.mark.parametrize("ipc", [1, 3, 10, 50, 100, 1000])
def test_small_runs_a_fixed_number_of_steps_and_ten_evaluations(num_classes, ipc):
    protocol = get_protocol("hard-small")
    plan = protocol.plan(num_classes, ipc)
    per_epoch = -(-num_classes * ipc // plan.optimiser.batch_size)
    budget = protocol.duration
    assert plan.epochs >= budget.min_epochs
    assert plan.epochs * per_epoch >= budget.steps
    assert plan.epochs == budget.min_epochs or (plan.epochs - 1) * per_epoch < budget.steps
    assert len(plan.evaluation_epochs) == 10 and plan.evaluation_epochs[-1] == plan.epochs
    assert list(plan.evaluation_epochs) == sorted(set(plan.evaluation_epochs))


def test_small_is_hard_but_for_its_size_and_duration():
    hard, small = (get_protocol(n).settings(10, 10) for n in ("hard", "hard-small"))
    differing = {key for key in hard if hard[key] != small[key]}
    assert differing == {"size", "epochs", "milestones", "evaluations"}


def test_settings_are_json_and_complete():
    settings = get_protocol("hard").settings(10, 10)
    assert json.loads(json.dumps(settings))["std"] == [0.229, 0.224, 0.225]
    assert settings["learning_rate"] == 0.01 and settings["evaluations"] == 100
    assert settings["augmentation"]["cutmix"] == 1.0 and settings["precision"] == "fp32"


def test_names_need_no_torch():
    code = "import mgd3.evaluation.protocols, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_registry_names_are_their_keys():
    assert all(key == protocol.name for key, protocol in PROTOCOLS.items())
    assert {"hard", "hard-paper-epochs", "hard-small", "hard-small64"} <= set(PROTOCOLS)
    assert {"convnet3", "convnet6", "resnetap10", "resnet18"} <= set(NETWORKS["hard"])


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match="hard-smal") as error:
        get_protocol("hard-smal")
    assert "'hard-small'" in error.value.mend
    with pytest.raises(UserError) as error:
        get_network("resnet-18", 224)
    assert "'resnet18'" in error.value.mend
