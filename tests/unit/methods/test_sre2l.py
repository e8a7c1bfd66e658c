"""SRe2L: the loss against a plain computation, views, batches of classes, resuming."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.methods import METHODS, Job
from mgd3.methods.matching import inversion as module
from mgd3.methods.matching import loop
from mgd3.methods.matching.inversion import Recovery, batch_norm_distances
from mgd3.methods.sre2l import distil
from mgd3.networks.architectures import create_network
from mgd3.networks.resampling import draw_views, resampled
from mgd3.teachers.model import Teacher

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = [f"digit-{k}" for k in range(4)]


@pytest.fixture(scope="module")
def teacher():
    """A small network with running statistics that are not those of its first step."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = create_network("conv3", 4, 32, "soft")
        for _ in range(20):
            model(torch.randn(8, 3, 32, 32) * 0.7 + 0.2)
    model.eval().requires_grad_(False)
    return Teacher(model, CLASSES, 32, MEAN, STD, "digest")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    dataset, path = make_dataset("digits"), tmp_path_factory.mktemp("digits") / "index.parquet"
    write_index(dataset, path)
    settings = {**METHODS["sre2l"].defaults(), "iterations": 5}
    index = replace(Index.read(path), classes=CLASSES)
    return Job(
        dataset=dataset, index=index, classes=CLASSES, ipc=2, generation_seed=0,
        settings=settings, generator=None, modes=None, device="cpu", batch="auto",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_files(monkeypatch, teacher):
    monkeypatch.setattr(module.teachers, "load", lambda folder, device: teacher)


def recovery(teacher, **changes):
    settings = {"seed": 0, "flip": True, "iterations": 8, "learning_rate": 0.1, "bn_weight": 0.01}
    return Recovery(teacher, CLASSES, CLASSES, 2, **{**settings, **changes})


# The loss


def test_distances_of_batch_statistics_are_those_of_the_definition(teacher):
    x = torch.randn(5, 3, 32, 32)
    with batch_norm_distances(teacher.model) as found:
        teacher.model(x)
    assert not any(layer._forward_pre_hooks for layer in teacher.model.modules())
    expected = []
    for layer in teacher.model:
        if isinstance(layer, nn.BatchNorm2d):
            values = x.permute(1, 0, 2, 3).flatten(1).double()
            mean = values.sum(1) / values.shape[1]
            variance = ((values - mean[:, None]) ** 2).sum(1) / values.shape[1]
            expected.append(
                ((layer.running_var - variance) ** 2).sum().sqrt()
                + ((layer.running_mean - mean) ** 2).sum().sqrt()
            )
        x = layer(x)
    assert len(found) == len(expected) == 3
    for a, b in zip(found, expected, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-5)


def test_the_loss_is_cross_entropy_and_the_weighted_distances(teacher):
    x = torch.randn(4, 3, 32, 32)
    with batch_norm_distances(teacher.model) as found:
        logits = teacher.model(x)
    expected = F.cross_entropy(logits, torch.arange(4)) + 0.3 * (
        10 * found[0] + found[1] + found[2]
    )
    loss = recovery(teacher, bn_weight=0.3).loss(x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_labels_are_the_teacher_s_own(teacher):
    """Classes that are some of the teacher's, in another order and otherwise called: all of its
    logits count."""
    of_two = Recovery(
        teacher, ["a", "b"], ["digit-3", "digit-1"], 1, seed=0, flip=False, iterations=1,
        learning_rate=0.1, bn_weight=0.0,
    )  # fmt: skip
    x = torch.randn(2, 3, 32, 32)
    expected = F.cross_entropy(teacher.model(x), torch.tensor([3, 1]))
    assert of_two.loss(x).item() == pytest.approx(expected.item())


def test_the_gradient_at_the_images_is_the_slope_of_the_loss(teacher, monkeypatch):
    """By finite differences, through the views, in a smooth network and double precision."""
    model = create_network("conv3", 4, 32, "soft").double().eval().requires_grad_(False)
    for place, layer in enumerate(model):
        if isinstance(layer, nn.ReLU):
            model[place] = nn.Softplus()
    views = module.view_matrices
    monkeypatch.setattr(module, "view_matrices", lambda *a: [m.double() for m in views(*a)])
    inverted = recovery(replace(teacher, model=model)).double()
    (gradient,) = torch.autograd.grad(inverted.loss(inverted.view(0, 3)), inverted.batch)
    direction, step = torch.randn_like(gradient), 1e-6
    begun, ends = inverted.batch.detach().clone(), []
    for sign in (1, -1):
        inverted.batch.data = begun + sign * step * direction
        ends.append(inverted.loss(inverted.view(0, 3)).item())
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_a_batch_is_never_cut_and_too_little_memory_is_said(teacher):
    """In parts its statistics would be others."""

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("out of memory")

    of = recovery(teacher)
    hook = teacher.model.register_forward_pre_hook(out_of_memory)
    try:
        with pytest.raises(UserError, match="a batch of 4 images whose statistics are taken"):
            of.iteration(0)
    finally:
        hook.remove()


# Views


def test_a_view_is_one_random_crop_for_the_batch_and_a_shift(teacher):
    """Against the crop, resize and flip of images that evaluation has."""
    inverted = recovery(teacher)
    pixels = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8).expand(4, -1, -1, -1)
    with torch.no_grad():
        inverted.batch.copy_(inverted._normalise(pixels))
    seen = set()
    for step in range(12):
        draws = torch_generator("sre2l-view", 0, 1, step)
        views = draw_views(1, 32, draws, crop_scale=(0.08, 1.0), flip=0.5)
        shifts = torch.randint(round(32 / 7) + 1, (2,), generator=draws).tolist()
        expected = torch.roll(resampled(pixels[:1], views, 32, MEAN, STD), shifts, (2, 3))
        found = inverted.view(1, step)
        torch.testing.assert_close(found, expected.expand(4, -1, -1, -1), atol=1e-4, rtol=0)
        seen.add((*shifts, bool(views[0, 4])))
    assert len(seen) > 6 and {flipped for *_, flipped in seen} == {True, False}


def test_digits_are_not_mirrored(teacher, monkeypatch):
    flips, draw = [], module.draw_views
    monkeypatch.setattr(
        module, "draw_views", lambda *a, flip, **k: flips.append(flip) or draw(*a, flip=flip, **k)
    )
    for flip in (False, True):
        recovery(teacher, flip=flip).view(0, 0)
    assert flips == [0.0, 0.5]


# The optimisation


def test_its_loss_falls(teacher, monkeypatch):
    inverted = recovery(teacher, iterations=60)
    monkeypatch.setattr(inverted, "view", lambda k, step: inverted.batch)
    losses = [inverted.iteration(number).item() for number in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_each_batch_has_an_optimiser_and_a_cosine_of_its_own(teacher):
    inverted, rates = recovery(teacher, iterations=4), []
    for number in range(8):
        inverted.iteration(number)
        rates.append(inverted.optimiser.param_groups[0]["lr"])
        (state,) = inverted.optimiser.state.values()
        assert int(state["step"]) == number % 4 + 1
    assert rates[:4] == pytest.approx([0.1, 0.1 * 0.8535534, 0.05, 0.1 * 0.1464466])
    assert rates[4:] == rates[:4]
    # Values stay within black and white, so nothing is lost in saving them.
    pixels = inverted._normalise.undo(inverted.batch.detach())
    assert pixels.min() > -0.01 and pixels.max() < 255.01
    assert (inverted.done[:, 1].float() - pixels).abs().max() < 0.51


def test_the_set_is_a_valid_one(job):
    images = distil(job)
    assert list(images) == CLASSES
    assert all(of.shape == (2, 3, 32, 32) and of.dtype == torch.uint8 for of in images.values())
    begun = distil(replace(job, settings={**job.settings, "iterations": 0}))
    again, other = distil(job), distil(replace(job, generation_seed=1))
    for name in CLASSES:
        assert torch.equal(images[name], again[name])
        assert not torch.equal(images[name], other[name])
        assert not torch.equal(images[name], begun[name])
        assert not torch.equal(images[name][0], images[name][1])


def test_neither_block_nor_order_of_the_classes_matters(job, monkeypatch):
    """The classes of a batch depend on each other; which they are does not depend on the job."""
    whole = distil(job)
    one = distil(replace(job, classes=CLASSES[2:3]))
    assert list(one) == CLASSES[2:3] and torch.equal(one["digit-2"], whole["digit-2"])
    turned = replace(job.index, classes=CLASSES[::-1])
    turned = distil(replace(job, index=turned, classes=CLASSES[::-1]))
    assert all(torch.equal(turned[name], whole[name]) for name in CLASSES)
    monkeypatch.setattr(METHODS["sre2l"], "together", 2)
    halves = distil(job)
    assert not torch.equal(halves["digit-0"], whole["digit-0"])
    alone = distil(replace(job, classes=CLASSES[2:]))
    assert all(torch.equal(alone[name], halves[name]) for name in CLASSES[2:])


def test_an_interrupted_job_ends_as_if_it_had_not_been(job, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole, path, iteration = distil(job), tmp_path / "state", Recovery.iteration
    for last in (3, 5, 8):  # in the first batch, between two, in the second

        def dying(self, number, last=last):
            if number == last:
                raise KeyboardInterrupt
            return iteration(self, number)

        with monkeypatch.context() as patch:
            patch.setattr(Recovery, "iteration", dying)
            with pytest.raises(KeyboardInterrupt):
                distil(replace(job, unfinished=path))
    run = []
    monkeypatch.setattr(Recovery, "iteration", lambda self, n: run.append(n) or iteration(self, n))
    resumed = distil(replace(job, unfinished=path))
    assert run == [8, 9] and not path.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in CLASSES)


def test_a_class_that_the_teacher_does_not_know_is_named(job):
    more = replace(job.index, classes=[*CLASSES, "digit-7"])
    with pytest.raises(UserError, match="does not know class 'digit-7'"):
        distil(replace(job, index=more))
