"""GLaD and H-GLaD on a VAE's decoder, and LD3M: latents are optimised, and images come of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.diffusion.synthesis import decoding, sampling
from mgd3.generators.loading import load_generator
from mgd3.generators.vae import load_vae
from mgd3.methods import METHODS, OBJECTIVES, Job, distiller
from mgd3.methods.matching import glad, h_glad, ld3m, loop, priors
from mgd3.methods.matching.images import Normalise, Real
from mgd3.methods.matching.problem import (
    Matching,
    augment_alike,
    dsa_operations,
    fresh_network,
    one_of,
)
from mgd3.networks.names import IMAGENET_MEAN, IMAGENET_STD
from mgd3.planning.config import resolve

ROOT = Path(__file__).parents[3]
GENERATOR = ROOT / "workflow" / "mgd3" / "resources" / "generators" / "mnist-dit"
CLASSES = ["digit-3", "digit-0"]
IPC = 2
SMALL = {"iterations": 2, "real_batch": 4, "learning_rate": 0.5, "network": "convnet3"}
CASES = {
    "glad-vae": {},
    "h-glad-vae": {"stages": 3},
    "ld3m": {"cfg": 1.5, "steps": 2},
}
EACH = pytest.mark.parametrize("method", CASES)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    dataset, path = make_dataset("digits"), tmp_path_factory.mktemp("digits") / "index.parquet"
    write_index(dataset, path)
    return dataset, path


@pytest.fixture
def job_of(digits, tmp_path):
    def make(method: str, objective: str = "dm", **changes) -> Job:
        dataset, index = digits
        settings = METHODS[method].defaults() | {"objective": objective} | SMALL | CASES[method]
        own = {key: changes.pop(key) for key in list(changes) if key in settings}
        job = Job(
            dataset=dataset, index=Index.read(index), classes=CLASSES, ipc=IPC, generation_seed=0,
            settings=settings | own, generator=GENERATOR, modes=None, device="cpu", batch="auto",
            unfinished=tmp_path / ".block0.safetensors.checkpoint.safetensors",
        )  # fmt: skip
        return replace(job, **changes)

    return make


@pytest.fixture
def in_float64(monkeypatch):
    """Generators compute in float64: a batch of another size makes the same float32 images.

    In float32 it rounds otherwise, now and then to the other side of a ReLU of the network that is
    matched. There the gradient jumps, by up to some percent: more than rounding, and no fault.
    """
    for module in (glad, h_glad):
        monkeypatch.setattr(module, "load_vae", partial(load_vae, dtype=torch.float64))
    monkeypatch.setattr(ld3m, "load_generator", partial(load_generator, dtype=torch.float64))


def made_by(method: str, job: Job) -> dict[str, Tensor]:
    return distiller(method)(job)


def off(one: dict[str, Tensor], other: dict[str, Tensor]) -> int:
    assert one.keys() == other.keys()
    return max((one[name].int() - other[name].int()).abs().max().item() for name in one)


@EACH
def test_images_begin_as_what_comes_of_the_real_images_that_random_takes(method, job_of):
    job = job_of(method, iterations=0)
    real = made_by("random", replace(job, settings={"selection": "seeded"}))
    generator = load_generator(GENERATOR)
    found = made_by(method, job)
    for name in CLASSES:
        latents = generator.encode(real[name])[0]
        if method == "ld3m":
            rngs = [torch_generator("noise", 0, name, k) for k in range(IPC)]
            noise = torch.stack([torch.randn(4, 8, 8, generator=rng) for rng in rngs])
            label = {"digit-0": 0, "digit-3": 3}[name]
            walk = sampling(generator, decoding(generator), 2, 1.5)
            conditions = generator.conditions(torch.full((IPC,), label))
            with torch.no_grad():
                pictures = walk(latents, torch.zeros_like(conditions[:, :1]), conditions, noise)
            expected = ((pictures + 1) / 2 * 255).round().to(torch.uint8)
        else:
            expected = generator.decode(latents)
        assert (found[name].int() - expected.int()).abs().max() <= 1


def loss_by_hand(job: Job, objective: str, images: Tensor, name: str) -> Tensor:
    """The first iteration's loss of normalised images, with the draws that `matching` names."""
    real = Real.read(job, [name], 32)
    draws = torch_generator("matching-step", 0, name, 0, 0)
    wanted = real.batch(name, job.settings["real_batch"], draws)
    operations = dsa_operations(flip=False)
    both = torch.cat([wanted, images])
    both = augment_alike(both, one_of(operations, draws), draws)
    network = fresh_network("convnet3", 10, 32, 0, 0)
    parts = both[: len(wanted)], both[len(wanted) :]
    if objective == "dm":
        a, b = (network[:-1](part).mean(0) for part in parts)
        return ((a - b) ** 2).sum()
    slopes = []
    for part in parts:
        label = torch.full((len(part),), int(name[-1]))
        loss = F.cross_entropy(network(part), label)
        slopes.append(torch.autograd.grad(loss, list(network.parameters()), create_graph=True))
    distance = images.new_zeros(())
    for a, b in zip(*slopes, strict=True):
        if a.dim() > 1:
            distance = distance + (1 - F.cosine_similarity(a.flatten(1), b.flatten(1))).sum()
    return distance


@EACH
@pytest.mark.usefixtures("in_float64")
def test_images_are_the_same_when_only_the_graph_of_one_fits(method, job_of, monkeypatch):
    job = job_of(method, "dc")
    whole, failed, keep = made_by(method, job), [], priors.synthesis_of

    def scarce(leaves, pictures, *more):
        def small_memory(rows):
            made = pictures(rows)
            if len(made) > 1 and made.requires_grad:
                failed.append(len(made))
                raise torch.OutOfMemoryError("out of memory")
            return made

        return keep(leaves, small_memory, *more)

    monkeypatch.setattr(priors, "synthesis_of", scarce)
    assert off(made_by(method, job), whole) <= 1
    # Once for each optimisation: what fits is remembered.
    assert failed == [IPC] * (3 if method == "h-glad-vae" else 1)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.usefixtures("in_float64")
def test_a_step_is_that_of_one_graph_from_latents_to_loss(objective, job_of, monkeypatch):
    """Autograd through decoder and objective at once, and one step by hand."""
    seen = {}
    keep = glad.as_set

    def as_set(synthesis, names):
        seen["synthesis"] = synthesis
        return keep(synthesis, names)

    monkeypatch.setattr(glad, "as_set", as_set)
    monkeypatch.setattr("mgd3.methods.matching.glad.chunk_size", lambda side: 1)
    job = job_of("glad-vae", objective, iterations=1, learning_rate=0.25)
    made_by("glad-vae", job)
    vae = load_vae(GENERATOR, dtype=torch.float64)
    vae.freeze()
    # Written out, the formula rounds otherwise; the ReLUs behind it must see the same numbers.
    normalise = Normalise(torch.device("cpu"), top=1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    real = made_by("random", replace(job, settings={"selection": "seeded"}))
    for name in CLASSES:
        begun = vae.encode(real[name])[0].requires_grad_()
        pictures = decoding(vae)(begun)
        images = normalise((pictures + 1) / 2)
        torch.testing.assert_close(images, (((pictures + 1) / 2 - mean) / std).float())
        loss = loss_by_hand(job, objective, images, name)
        (slope,) = torch.autograd.grad(loss, begun)
        moved = seen["synthesis"].tensors(name)["latent"].detach() - begun.detach()
        assert slope.norm() > 0
        error = (moved + 0.25 * slope).norm() / (0.25 * slope).norm()
        assert error < 1e-3


@pytest.mark.parametrize(
    ("method", "objective"), [("glad-vae", "dc"), ("h-glad-vae", "dm"), ("ld3m", "dm")]
)
def test_a_class_does_not_depend_on_the_others_of_its_block(method, objective, job_of):
    together = made_by(method, job_of(method, objective))
    alone = {
        name: made_by(method, job_of(method, objective, classes=[name]))[name]
        for name in reversed(CLASSES)
    }
    assert (
        together["digit-3"].shape == (IPC, 3, 32, 32) and together["digit-3"].dtype == torch.uint8
    )
    assert off(together, {name: alone[name] for name in together}) <= 1
    begun = made_by(method, job_of(method, objective, iterations=0))
    assert off(together, begun) > 1, "two steps move the images"
    other = made_by(method, job_of(method, objective, generation_seed=1))
    assert off(together, other) > 1


class Killed(Exception):
    pass


def layouts(matched: Matching) -> list[tuple[int, ...]]:
    """How leaves and momenta lie in memory, which decides what kernels run and how they round."""
    held = list(matched.synthesis.parameters())
    for state in matched.optimiser.state.values():
        held += [value for value in state.values() if isinstance(value, Tensor)]
    return [tensor.stride() for tensor in held]


@pytest.mark.parametrize(
    ("method", "after"),
    [("glad-vae", 1), ("ld3m", 1), ("h-glad-vae", 1), ("h-glad-vae", 3), ("h-glad-vae", 5)],
)
def test_an_interrupted_optimisation_ends_as_if_it_had_not_been(method, after, job_of, monkeypatch):
    """Killed before its step number `after`: for H-GLaD, in the first stages and the last."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    job = job_of(method)
    stages = job.settings.get("stages", 1)
    plain, count, taken = Matching.step, 0, []

    def watched(self, *args, **more):
        taken.append(layouts(self))
        return plain(self, *args, **more)

    monkeypatch.setattr(Matching, "step", watched)
    expected, whole = made_by(method, replace(job, unfinished=None)), list(taken)

    def step(self, *args, **more):
        nonlocal count
        count += 1
        if count == after + 1:
            raise Killed
        return plain(self, *args, **more)

    with monkeypatch.context() as killing:
        killing.setattr(Matching, "step", step)
        with pytest.raises(Killed):
            made_by(method, job)
    assert list(job.unfinished.parent.iterdir())
    taken.clear()
    assert off(made_by(method, job), expected) == 0
    assert len(taken) == stages * 2 - after, "no step is taken twice"
    assert taken == whole[after:], "the same layouts, so the same bits on every processor"
    assert not list(job.unfinished.parent.iterdir())


def test_each_stage_begins_where_the_one_before_ended(job_of, monkeypatch):
    vae = load_vae(GENERATOR)
    parts = vae.stages()
    begun, ended = [], []

    def optimise(job, synthesis, real, what, stage):
        features = synthesis.tensors("digit-3")["features"]
        begun.append(features.detach().clone())
        with torch.no_grad():
            features += 0.1 * (stage + 1)
        ended.append(features.detach().clone())

    monkeypatch.setattr(priors, "optimise", optimise)
    found = made_by("h-glad-vae", job_of("h-glad-vae", stages=None))
    assert len(begun) == len(parts) == len(vae.vae.decoder.up_blocks) + 2
    with torch.no_grad():
        for depth in range(1, len(parts)):
            torch.testing.assert_close(begun[depth], parts[depth - 1](ended[depth - 1]))
        pictures = parts[-1](ended[-1])
    expected = ((pictures + 1) / 2 * 255).round().clamp(0, 255)
    assert (found["digit-3"].float() - expected).abs().max() <= 1


def test_more_stages_than_the_decoder_has_are_refused(job_of):
    with pytest.raises(UserError, match="stages is 9, and the decoder of this VAE has 5"):
        made_by("h-glad-vae", job_of("h-glad-vae", stages=9))


def test_passed_stages_of_another_run_are_not_gone_on_with(job_of, tmp_path):
    job = job_of("h-glad-vae")
    retrained = replace(job, generator=Path(shutil.copytree(GENERATOR, tmp_path / "generator")))
    h_glad._Passed(job).keep(1, {name: torch.zeros(IPC, 1) for name in CLASSES})
    again = replace(job, settings={**job.settings, "learning_rate": 0.4})
    assert h_glad._Passed(job).restore()[0] == 1
    assert h_glad._Passed(again).restore() == (0, {})
    h_glad._Passed(retrained).keep(1, {name: torch.zeros(IPC, 1) for name in CLASSES})
    assert h_glad._Passed(retrained).restore()[0] == 1
    (retrained.generator / "vae" / "config.json").touch()
    assert h_glad._Passed(retrained).restore() == (0, {})


def test_images_are_matched_and_made_at_the_size_asked_for(job_of):
    for method in CASES:
        found = made_by(method, job_of(method, size=16, iterations=1))
        assert found["digit-0"].shape == (IPC, 3, 16, 16)


def raw(*runs):
    return {
        "name": "test", "datasets": ["digits"], "ipc": [2], "generation_seeds": [0],
        "runs": list(runs),
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }  # fmt: skip


def test_each_objective_has_the_settings_it_was_published_with():
    rows = [
        {"method": method, "generator": "tiny-dit", "objective": ["dc", "dm"]}
        | ({"cfg": 3, "steps": 10} if method == "ld3m" else {})
        for method in CASES
    ]
    runs = resolve(raw(*rows)).runs
    found = {run.slug: (run.settings["iterations"], run.settings["learning_rate"]) for run in runs}
    assert found == {
        "glad-vae_tiny-dit_dc": (1000, 1.0),
        "glad-vae_tiny-dit_dm": (1000, 10.0),
        "h-glad-vae_tiny-dit_dc": (100, 1.0),
        "h-glad-vae_tiny-dit_dm": (10, 10.0),
        "ld3m_tiny-dit_dc_cfg3_steps10": (10000, 0.1),
        "ld3m_tiny-dit_dm_cfg3_steps10": (10000, 1.0),
    }
    assert runs[1].label == "GLaD on the VAE's decoder (DM, 1,000 iterations)"
    with pytest.raises(UserError, match="objective"):
        resolve(raw({"method": "glad-vae", "generator": "tiny-dit", "objective": "mtt"}))
    with pytest.raises(UserError, match="stages"):
        resolve(raw({"method": "glad-vae", "generator": "tiny-dit", "stages": 2}))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
@EACH
def test_the_loss_falls(method, objective, job_of, monkeypatch):
    """Before and after, on networks and draws of iterations that are never walked."""
    plain, losses = loop.optimise, []

    def optimise(synthesis, optimiser, iteration, iterations, **more):
        (group,) = optimiser.param_groups
        rate = group["lr"]

        def measured() -> float:
            group["lr"] = 0.0
            found = torch.stack([iteration(10**6 + k) for k in range(4)]).mean().item()
            group["lr"] = rate
            optimiser.state.clear()
            return found

        losses.append(measured())
        plain(synthesis, optimiser, iteration, iterations, **more)
        losses.append(measured())

    monkeypatch.setattr(loop, "optimise", optimise)
    rate = 0.3 if objective == "dm" else 0.1
    made_by(method, job_of(method, objective, iterations=15, real_batch=32, learning_rate=rate))
    assert losses[-1] < 0.9 * losses[0]
