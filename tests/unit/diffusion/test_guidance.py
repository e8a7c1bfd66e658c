"""Mode guidance: each variant moves the step by what its formula says, toward the mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mgd3.base.errors import UserError
from mgd3.diffusion.guidance import VARIANTS, Guidance, is_guided, log_variance, predict_x0
from mgd3.diffusion.names import STOP_RULES, VARIANT_NAMES
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.diffusion.schedules import Coefficients, Schedule, leading, respaced
from mgd3.generators.pretrained import training_alphas_cumprod

ALPHAS = training_alphas_cumprod({})


def coefficients(schedule: Schedule, i: int) -> Coefficients:
    return Coefficients(*schedule.table("cpu")[i].double().unbind())


def movement(variant: str, schedule: Schedule, i: int, v: Tensor) -> Tensor:
    """c_i in closed form, from the schedule alone, float64 broadcastable to v."""
    abar, prev = schedule.alphas_cumprod[i], schedule.alphas_cumprod_prev[i]
    a, s = abar.sqrt(), (1 - abar).sqrt()
    a_prev, s_prev = prev.sqrt(), (1 - prev).sqrt()
    if variant == "ddpm":
        low, high = schedule.posterior_variance[i].log(), schedule.betas[i].log()
        return ((high * (v + 1) / 2 + low * (1 - v) / 2) / 2).exp()
    return {
        "ddim": a_prev * s**2 / a - s_prev * s,
        "ddim-x0": a_prev - s_prev * a / s,
        "ddim-sqrt-abar": a,
    }[variant]


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    names = ("x", "eps", "v", "noise", "modes")
    return {n: torch.randn(2, 4, 8, 8, generator=rng, dtype=torch.float64) for n in names}


@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_guidance_moves_each_step_by_the_closed_form(variant, tensors):
    step = VARIANTS[variant].step
    x, eps, v, noise = (tensors[name] for name in ("x", "eps", "v", "noise"))
    guidance = Guidance(tensors["modes"], scale=0.1)
    for schedule in (respaced(ALPHAS, 50), leading(ALPHAS, 50)):
        for i in reversed(range(50)):
            c = coefficients(schedule, i)
            guided, x0_hat = step(x, eps, v, c, noise, guidance)
            plain, same_x0_hat = step(x, eps, v, c, noise, None)
            assert torch.equal(x0_hat, same_x0_hat)
            torch.testing.assert_close(x0_hat, predict_x0(x, eps, c))
            c_i = movement(variant, schedule, i, v)
            assert (c_i > 0).all()
            expected = c_i * 0.1 * (tensors["modes"] - x0_hat)
            torch.testing.assert_close(guided - plain, expected, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("ddpm", {49: 0.574, 40: 0.538, 30: 0.473, 26: 0.433, 20: 0.387, 10: 0.260}),
        ("ddim", {49: 0.222, 40: 0.187, 30: 0.137, 26: 0.111, 20: 0.089, 10: 0.044}),
    ],
)
def test_movement_per_unit_of_pull_has_the_published_size(variant, expected):
    posterior = torch.tensor(-1.0, dtype=torch.float64)
    for i, value in expected.items():
        c_i = movement(variant, respaced(ALPHAS, 50), i, posterior).item()
        assert c_i == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("i", "abar", "beta", "sqrt_posterior", "sqrt_beta"),
    [
        (0, 0.99990, 0.00010, 0.0099, 0.0100),
        (10, 0.64556, 0.08003, 0.2595, 0.2829),
        (25, 0.07024, 0.19130, 0.4335, 0.4374),
        (26, 0.05691, 0.18980, 0.4326, 0.4357),
        (35, 0.00562, 0.25823, 0.5077, 0.5082),
        (49, 0.00004, 0.32981, 0.5743, 0.5743),
    ],
)
def test_the_respaced_schedule_has_the_known_values(i, abar, beta, sqrt_posterior, sqrt_beta):
    schedule = respaced(ALPHAS, 50)
    assert schedule.alphas_cumprod[i].item() == pytest.approx(abar, abs=6e-6)
    assert schedule.betas[i].item() == pytest.approx(beta, abs=6e-6)
    assert schedule.betas[i].sqrt().item() == pytest.approx(sqrt_beta, abs=6e-5)
    posterior = schedule.posterior_variance[i].sqrt().item()
    assert posterior == pytest.approx(sqrt_posterior, abs=6e-5)


def test_learned_variance_spans_posterior_to_beta_and_fixed_is_the_posterior():
    c = coefficients(respaced(ALPHAS, 50), 30)
    assert log_variance(torch.tensor(-1.0), c).item() == c.log_posterior.item()
    assert log_variance(torch.tensor(1.0), c).item() == c.log_beta.item()
    assert log_variance(torch.tensor(3.0), c) > c.log_beta  # extrapolates: frac is not clamped
    assert log_variance(None, c).item() == c.log_posterior.item()


def test_grids_keep_the_known_timesteps():
    assert respaced(ALPHAS, 50).timesteps[[0, 1, 2, 25, 48, 49]].tolist() == [
        0, 20, 41, 510, 979, 999,
    ]  # fmt: skip
    assert leading(ALPHAS, 50).timesteps.tolist() == list(range(0, 1000, 20))
    assert respaced(ALPHAS, 1000).timesteps.tolist() == list(range(1000))


@pytest.mark.parametrize("steps", [1, 1001])
@pytest.mark.parametrize("grid", [respaced, leading])
def test_impossible_numbers_of_steps_are_refused(grid, steps):
    with pytest.raises(UserError, match=f"steps = {steps}.*\n.*between 2 and 1000"):
        grid(ALPHAS, steps)


@pytest.mark.parametrize(
    ("rule", "t_sg", "count"),
    [
        ("code", 25, 24),
        ("code", 0, 49),
        ("code", 49, 0),
        ("code", 50, 0),
        ("paper", 25, 25),
        ("paper", 0, 50),
        ("paper", 49, 1),
        ("paper", 50, 0),
    ],
)
def test_stop_rules_guide_the_stated_number_of_first_steps(rule, t_sg, count):
    guided = [i for i in reversed(range(50)) if is_guided(i, t_sg, rule)]
    assert guided == list(range(49, 49 - count, -1))


def test_the_clamp_bounds_x0_hat_inside_the_pull_only(tensors):
    c = coefficients(respaced(ALPHAS, 50), 49)
    x, eps, v = tensors["x"], tensors["eps"], tensors["v"]
    free, _ = VARIANTS["ddpm"].step(x, eps, v, c, None, None)
    clamped = Guidance(tensors["modes"], scale=1.0, clamp=3.0)
    guided, x0_hat = VARIANTS["ddpm"].step(x, eps, v, c, None, clamped)
    assert x0_hat.abs().max() > 100
    sigma = movement("ddpm", respaced(ALPHAS, 50), 49, v)
    expected = sigma * (tensors["modes"] - x0_hat.clamp(-3, 3))
    torch.testing.assert_close(guided - free, expected, rtol=1e-4, atol=1e-6)


def test_the_registry_and_the_names_agree():
    assert tuple(VARIANTS) == VARIANT_NAMES
    assert {is_guided(30, 25, rule) for rule in STOP_RULES} == {True}


class GaussianGenerator:
    """The exact denoiser of latents distributed as N(centre of the class, spread^2)."""

    latent_shape, image_size, null_label = (4, 4, 4), 4, 2
    num_train_timesteps, steps_offset, alphas_cumprod = 1000, 0, ALPHAS
    device, dtype = torch.device("cpu"), torch.float32
    centres, spread = torch.tensor([-1.0, 1.0, 0.0]), 0.5

    def predict(self, x: Tensor, timestep: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        abar = ALPHAS[timestep].float().view(-1, 1, 1, 1)
        centre = self.centres[labels].view(-1, 1, 1, 1)
        variance = abar * self.spread**2 + 1 - abar
        return (1 - abar).sqrt() * (x - abar.sqrt() * centre) / variance, None

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("sampling does not encode")

    def decode(self, latents: Tensor) -> Tensor:
        return (latents[:, :3] * 40 + 128).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_a_stronger_pull_ends_nearer_to_the_mode(variant):
    generator = GaussianGenerator()
    rng = torch.Generator().manual_seed(1)
    items = [
        Item(f"class{c}", c, generator.centres[c] + torch.randn(4, 4, 4, generator=rng), k)
        for c in range(2)
        for k in range(8)
    ]
    modes = torch.stack([item.mode for item in items])
    distances = []
    for lambda_ in (0, 0.05, 0.1, 0.2):
        settings = SamplingSettings(variant=variant, lambda_=lambda_, cfg=1)
        (batch,) = sample(generator, items, settings, generation_seed=0, keep_latents=True)
        distances.append((batch.latents - modes).flatten(1).norm(dim=1).mean().item())
    print(variant, [round(d, 3) for d in distances])
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.98 * distances[0]


def test_unguided_sampling_draws_from_the_gaussian():
    generator = GaussianGenerator()
    items = [Item("class1", 1, None, k) for k in range(64)]
    # Many steps: with few, the fixed small variance is visibly too small.
    settings = SamplingSettings(steps=500, cfg=1)
    (batch,) = sample(generator, items, settings, generation_seed=0, keep_latents=True)
    assert batch.latents.mean().item() == pytest.approx(1.0, abs=0.03)
    assert batch.latents.std().item() == pytest.approx(0.5, abs=0.02)
