"""Matching real images: objectives against plain computations, and the optimisation of images."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.methods import METHODS, Job, distiller
from mgd3.methods.matching import idc, loop
from mgd3.methods.matching import images as of_images
from mgd3.methods.matching import problem as posing
from mgd3.methods.matching.images import Normalise, Real, to_uint8
from mgd3.methods.matching.loop import optimise
from mgd3.methods.matching.objectives import (
    absolute,
    feature_distance,
    gradient_distance,
    row_cosine,
)
from mgd3.methods.matching.problem import (
    Matching,
    augment_alike,
    distribution_iteration,
    dsa_operations,
    gradient_iteration,
)
from mgd3.methods.matching.synthesis import PIXELS, Synthesis
from mgd3.networks.architectures import create_network
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS

CLASSES = ["digit-3", "digit-0", "digit-7"]
ALL = [*CLASSES, "digit-1"]
IPC = 3
TINY = {"network": "convnet3-narrow", "size": 8, "real_batch": 8, "iterations": 2}
# Every method here, with settings that are cheap.
METHOD_SETTINGS = {
    "dm": ("dm", TINY),
    "dc": ("dc", TINY),
    "dc-trained": ("dc", {**TINY, "outer_loop": 2, "inner_loop": 2, "init": "real"}),
    "idc": (
        "idc",
        {**TINY, "real_batch": 64, "learning_rate": 3.0, "inner_loop": 1, "warmup_epochs": 1},
    ),
}
EACH = pytest.mark.parametrize("case", METHOD_SETTINGS)


@pytest.fixture(autouse=True)
def less_to_learn(monkeypatch):
    monkeypatch.setattr(idc, "_LEARNED", 100)


@pytest.fixture(scope="module")
def job_of(tmp_path_factory):
    dataset, path = make_dataset("digits"), tmp_path_factory.mktemp("digits") / "index.parquet"
    write_index(dataset, path)
    index = replace(Index.read(path), classes=ALL)

    def make(case, settings=None, **changes):
        method, cheap = METHOD_SETTINGS[case]
        job = Job(
            dataset=dataset, index=index, classes=CLASSES, ipc=IPC, generation_seed=0,
            settings={**METHODS[method].defaults(), **cheap, **(settings or {})}, generator=None,
            modes=None, device="cpu", batch="auto",
        )  # fmt: skip
        return replace(job, **changes)

    return make


def distilled(job_of, case, settings=None, **changes):
    return distiller(METHOD_SETTINGS[case][0])(job_of(case, settings, **changes))


# Methods


@EACH
def test_the_set_is_a_valid_one(job_of, case):
    images = distilled(job_of, case)
    assert list(images) == CLASSES
    for of_class in images.values():
        assert of_class.shape == (IPC, 3, 8, 8) and of_class.dtype == torch.uint8
        assert len(of_class.flatten(1).unique(dim=0)) == IPC


@EACH
def test_seeds_are_all_that_is_random(job_of, case):
    torch.manual_seed(1)
    one = distilled(job_of, case)
    state = torch.get_rng_state()
    again = distilled(job_of, case)
    assert torch.equal(state, torch.get_rng_state()), "the process's own generator is left alone"
    other = distilled(job_of, case, generation_seed=1)
    for name in CLASSES:
        assert torch.equal(one[name], again[name])
        assert not torch.equal(one[name], other[name])


@EACH
def test_neither_block_nor_order_of_the_classes_matters(job_of, case):
    together = distilled(job_of, case)
    turned = distilled(job_of, case, classes=CLASSES[::-1])
    alone = distilled(job_of, case, classes=CLASSES[:1])
    for name in CLASSES:
        assert torch.equal(together[name], turned[name])
    assert torch.equal(together[CLASSES[0]], alone[CLASSES[0]])


@EACH
def test_the_order_of_the_data_set_s_classes_does_not_matter(job_of, case):
    job = job_of(case)
    turned = replace(job, index=replace(job.index, classes=job.index.classes[::-1]))
    one, other = (distiller(METHOD_SETTINGS[case][0])(j) for j in (job, turned))
    assert all(torch.equal(one[name], other[name]) for name in CLASSES)


@EACH
def test_without_iterations_images_are_as_they_begin(job_of, case):
    images = distilled(job_of, case, {"iterations": 0, "init": "real"})
    random = distiller("random")(replace(job_of(case), settings={"selection": "seeded"}))
    for name in CLASSES:
        # The same pictures; here of a quarter of the size.
        small = F.avg_pool2d(random[name].float(), 4)
        assert (images[name].float() - small).abs().mean() < 12
    noise = distilled(job_of, case, {"iterations": 0, "init": "noise"})
    more = distilled(job_of, case, {"iterations": 0, "init": "noise"}, ipc=IPC + 1)
    assert all(torch.equal(noise[name], more[name][:IPC]) for name in CLASSES)


@EACH
def test_too_few_images_are_one_clear_error(job_of, case):
    with pytest.raises(UserError, match="training images, but ipc is 2000"):
        distilled(job_of, case, ipc=2000)


@EACH
def test_an_interrupted_job_ends_as_if_it_had_not_been(job_of, case, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    settings = {"iterations": 4}
    whole = distilled(job_of, case, settings)
    path = tmp_path / "state"
    run, step = [], Matching.step

    def dying(self, iteration, *arguments, **options):
        run.append(iteration)
        if iteration == 2:
            raise KeyboardInterrupt
        return step(self, iteration, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Matching, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            distilled(job_of, case, settings, unfinished=path)
    assert path.is_file()

    def watched(self, iteration, *arguments, **options):
        run.append(iteration)
        return step(self, iteration, *arguments, **options)

    run.clear()
    monkeypatch.setattr(Matching, "step", watched)
    resumed = distilled(job_of, case, settings, unfinished=path)
    assert set(run) == {2, 3} and not path.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in CLASSES)


def test_a_checkpoint_of_other_settings_is_not_taken(job_of, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        patch.setattr(loop.Checkpoint, "remove", lambda self: None)
        distilled(job_of, "dm", unfinished=path)
    assert path.is_file()
    changed = {"learning_rate": 3.0}
    fresh = distilled(job_of, "dm", changed)
    assert torch.equal(
        distilled(job_of, "dm", changed, unfinished=path)["digit-3"], fresh["digit-3"]
    )


@pytest.mark.parametrize(
    ("case", "rate"), [("dm", 5.0), ("dc", 0.3), ("dc-trained", 0.3), ("idc", 30.0)]
)
def test_its_loss_falls(job_of, case, rate, monkeypatch):
    losses = []
    monkeypatch.setattr(
        loop, "optimise", lambda *a, **k: losses.append(optimise(*a, **k)) or losses[-1]
    )
    # Always the same network, batch and augmentation, so that losses can be compared.
    fresh, draws = posing.fresh_network, posing.torch_generator
    monkeypatch.setattr(posing, "fresh_network", lambda *a: fresh(*a[:-1], 0))
    for module in (posing, of_images, idc):
        monkeypatch.setattr(module, "torch_generator", lambda what, *keys: draws(what))
    distilled(job_of, case, {"size": 16, "iterations": 12, "learning_rate": rate})
    assert losses[0][-3:].mean() < 0.9 * losses[0][0]


def test_a_diverged_optimisation_is_one_clear_error(job_of):
    with pytest.raises(UserError, match="DM diverged"):
        distilled(job_of, "dm", {"learning_rate": 1e30, "iterations": 4})


def test_dc_has_its_own_loops_by_ipc(job_of, monkeypatch):
    found = {}

    def loops(problem, *, outer, inner):
        found.update(outer=outer, inner=inner)
        return lambda number: torch.zeros(())

    monkeypatch.setattr(posing, "gradient_iteration", loops)
    for ipc, wanted in ((1, (1, 1)), (3, (1, 1)), (10, (10, 50)), (20, (20, 25)), (70, (50, 10))):
        settings = {"outer_loop": None, "inner_loop": None}
        distilled(job_of, "dc", settings, ipc=ipc)
        assert (found["outer"], found["inner"]) == wanted


def test_idc_goes_by_the_number_of_classes(job_of):
    own = dict.fromkeys(("learning_rate", "warmup_epochs", "real_batch"))
    job = job_of("idc", own)
    assert idc.recipe_of(job) == idc.FEW
    many = replace(job, index=replace(job.index, classes=[f"class {k}" for k in range(100)]))
    assert idc.recipe_of(many) == idc.MANY
    given = idc.recipe_of(job_of("idc", {**own, "warmup_epochs": 0}))
    assert given == replace(idc.FEW, warmup_epochs=0)


def test_idc_s_rate_is_of_images_from_0_to_1_and_goes_by_ipc_and_area(job_of, monkeypatch):
    seen = []
    monkeypatch.setattr(idc, "iteration_of", lambda problem, *_: seen.append(problem))
    monkeypatch.setattr(loop, "optimise", lambda *_, **__: None)
    distilled(job_of, "idc", {"learning_rate": 3e-3, "size": 16})
    (found,) = seen
    assert found.optimiser.defaults["lr"] == pytest.approx(3e-3 * IPC / 10 * (16 / 224) ** 2)
    for name in CLASSES:
        pixels = found.synthesis.tensors(name)[PIXELS]
        assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.max() > 0.5
        torch.testing.assert_close(
            to_uint8(found.synthesis.images(name)), (pixels * 255).round().to(torch.uint8)
        )


def idc_problem():
    """Two classes of real images that a network can tell apart."""
    draws = torch.Generator().manual_seed(4)
    images = {
        name: (torch.rand((150, 3, 16, 16), generator=draws) * 120 + bright).to(torch.uint8)
        for name, bright in (("a", 0), ("b", 100))
    }
    synthesis = Synthesis({n: {PIXELS: torch.rand(2, 3, 16, 16).requires_grad_()} for n in "ab"})
    return problem(synthesis, real=Real(images, "cpu"), operations=("color", "crop", "cutout"))


def test_idc_s_networks_learn_from_real_images_before_and_between_steps(monkeypatch):
    recipe = replace(idc.FEW, warmup_epochs=3)
    given, seen = idc_problem(), []

    def step(self, iteration, step, distance, choose):
        assert choose(self.operations, None) == ("color", "crop", "cutout")
        assert distance.keywords == {"distance": absolute, "least_dims": 4}
        seen.append(copy.deepcopy(distance.args[0]))
        return torch.ones(())

    monkeypatch.setattr(Matching, "step", step)
    idc.iteration_of(given, recipe, inner=3)(1)
    images, labels = given.real.at(torch.arange(300)), given.real.labels({"a": 0, "b": 1})
    networks = [given.fresh_network(1), *seen]
    losses = [F.cross_entropy(network(images), labels).item() for network in networks]
    assert len(seen) == 3 and losses[0] > 2 * losses[1]
    assert len({network[0].weight.sum().item() for network in networks}) == 4


def test_idc_uses_warmed_up_networks_in_turn(monkeypatch):
    recipe = replace(idc.FEW, warmup_epochs=1, networks=2)
    given, seen, warmed = idc_problem(), [], []
    warm_up = idc.Learner.warm_up
    monkeypatch.setattr(
        idc.Learner, "warm_up", lambda self, n: warmed.append(n) or warm_up(self, n)
    )

    def step(self, iteration, step, distance, choose):
        seen.append(distance.args[0][0].weight.sum().item())
        return torch.ones(())

    monkeypatch.setattr(Matching, "step", step)
    run = idc.iteration_of(given, recipe, inner=2)
    for number in (0, 1, 2, 3):
        run(number)
    assert warmed == [0, 1]
    first = seen[::2]
    assert first[:2] == first[2:] and first[0] != first[1], "as they were after their warm-up"
    assert len(set(seen[1::2])) == 4, "and each iteration trains its own copy, otherwise"


# Objectives


@pytest.fixture
def network():
    torch.manual_seed(3)
    return create_network("convnet3", 4, 16).double()


@pytest.fixture
def batches():
    draws = torch.Generator().manual_seed(5)
    return [torch.randn(n, 3, 16, 16, generator=draws, dtype=torch.double) for n in (7, 3)]


def test_the_distance_of_features_is_that_of_the_definition(network, batches):
    def mean(images):
        return sum(network[:-1](image[None])[0] for image in images) / len(images)

    expected = ((mean(batches[0]) - mean(batches[1])) ** 2).sum()
    torch.testing.assert_close(feature_distance(network, *batches), expected)


@pytest.mark.parametrize("what", ["dc", "idc"])
def test_the_distance_of_gradients_is_that_of_the_definition(network, batches, what):
    held = []
    for images in batches:
        own = copy.deepcopy(network)
        logits = torch.cat([own(image[None]) for image in images])
        (-logits.log_softmax(1)[:, 2].mean()).backward()
        held.append({name: p.grad.numpy() for name, p in own.named_parameters()})
    expected = 0.0
    for name, a in held[0].items():
        b = held[1][name]
        if what == "idc" and a.ndim == 4:
            expected += np.abs(a - b).sum()
        if what == "dc" and a.ndim > 1:
            for row, other in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
                norms = np.linalg.norm(row) * np.linalg.norm(other)
                expected += 1 - row @ other / (norms + 1e-6)
    options = {"dc": (row_cosine, 2), "idc": (absolute, 4)}[what]
    found = gradient_distance(network, *batches, 2, *options)
    assert found.item() == pytest.approx(expected, rel=1e-9)


OBJECTIVES = {
    "dm": lambda network, a, b: feature_distance(network, a, b),
    "dc": lambda network, a, b: gradient_distance(network, a, b, 2),
    "idc": lambda network, a, b: gradient_distance(network, a, b, 2, absolute, 4),
}


IN_PARTS = {
    "dm": feature_distance,
    "dc": lambda *of: gradient_distance(*of[:3], 2, size=of[3]),
    "idc": lambda *of: gradient_distance(*of[:3], 2, absolute, 4, size=of[3]),
}


@pytest.mark.parametrize("what", OBJECTIVES)
@pytest.mark.parametrize("operation", [None, *dsa_operations(True)])
def test_the_gradient_at_the_images_is_the_slope_of_the_distance(network, batches, what, operation):
    """By finite differences, so that neither autograd nor a detached part decides."""
    # Of a smooth network: the slope of a kink depends on the side.
    for place, layer in enumerate(network):
        if isinstance(layer, nn.ReLU):
            network[place] = nn.Softplus()
    real, synthetic = batches

    def distance(x):
        both = torch.cat([real, x])
        if operation is not None:
            both = augment_alike(both, [operation], torch.Generator().manual_seed(2))
        return OBJECTIVES[what](network, both[: len(real)], both[len(real) :])

    x = synthetic.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(x), x)
    draws = torch.Generator().manual_seed(8)
    direction = torch.randn(x.shape, generator=draws, dtype=torch.double)
    # Small, since IDC's distance has kinks.
    step = 1e-7
    slope = (distance(x + step * direction) - distance(x - step * direction)) / (2 * step)
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4, abs=1e-6)


def test_an_augmentation_is_one_draw_for_all_images():
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for operation in dsa_operations(True):
        out = [
            augment_alike(
                image.expand(6, -1, -1, -1), [operation], torch.Generator().manual_seed(s)
            )
            for s in range(4)
        ]
        assert all((of == of[:1]).all() for of in out)
        assert any(not torch.equal(of, out[0]) for of in out), "and varies with the draws"
    assert "flip" not in dsa_operations(False)


# What is optimised


def real_images(count=20, size=16):
    draws = torch.Generator().manual_seed(1)
    shape = (count, 3, size, size)
    images = {name: torch.randint(256, shape, dtype=torch.uint8, generator=draws) for name in "ab"}
    return Real(images, "cpu")


def decoded(chunk=None):
    """Images from latents by way of a frozen layer, beside constants of the images."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 3 * 16 * 16).requires_grad_(False)
    calls = []

    def make(name, rows):
        calls.append(len(rows["latent"]))
        images = layer(rows["latent"].tanh()) * (2 if name == "b" else 1) + rows["shift"]
        return images.unflatten(1, (3, 16, 16))

    tensors = {
        name: {
            "latent": torch.randn(4, 5, requires_grad=True),
            "shift": torch.randn(4, 1),
        }
        for name in "ab"
    }
    return Synthesis(tensors, make, chunk), calls


def problem(synthesis, **changes):
    settings = {
        "optimiser": torch.optim.SGD(synthesis.parameters(), lr=0.1, momentum=0.5),
        "real": real_images(), "labels": {"a": 0, "b": 1}, "network": "convnet3-narrow", "size": 16,
        "real_batch": 8, "operations": dsa_operations(True), "seed": 0,
    }  # fmt: skip
    return Matching(synthesis=synthesis, **{**settings, **changes})


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_gradients_reach_the_latents_whole(chunk):
    """The chain rule in parts, against autograd through everything at once."""
    synthesis, calls = decoded(chunk)
    found = synthesis.images("b")
    assert found.is_leaf and found.requires_grad and found.shape == (4, 3, 16, 16)
    weights = torch.randn(found.shape)
    calls.clear()
    synthesis.push("b", weights)
    assert calls == {None: [4], 1: [1] * 4, 3: [3, 1]}[chunk]
    tensors = synthesis.tensors("b")
    whole = synthesis._make("b", tensors)
    (expected,) = torch.autograd.grad((whole * weights).sum(), tensors["latent"])
    torch.testing.assert_close(tensors["latent"].grad, expected)
    assert synthesis.tensors("a")["latent"].grad is None
    synthesis.push("b", weights)
    torch.testing.assert_close(tensors["latent"].grad, 2 * expected)


def test_leaves_are_copies_that_lie_as_they_come_back_from_a_file(tmp_path):
    given = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    leaf = Synthesis({"a": {"latent": given}}).tensors("a")["latent"]
    artifacts.save_tensors(tmp_path / "x", {"latent": given}, {})
    restored = artifacts.load_tensors(tmp_path / "x")["latent"]
    assert torch.equal(leaf, given) and leaf.is_leaf and leaf.requires_grad
    assert leaf.stride() == restored.stride() != given.stride()
    with torch.no_grad():
        leaf += 1
    assert not torch.equal(leaf, given)


def out_of_memory(*_):
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_images_and_their_gradients_are_made_in_parts_when_memory_runs_out(where):
    """Also when it runs out after some of a part's gradients are there."""
    expected, _ = decoded()
    weights = torch.randn(4, 3, 16, 16)
    expected.push("b", weights)
    synthesis, calls = decoded()
    make, failed = synthesis._make, []

    def small_memory(name, rows):
        made = make(name, rows)
        if len(made) > 1 and (where == "forward" or made.requires_grad):
            failed.append(len(made))
            if where == "forward":
                out_of_memory()
            rows["latent"].register_hook(out_of_memory)
        return made

    synthesis._make = small_memory
    torch.testing.assert_close(synthesis.images("b"), expected.images("b"))
    synthesis.push("b", weights)
    wanted = expected.tensors("b")["latent"].grad
    torch.testing.assert_close(synthesis.tensors("b")["latent"].grad, wanted)
    assert failed == [4, 2]
    calls.clear()
    synthesis.push("b", weights)
    assert calls == [1] * 4, "and what fits is remembered"
    torch.testing.assert_close(synthesis.tensors("b")["latent"].grad, 2 * wanted)


def test_too_little_memory_for_one_image_is_said():
    synthesis, _ = decoded(chunk=3)
    synthesis._make = out_of_memory
    with pytest.raises(UserError, match="not enough memory to make one image"):
        synthesis.images("a")
    with pytest.raises(UserError, match="not enough memory to take the gradient of one image"):
        synthesis.push("a", torch.randn(4, 3, 16, 16))


def scarce(network, limit, where, failed):
    """The network, where a pass of more than `limit` images does not fit."""

    def check(module, given, logits):
        if len(logits) > limit and (where == "forward" or logits.requires_grad):
            failed.append(len(logits))
            if where == "forward":
                out_of_memory()
            logits.register_hook(out_of_memory)

    network.register_forward_hook(check)
    return network


def in_float64(network):
    """The network, so that parts round to the other side of no ReLU, where gradients jump."""
    network.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    return network.double()


ITERATIONS = {
    "dm": distribution_iteration,
    "dc": lambda matched: gradient_iteration(matched, outer=2, inner=2, batch=6),
    "idc": lambda matched: idc.iteration_of(matched, replace(idc.FEW, warmup_epochs=1), inner=2),
}


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("what", ITERATIONS)
def test_an_iteration_that_does_not_fit_is_the_same_in_parts(what, where, monkeypatch):
    def run(failed=None):
        torch.manual_seed(0)
        given = replace(idc_problem(), real_batch=7)
        fresh = Matching.fresh_network

        def network(*of):
            made = in_float64(fresh(*of))
            return made if failed is None else scarce(made, 1, where, failed)

        monkeypatch.setattr(Matching, "fresh_network", network)
        losses = [ITERATIONS[what](given)(number) for number in range(2)]
        monkeypatch.setattr(Matching, "fresh_network", fresh)
        return torch.stack(losses), [given.synthesis.tensors(n)[PIXELS] for n in "ab"]

    torch.manual_seed(0)
    begun = [of[PIXELS] for of in map(idc_problem().synthesis.tensors, "ab")]
    losses, pixels = run()
    failed = []
    in_parts, found = run(failed)
    # Of DM only the two synthetic images have a backward pass.
    assert max(failed) >= (2 if (what, where) == ("dm", "backward") else 7)
    torch.testing.assert_close(in_parts, losses, rtol=1e-4, atol=1e-6)
    for a, b, before in zip(found, pixels, begun, strict=True):
        assert (a - b).abs().max() < 0.01 * (b - before).abs().max()


@pytest.mark.parametrize("what", OBJECTIVES)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_distance_in_parts_has_the_same_gradient(network, batches, what, size):
    objective = IN_PARTS[what]
    real, synthetic = batches[0], batches[1].requires_grad_()
    whole, parts = (
        objective(network, real, synthetic, None),
        objective(network, real, synthetic, size),
    )
    torch.testing.assert_close(parts, whole)
    wanted, found = (torch.autograd.grad(of, synthetic)[0] for of in (whole, parts))
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)


def test_images_that_see_each_other_are_not_matched_in_parts(batches):
    network = create_network("conv3", 4, 32, "soft").double()
    real, synthetic = (F.interpolate(x, (32, 32)) for x in batches)
    network.register_forward_pre_hook(lambda _, given: len(given[0]) > 2 and out_of_memory())
    synthesis = Synthesis({"a": {PIXELS: synthetic.requires_grad_()}})
    matched = problem(synthesis)
    distance = partial(gradient_distance, network)
    with pytest.raises(UserError, match="a batch of 7 images, and BatchNorm2d does not allow"):
        matched._with_gradient(distance, real, synthetic, 0)


def test_too_little_memory_to_match_one_image_is_said(batches):
    matched = problem(decoded()[0])
    network = create_network("convnet3", 4, 16).double()
    network.register_forward_pre_hook(out_of_memory)
    with pytest.raises(UserError, match=r"(?s)not enough memory to match one image.*`size`"):
        matched._with_gradient(partial(gradient_distance, network), *batches, 0)


def test_a_step_is_the_optimiser_s_on_the_sum_of_the_classes():
    synthesis, _ = decoded(chunk=3)
    matched = problem(synthesis, operations=())
    network = matched.fresh_network(0)
    before = copy.deepcopy(synthesis.state_dict())
    loss = matched.step(0, 0, lambda a, b, _, size: feature_distance(network, a, b, size))
    expected = 0.0
    for name in "ab":
        latent = before[f"held.{'ab'.index(name)}.latent"].requires_grad_()
        rows = {**synthesis.tensors(name), "latent": latent}
        draws = posing.torch_generator("matching-step", 0, name, 0, 0)
        real = matched.real.batch(name, 8, draws)
        one = feature_distance(network, real, synthesis._make(name, rows))
        (gradient,) = torch.autograd.grad(one, latent)
        torch.testing.assert_close(synthesis.tensors(name)["latent"], latent - 0.1 * gradient)
        expected += one.item() / 2
    assert loss.item() == pytest.approx(expected)


def test_the_network_is_trained_between_steps_on_the_synthetic_images(monkeypatch):
    synthesis = Synthesis({n: {PIXELS: torch.randn(3, 3, 16, 16).requires_grad_()} for n in "ab"})
    matched = problem(synthesis)
    seen = []

    def step(self, iteration, step, distance):
        """What a step would see; images stay as they are."""
        seen.append(copy.deepcopy(distance.args[0]))
        return torch.ones(())

    monkeypatch.setattr(Matching, "step", step)
    gradient_iteration(matched, outer=3, inner=20, learning_rate=0.05)(4)
    assert len(seen) == 3
    images = torch.cat([synthesis.images(n) for n in "ab"]).detach()
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    losses = [F.cross_entropy(network(images), labels).item() for network in seen]
    assert losses[0] > 1.5 * losses[1] > 1.5**2 * losses[2]
    fresh = matched.fresh_network(4)
    assert torch.equal(seen[0][0].weight, fresh[0].weight)
    assert not torch.equal(fresh[0].weight, matched.fresh_network(5)[0].weight)


def test_an_interrupted_optimisation_of_latents_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def run(path, dies_at=None):
        synthesis, _ = decoded(chunk=3)
        matched = problem(synthesis)
        matched = replace(matched, optimiser=torch.optim.Adam(synthesis.parameters(), lr=0.1))
        iteration = distribution_iteration(matched)

        def maybe(number):
            if number == dies_at:
                raise KeyboardInterrupt
            return iteration(number)

        options = {"what": "test", "checkpoint": path, "identity": {"of": ("a", "b")}}
        losses = optimise(synthesis, matched.optimiser, maybe, 6, **options)
        return losses, synthesis

    whole, wanted = run(None)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(path, dies_at=4)
    losses, found = run(path)
    assert torch.equal(whole, losses) and whole[-1] < whole[0]
    for a, b in zip(wanted.parameters(), found.parameters(), strict=True):
        assert torch.equal(a, b)


# Real images


def test_a_batch_is_of_its_class_without_replacement():
    images = {n: torch.full((5, 3, 4, 4), v, dtype=torch.uint8) for n, v in (("a", 0), ("b", 255))}
    images["b"][:, 0, 0, 0] = torch.arange(5)
    real = Real(images, "cpu")
    assert len(real) == 10 and real.labels({"a": 1, "b": 0}).tolist() == [1] * 5 + [0] * 5
    found = to_uint8(real.batch("b", 3, torch.Generator().manual_seed(0)))
    assert (found[:, 1:] == 255).all() and len(found[:, 0, 0, 0].unique()) == 3
    assert len(real.batch("a", 9, torch.Generator())) == 5, "all of them, if there are fewer"


def test_saved_images_are_the_nearest_that_can_be():
    levels = torch.arange(256, dtype=torch.uint8).repeat(1, 3, 1, 1)
    normalised = Normalise(torch.device("cpu"))(levels)
    assert torch.equal(to_uint8(normalised), levels)
    assert to_uint8(normalised + 50).min() == 255 and to_uint8(normalised - 50).max() == 0
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    expected = (levels[0] / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalised[0], expected)


# Where it runs


CONFIG = {
    "name": "test",
    "datasets": ["digits"],
    "ipc": [10],
    "generation_seeds": [0],
    "runs": [{"method": "dm"}, {"method": "dc"}],
    "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    "resources": {"classes_per_block": 4},
}


def test_classes_that_depend_on_each_other_are_one_job(tmp_path, monkeypatch):
    config = resolve(CONFIG)
    layout = Layout(config, tmp_path, VERSIONS)
    dm, dc = config.runs
    sizes = [[len(b) for b in layout.sample_blocks("digits", run, 10)] for run in (dm, dc)]
    assert sizes == [[4, 4, 2], [10]]
    monkeypatch.setattr(METHODS["dm"], "together", 3)
    assert [len(b) for b in layout.sample_blocks("digits", dm, 10)] == [6, 4]


def test_a_network_that_does_not_suit_the_images_is_named_before_any_job():
    runs = [{"method": "dm", "network": "resnetap10"}]
    with pytest.raises(UserError, match="'resnetap10' needs images of at least 64 px"):
        resolve({**CONFIG, "runs": runs})
    assert resolve({**CONFIG, "runs": [{**runs[0], "size": 64}]})
