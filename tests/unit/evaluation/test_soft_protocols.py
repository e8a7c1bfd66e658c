"""The soft-label protocols as explicit numbers."""

from __future__ import annotations

import json
import math

import pytest

from mgd3.base.errors import UserError
from mgd3.evaluation.protocols import PROTOCOLS, SoftProtocol, get_protocol
from mgd3.evaluation.protocols.soft import RATES, BatchTable, part_epochs
from mgd3.networks.names import NETWORKS
from mgd3.planning.config import resolve
from mgd3.teachers import get_teacher

SOFT = [p for p in PROTOCOLS.values() if isinstance(p, SoftProtocol)]


@pytest.mark.parametrize(
    "ipc, few, hundred, thousand",
    [
        (1, 10, 20, 20),
        (10, 50, 100, 100),
        (50, 100, 200, 200),
        (20, 50, 100, 100),  # undefined in the original
        (100, 100, 200, 200),  # undefined in the original
    ],
)
def test_batch_sizes(ipc, few, hundred, thousand):
    protocol = get_protocol("soft")
    found = [protocol.plan(classes, ipc).batch_size for classes in (10, 100, 1000)]
    assert found == [few, hundred, thousand]


def test_other_batch_rules_and_the_cap():
    above = get_protocol("soft-batch-above")
    assert [above.plan(10, ipc).batch_size for ipc in (1, 5, 20, 100)] == [10, 50, 100, 100]
    assert get_protocol("soft-d3hr").plan(1000, 50).batch_size == 100
    assert get_protocol("soft").plan(3, 10).batch_size == 30
    assert BatchTable().size(10, 5) == 10
    fkd = get_protocol("soft-fkd")
    assert (fkd.plan(1000, 10).batch_size, fkd.plan(10, 10).batch_size) == (1024, 100)


def test_the_cosine_is_cut_off_halfway_down():
    plan = get_protocol("soft").plan(1000, 10, "resnet18")
    rates = plan.learning_rates()
    expected = [1e-3 * 0.5 * (1 + math.cos(math.pi * e / 600)) for e in range(300)]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[0] == 1e-3 and rates[299] == pytest.approx(0.5026e-3, rel=1e-4)


def test_fkd_goes_down_to_nothing():
    rates = get_protocol("soft-fkd").plan(1000, 10, "vgg11").learning_rates()
    assert (rates[0], rates[150]) == pytest.approx((1e-3, 0.5e-3))
    assert 0 < rates[299] < 1e-7


def test_evaluations():
    assert get_protocol("soft").plan(10, 10).evaluation_epochs == (250, 260, 270, 280, 290, 300)
    assert get_protocol("soft-fkd").plan(10, 10).evaluation_epochs == tuple(range(10, 301, 10))
    assert get_protocol("soft-d3hr").plan(10, 10).evaluation_epochs == tuple(range(291, 301))


@pytest.mark.parametrize("protocol", SOFT, ids=lambda p: p.name)
@pytest.mark.parametrize("num_classes, ipc", [(10, 1), (10, 10), (100, 20)])
def test_every_plan_ends_with_a_test(protocol, num_classes, ipc):
    plan = protocol.plan(num_classes, ipc)
    tested = plan.evaluation_epochs
    assert tested[-1] == plan.epochs and list(tested) == sorted(set(tested))
    assert len(plan.learning_rates()) == plan.epochs
    assert 0 < plan.batch_size <= num_classes * ipc
    assert get_teacher(protocol.teacher).size == protocol.size
    assert protocol.without_flips().views.flip == 0


def test_learning_rates_of_the_students():
    known = NETWORKS["soft"]
    rates = {name: get_protocol("soft").plan(10, 10, name).rate for name in known}
    assert rates == {
        **dict.fromkeys(known, 1e-3), "vgg11": 5e-4, "efficientnet_b0": 2e-3,
        "mobilenet_v2": 2.5e-3, "alexnet": 1e-4, "vit_b_16": 1e-4, "swin_v2_t": 1e-4,
    }  # fmt: skip
    assert set(dict(RATES)) < set(known)
    assert {get_protocol("soft-fkd").plan(10, 10, name).rate for name in known} == {1e-3}


def test_the_settings_of_the_two_published_protocols():
    soft = get_protocol("soft").settings(1000, 10, "resnet18")
    assert json.loads(json.dumps(soft)) == soft
    wanted = {"size": 224, "test_resize": 256, "labels": "online", "teacher": "resnet18",
              "temperature": 20.0, "weight_decay": 0.01, "passes": 2, "epochs": 300,
              "cosine": 0.5, "precision": "fp32"}  # fmt: skip
    assert {key: soft[key] for key in wanted} == wanted
    assert soft["views"] == {"shuffle": 2, "crop_scale": [0.5, 1.0], "flip": 0.5,
                             "mix": "cutmix", "mix_alpha": 1.0}  # fmt: skip
    fkd = get_protocol("soft-fkd").settings(1000, 10, "resnet18")
    changed = {key for key in soft if soft[key] != fkd[key]}
    assert changed == {"labels", "passes", "evaluation_epochs", "cosine", "batch_size", "views"}
    assert fkd["views"]["crop_scale"] == [0.08, 1.0] and fkd["views"]["shuffle"] == 1
    mixup = get_protocol("soft-mixup")
    assert (mixup.temperature, mixup.views.mix_alpha) == (4.0, 0.8)


def test_stored_labels_are_counted_and_cut_into_parts():
    fkd = get_protocol("soft-fkd")
    # ImageNet-1K at IPC 50: 50,000 images, 1,000 classes, 300 epochs, two bytes.
    assert fkd.label_bytes(1000, 50) == 30_000_000_000
    parts = fkd.label_parts(1000, 50)
    spans = [part_epochs(300, parts, part) for part in range(parts)]
    assert [epoch for span in spans for epoch in span] == list(range(300))
    assert max(len(s) for s in spans) * 50_000 * 1000 * 2 <= (2 << 30) + 50_000 * 1000 * 2
    assert fkd.label_parts(10, 10) == 1
    assert get_protocol("soft").label_bytes(1000, 50) == 0
    assert get_protocol("soft").label_parts(1000, 50) == 0


def test_imagenets_teacher_needs_wnids():
    config = {
        "name": "x", "datasets": ["digits"], "ipc": [1], "generation_seeds": [0],
        "runs": [{"method": "random"}],
        "evaluation": [{"protocol": "soft-imagenet-teacher", "networks": ["resnet18"]}],
    }  # fmt: skip
    with pytest.raises(UserError, match=r"'0' of 'digits' has no wnid|of 'digits' has no wnid"):
        resolve(config)
