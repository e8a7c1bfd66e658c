"""The hard-label training loop: paired seeds, resumption, scores."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from mgd3.base.errors import UserError
from mgd3.base.seeding import seed_of
from mgd3.evaluation import hard, loop
from mgd3.evaluation.protocols import Optimiser, StepBudget, get_protocol
from mgd3.networks.architectures import create_network

CPU = torch.device("cpu")
TINY = replace(
    get_protocol("hard-small"),
    size=16,
    duration=StepBudget(steps=14, min_epochs=7),
    few_classes=Optimiser(0.01, 5e-4, batch_size=8),
    evaluations=3,
)


def split(n, seed, classes=3, size=16):
    """Images whose brightness tells their class, with noise."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(120, (n, 3, size, size), generator=g)
    ramp = torch.arange(size)[None, None, :, None] * (labels[:, None, None, None] * 4)
    return loop.Split((noise + ramp).to(torch.uint8), labels)


def run(protocol=TINY, seeds=(0, 0), train=None, validation=True, report=None, **more):
    train = train or split(12, 1)
    return hard.train_network(
        train,
        split(30, 2),
        split(21, 3) if validation else None,
        protocol=protocol,
        plan=protocol.plan(3, 4),
        network="convnet3",
        num_classes=3,
        generation_seed=seeds[0],
        training_seed=seeds[1],
        device=CPU,
        report=report or logging.getLogger(__name__).debug,
        **more,
    )


def same(a, b):
    return a.scores.curve == b.scores.curve and all(
        torch.equal(a.scores.predictions[name], b.scores.predictions[name])
        for name in ("best", "last", "selected")
    )


def test_same_seeds_give_the_same_result_whatever_the_global_state():
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    assert same(first, run())
    assert torch.initial_seed() == 2, "the caller's generator is left alone"


def test_both_seeds_matter():
    losses = [run(seeds=s).scores.curve[0]["train_loss"] for s in ((0, 0), (0, 1), (1, 0))]
    assert len(set(losses)) == 3


def test_methods_are_paired(monkeypatch):
    """Other images change neither the initial weights nor the augmentation."""
    seen = []

    def spy(name, *arguments):
        network = create_network(name, *arguments)
        seen.append([p.detach().clone() for p in network.parameters()])
        return network

    def spy_draws(*arguments, **settings):
        draws = draw_epoch(*arguments, **settings)
        seen.append([draws.order, draws.per_image, *(m.partners for m in draws.cutmix)])
        return draws

    draw_epoch = hard.draw_epoch
    monkeypatch.setattr(hard, "create_network", spy)
    monkeypatch.setattr(hard, "draw_epoch", spy_draws)
    run(train=split(12, 1))
    half = len(seen)
    run(train=split(12, 9))
    for a, b in zip(seen[:half], seen[half:], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_curve_follows_the_plan_and_the_predictions():
    result = run()
    plan, scores, test = TINY.plan(3, 4), result.scores, split(30, 2)
    assert [r["epoch"] for r in scores.curve] == list(plan.evaluation_epochs) == [2, 4, 7]
    accuracy = scores.accuracy("test")
    for name in ("best", "last", "selected"):
        found = (scores.predictions[name] == test.labels).sum().item() * 100 / 30
        assert found == pytest.approx(accuracy[name])
    assert accuracy["best"] == max(r["test"] for r in scores.curve)
    assert scores.accuracy("validation")["selected"] == max(r["validation"] for r in scores.curve)
    assert result.seconds > 0 and result.peak_memory_bytes > 0


def test_training_learns():
    protocol = replace(TINY, duration=StepBudget(steps=80, min_epochs=7))
    assert run(protocol).scores.accuracy("test")["last"] >= 80


def test_without_validation_nothing_is_selected():
    scores = run(validation=False).scores
    assert scores.accuracy("test")["selected"] is None
    assert scores.accuracy("validation") == dict.fromkeys(("best", "last", "selected"))
    assert set(scores.predictions) == {"best", "last"}


def test_ties_go_to_the_earliest():
    scores = loop.Scores()
    for epoch, (test, validation) in enumerate([(50, 60), (70, 80), (70, 80), (60, 70)]):
        record = {"epoch": epoch, "train_loss": 1.0, "test": test, "validation": validation}
        scores.add(record, torch.tensor([epoch]))
    assert (scores.best, scores.selected) == (1, 1)
    assert {k: v.item() for k, v in scores.predictions.items()} == {
        "best": 1, "selected": 1, "last": 3,
    }  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_killed_training_resumes_to_the_same_result(tmp_path, monkeypatch, at):
    expected = run()
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint.safetensors"
    lines = []

    def kill(line):
        lines.append(line)
        if len(lines) == at:
            raise Killed

    with pytest.raises(Killed):
        run(checkpoint=path, fingerprint="a", report=kill)
    assert path.is_file()
    again = []
    assert same(run(checkpoint=path, fingerprint="a", report=again.append), expected)
    # Killed after an evaluation and before the epoch's checkpoint: that one is repeated.
    assert len(again) == 3 - at + 1
    assert not path.exists() and not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_inputs_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint.safetensors"

    def kill(line):
        raise Killed

    with pytest.raises(Killed):
        run(checkpoint=path, fingerprint="a", train=split(12, 5), report=kill)
    again = []
    assert same(run(checkpoint=path, fingerprint="b", report=again.append), run())
    assert len(again) == 3


def test_short_trainings_write_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Unfinished, "save", lambda *_: pytest.fail("saved within a minute"))
    run(checkpoint=tmp_path / "checkpoint.safetensors")


def test_predictions_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model, images = create_network("convnet3", 5, 32), split(50, 4, size=32).images
    found = [loop.predict(model, images, TINY, batch) for batch in (None, 1, 7, 50)]
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert len(found[0].unique()) > 1


def test_divergence_is_a_users_error():
    protocol = replace(TINY, few_classes=Optimiser(1e30, 5e-4, batch_size=8))
    with pytest.raises(UserError, match="diverged: the loss is nan at epoch 2"):
        run(protocol)


def test_bfloat16_needs_cuda():
    with pytest.raises(UserError, match="bf16"):
        run(replace(TINY, precision="bf16"))


def test_backends_are_as_before():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    run(replace(TINY, precision="tf32"))
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == before


def test_the_loss_is_the_mixed_cross_entropy():
    """One step on one batch, against the formula; the learning rate is too small to matter."""
    protocol = replace(
        TINY,
        duration=StepBudget(steps=1, min_epochs=1),
        few_classes=Optimiser(1e-12, 0.0, batch_size=64),
        evaluations=1,
    )
    train = split(12, 1)
    found = run(protocol, train=train).scores.curve[0]["train_loss"]

    torch.manual_seed(seed_of("train", 0, 0, "initial weights"))
    model = create_network("convnet3", 3, 16)
    generator = hard.torch_generator("train", 0, 0, "augmentation", 0)
    settings = {**vars(protocol.augmentation), "mean": protocol.mean, "std": protocol.std}
    draws = hard.draw_epoch(12, 16, 64, generator, **settings)
    images = hard.augment(train.images[draws.order], draws.per_image, draws.cutmix[0])
    logs, mix = model(images).log_softmax(1), draws.cutmix[0]
    own = train.labels[draws.order]
    rows = torch.arange(12)
    loss = -mix.weight * logs[rows, own] - (1 - mix.weight) * logs[rows, own[mix.partners]]
    assert found == pytest.approx(loss.mean().item(), rel=1e-5)


def test_progress_names_what_a_reader_wants():
    lines = []
    run(report=lines.append)
    assert len(lines) == 3 and lines[-1].startswith("epoch 7/7")
    for word in ("loss", "test", "validation", "images/s", "ETA 0:00:00"):
        assert word in lines[-1]
