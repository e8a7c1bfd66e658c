"""Training a generator: a folder diffusers loads, the same weights after an interruption."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline

from mgd3.base import artifacts
from mgd3.base.checkpoint import Checkpoint
from mgd3.base.errors import UserError
from mgd3.base.threads import computed_by
from mgd3.data import Dataset, make_dataset
from mgd3.data.index import write_index
from mgd3.generators import training
from mgd3.generators.diffusion_loss import HybridLoss
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.recipes import DitRecipe, Recipe, VaeRecipe

RECIPE = Recipe(
    VaeRecipe(channels=(8, 8, 8), steps=6, batch=4),
    DitRecipe(layers=1, heads=2, head_dim=16, steps=6, batch=8, warmup=2, affine_copies=0),
)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Digits with four training images a class, and their index."""
    dataset = make_dataset("digits")
    return dataset, _few(dataset, tmp_path_factory.mktemp("index") / "index.parquet", "train")


def _few(dataset: Dataset, path: Path, *splits: str) -> Path:
    """Four images a class of some splits."""
    write_index(dataset, path)
    table, metadata = artifacts.load_table(path), artifacts.table_metadata(path)
    few = table[table["split"].isin(splits)].groupby(["class", "split"]).head(4)
    kept = {k: v for k, v in metadata.items() if k != "schema"}
    artifacts.save_table(path, few.reset_index(drop=True), kept)
    return path


def partial_dit(vae: Path):
    """`train_generator` on a VAE."""

    def train(dataset, index, recipe, folder):
        training.train_generator(dataset, index, recipe, vae, folder)

    return train


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "generator"
    training.train_vae(*small, RECIPE, folder)
    training.train_generator(*small, RECIPE, folder, folder)
    return folder


def test_the_folder_is_a_generator(trained):
    generator = DiTGenerator.load(trained)
    assert generator.latent_shape == (4, 8, 8)
    assert generator.null_label == 10
    names = json.loads((trained / "model_index.json").read_text())["id2label"]
    assert names == {str(d): f"digit-{d}" for d in range(10)}


def test_the_folder_is_a_pipeline_of_diffusers(trained):
    pipeline = DiTPipeline.from_pretrained(trained, local_files_only=True)
    # Its __call__ serves 1000 classes only (null label 1000), so the parts are asked instead.
    row = torch.tensor([pipeline.labels["digit-3"]])
    z = torch.zeros(1, 4, 8, 8)
    output = pipeline.transformer(z, timestep=torch.tensor([999]), class_labels=row).sample
    assert output.shape == (1, 8, 8, 8)
    assert output.isfinite().all()
    assert pipeline.vae.decode(z).sample.shape == (1, 3, 32, 32)
    assert pipeline.scheduler.config.variance_type == "learned_range"


def test_it_says_what_it_was_computed_by(trained):
    told = artifacts.load_json(trained / "training.json")
    assert {key: told[key] for key in ("processor", "threads")} == computed_by()


def test_nothing_else_is_left_and_all_files_have_one_mode(trained, tmp_path):
    (tmp_path / "x").touch()
    files = [file for file in trained.rglob("*") if file.is_file()]
    assert not [file for file in files if file.name.startswith(".")]
    assert {file.stat().st_mode for file in files} == {(tmp_path / "x").stat().st_mode}


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("step", [1, 4])
def test_an_interrupted_training_ends_with_the_same_weights(
    small, trained, tmp_path, monkeypatch, step
):
    monkeypatch.setattr(training, "Checkpoint", functools.partial(Checkpoint, every=0))
    whole = training._learning_rate
    for train, part in (
        (training.train_vae, "vae"),
        (partial_dit(tmp_path / "g"), "transformer"),
    ):
        begun = []

        def stop_at(i, *rest):
            if i == step:
                raise Interrupted
            return whole(i, *rest)

        def resumed(i, *rest, begun=begun):
            begun.append(i)
            return whole(i, *rest)

        monkeypatch.setattr(training, "_learning_rate", stop_at)
        with pytest.raises(Interrupted):
            train(*small, RECIPE, tmp_path / "g")
        assert not (tmp_path / "g" / part / WEIGHTS).exists()
        monkeypatch.setattr(training, "_learning_rate", resumed)
        train(*small, RECIPE, tmp_path / "g")
        assert begun[0] == step, "it went on where it was"
        assert (tmp_path / "g" / part / WEIGHTS).read_bytes() == (
            trained / part / WEIGHTS
        ).read_bytes()


def test_the_loss_is_least_at_the_true_noise():
    draws = torch.Generator().manual_seed(0)
    x0, noise, off = torch.randn((3, 8, 4, 8, 8), generator=draws)
    loss_of = HybridLoss(torch.device("cpu"))
    t = torch.tensor([0, 1, 10, 100, 300, 600, 900, 999])
    x_t = loss_of.add_noise(x0, t, noise)

    def loss(eps, v):
        return loss_of(torch.cat([eps, torch.full_like(eps, v)], 1), x0, x_t, t, noise).item()

    for v in (-1.0, 0.0, 1.0):
        for scale in (0.01, 0.1, -0.1):
            assert loss(noise, v) < loss(noise + scale * off, v)


def test_the_loss_is_that_of_dit_by_a_plain_computation():
    """Loops and math's functions: a KL of two Gaussians, and at t = 0 the decoder's likelihood."""
    draws = torch.Generator().manual_seed(3)
    x0, noise, v = 0.8 * torch.randn((3, 5, 2, 3, 3), generator=draws)
    eps = noise + 0.3 * torch.randn(noise.shape, generator=draws)
    loss_of = HybridLoss(torch.device("cpu"))
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    abar = [math.prod(1 - b for b in betas[: k + 1]) for k in range(1000)]

    def cdf(z: float) -> float:
        return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    def bits(x: float, x_t: float, e: float, raw: float, t: int) -> float:
        before = abar[t - 1] if t else 1.0
        least = betas[1] * (1 - abar[0]) / (1 - abar[1])
        variance = betas[t] * (1 - before) / (1 - abar[t]) if t else least
        share = (raw + 1) / 2
        log_model = share * math.log(betas[t]) + (1 - share) * math.log(variance)
        guess = (x_t - math.sqrt(1 - abar[t]) * e) / math.sqrt(abar[t])
        if t:
            of_x0 = math.sqrt(before) * betas[t] / (1 - abar[t])
            kl = log_model - math.log(variance) - 1 + variance / math.exp(log_model)
            return 0.5 * (kl + (of_x0 * (x - guess)) ** 2 / math.exp(log_model)) / math.log(2)
        sigma = math.exp(log_model / 2)
        above, below = cdf((x - guess + 1 / 255) / sigma), cdf((x - guess - 1 / 255) / sigma)
        mass = above if x < -0.999 else 1 - below if x > 0.999 else above - below
        return -math.log(max(mass, 1e-12)) / math.log(2)

    assert (x0.abs() > 0.999).any() and (x0 > 0.999).any() and (x0 < -0.999).any()
    for step in (0, 1, 500, 999):
        t = torch.full((5,), step)
        x_t = loss_of.add_noise(x0, t, noise)
        found = loss_of(torch.cat([eps, v], 1), x0, x_t, t, noise).item()
        columns = (values.flatten().tolist() for values in (x0, x_t, eps, v))
        bound = [bits(*row, step) for row in zip(*columns, strict=True)]
        expected = (eps - noise).square().mean().item() + sum(bound) / len(bound)
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-6), step


def test_the_bound_is_zero_where_the_model_is_the_posterior():
    draws = torch.Generator().manual_seed(0)
    x0, noise = torch.randn((2, 8, 4, 8, 8), generator=draws)
    loss_of = HybridLoss(torch.device("cpu"))
    t = torch.tensor([1, 2, 10, 100, 300, 600, 900, 999])  # t = 0 has no posterior: see below
    x_t = loss_of.add_noise(x0, t, noise)
    for v, zero in ((-1.0, True), (-0.5, False)):
        output = torch.cat([noise, torch.full_like(noise, v)], 1)
        loss = loss_of(output, x0, x_t, t, noise).item()
        assert (abs(loss) < 1e-6) == zero


def test_min_snr_weights_the_noise_prediction_alone():
    draws = torch.Generator().manual_seed(0)
    x0, noise, eps, v = torch.randn((4, 8, 4, 8, 8), generator=draws)
    t = torch.tensor([1, 2, 10, 100, 300, 600, 900, 999])
    plain, weighted = (HybridLoss(torch.device("cpu"), g) for g in (None, 5.0))
    x_t = plain.add_noise(x0, t, noise)
    output = torch.cat([eps, v], 1)
    difference = plain(output, x0, x_t, t, noise) - weighted(output, x0, x_t, t, noise)
    expected = 0.0
    for row, step in enumerate(t.tolist()):
        abar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * k / 999) for k in range(step + 1))
        weight = min(abar / (1 - abar), 5.0) / (abar / (1 - abar))
        expected += (1 - weight) * (eps[row] - noise[row]).square().mean().item() / len(t)
    assert difference.item() == pytest.approx(expected, rel=1e-3)


def test_steps_are_stratified_and_labels_dropped_by_their_share():
    labels, draws = torch.arange(1000) % 10, torch.Generator().manual_seed(0)
    batch = training._Batch.drawn(torch.zeros(1000, 1, 1, 1), labels, 0.1, 10, draws)
    assert torch.equal(batch.t, torch.arange(1000)), "one step from each of n equal parts"
    dropped = batch.labels == 10
    assert 60 < dropped.sum() < 140
    assert torch.equal(batch.labels[~dropped], labels[~dropped])


@pytest.mark.parametrize("flip", [False, True])
def test_of_several_averages_the_one_that_serves_held_out_images_is_kept(tmp_path, flip):
    dataset = dataclasses.replace(make_dataset("digits"), flip=flip)
    index = _few(dataset, tmp_path / "index.parquet", "train", "validation")
    recipe = dataclasses.replace(
        RECIPE, dit=dataclasses.replace(RECIPE.dit, ema=(0.0, 0.9999), saved_as="bfloat16")
    )
    training.train_vae(dataset, index, recipe, tmp_path)
    training.train_generator(dataset, index, recipe, tmp_path, tmp_path)
    told = artifacts.load_json(tmp_path / "training.json")
    losses = told["validation_loss"]
    assert set(losses) == {"0.0", "0.9999"}
    assert losses[str(told["ema"])] == min(losses.values())
    held = artifacts.load_tensors(tmp_path / "transformer" / WEIGHTS)
    assert {tensor.dtype for tensor in held.values()} == {torch.bfloat16}
    assert DiTGenerator.load(tmp_path).dtype == torch.float32


def test_averages_are_compared_on_held_out_images_only(small, tmp_path):
    recipe = dataclasses.replace(RECIPE, dit=dataclasses.replace(RECIPE.dit, ema=(0.9, 0.99)))
    training.train_vae(*small, recipe, tmp_path)
    with pytest.raises(UserError, match=r"no validation images.*\s.*validation_fraction"):
        training.train_generator(*small, recipe, tmp_path, tmp_path)
