"""The original DiT network and its samplers, reproduced from recorded numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from mgd3.base.artifacts import load_tensors
from mgd3.diffusion.sampling import SamplingSettings, denoise
from mgd3.diffusion.schedules import respaced
from mgd3.generators.dit import DiTGenerator, match_original, original_to_diffusers
from mgd3.generators.vae import VAECodec
from twins import make_vae

GOLDEN = Path(__file__).parents[2] / "data" / "dit_ddpm50.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_tensors(GOLDEN)


def network(golden: dict[str, Tensor], *, fixed: bool = True) -> DiTTransformer2DModel:
    original = {k.removeprefix("dit."): t for k, t in golden.items() if k.startswith("dit.")}
    transformer = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=10,
    )
    transformer.load_state_dict(original_to_diffusers(original), strict=True)
    if fixed:
        match_original(transformer)
    return transformer.eval()


@pytest.fixture(scope="module")
def generator(golden: dict[str, Tensor]) -> DiTGenerator:
    return DiTGenerator(network(golden), VAECodec(make_vae()), {})


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_the_network_computes_what_the_original_computes(golden, generator):
    eps, v = generator.predict(golden["net.x"], golden["net.t"], golden["net.y"])
    assert relative(torch.cat([eps, v], dim=1), golden["net.out"]) < 1e-5


def test_without_the_two_fixes_the_network_differs(golden):
    plain = network(golden, fixed=False)
    with torch.no_grad():
        out = plain(golden["net.x"], golden["net.t"], golden["net.y"]).sample
    assert relative(out, golden["net.out"]) > 1e-3


def test_the_schedule_is_the_respaced_one(golden, generator):
    schedule = respaced(generator.alphas_cumprod, 50)
    assert schedule.timesteps.tolist() == golden["schedule.timestep_map"].tolist()
    assert schedule.betas.dtype == torch.float64
    torch.testing.assert_close(schedule.betas, golden["schedule.betas"], rtol=1e-12, atol=0)
    torch.testing.assert_close(
        schedule.alphas_cumprod, golden["schedule.alphas_cumprod"], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unguided", SamplingSettings(lambda_=0)),
        ("guided_l0.1_s25", SamplingSettings(lambda_=0.1, t_sg=25)),
        ("guided_l0.1_s0", SamplingSettings(lambda_=0.1, t_sg=0)),
        ("guided_l0.05_s35", SamplingSettings(lambda_=0.05, t_sg=35)),
        ("ddim_unguided", SamplingSettings(variant="ddim", lambda_=0)),
    ],
)
def test_sampling_reproduces_the_original(golden, generator, name, settings):
    # golden's row r is the noise of step 49 - r; none is added at step 0.
    noise = torch.cat([golden["sample.z_T"][None], golden["sample.noises"]])
    latents = denoise(
        generator,
        torch.tensor([3]),
        noise[: settings.noise_draws],
        golden["sample.mode"],
        settings,
    )
    error = relative(latents, golden[f"sample.{name}"])
    print(f"{name}: relative error {error:.1e}")
    assert error < 1e-4
