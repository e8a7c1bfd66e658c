"""Stable Diffusion: prompts as label rows, the grid of its own scheduler, t_SG as a timestep."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor

from mgd3.base.errors import UserError
from mgd3.diffusion.sampling import SamplingSettings, denoise, draw_noise
from mgd3.generators.unet import UNetGenerator, load_stable_diffusion

PROMPTS = ["tench, Tinca tinca", "crane, bird"]
# As the registry has it for `sd`, with fewer steps.
SETTINGS = SamplingSettings(
    steps=8, lambda_=0, cfg=8.0, cfg_channels="all", spacing="leading", stop_unit="timestep"
)


@pytest.fixture(scope="module")
def generator(sd_folder: Path) -> UNetGenerator:
    return load_stable_diffusion(sd_folder, PROMPTS)


@pytest.fixture(scope="module")
def stock(sd_folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_label_rows_are_the_prompts_and_the_last_is_the_empty_one(generator, stock):
    assert generator.null_label == 2
    assert generator.latent_shape == (4, 8, 8)
    assert generator.image_size == 32
    for row, prompt in enumerate(PROMPTS):
        conditional, empty = stock.encode_prompt(prompt, "cpu", 1, True)
        assert relative(generator.contexts[row][None], conditional) < 1e-6
        assert relative(generator.contexts[-1][None], empty) < 1e-6
    assert relative(generator.contexts[0], generator.contexts[1]) > 0.01


def test_long_prompts_are_cut_as_the_stock_pipeline_cuts_them(sd_folder, stock):
    prompt = "a very long description of a bird " * 9
    generator = load_stable_diffusion(sd_folder, [prompt])
    assert relative(
        generator.contexts[0][None], stock.encode_prompt(prompt, "cpu", 1, False)[0]
    ) < (1e-6)


def test_unguided_sampling_is_the_stock_loop_with_its_ddpm_scheduler(generator, stock):
    scheduler = DDPMScheduler.from_config(
        stock.scheduler.config, clip_sample=False, variance_type="fixed_small"
    )
    scheduler.set_timesteps(SETTINGS.steps)
    conditional, empty = stock.encode_prompt(PROMPTS[1], "cpu", 1, True)
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, 8, 8, generator=rng)
    with torch.no_grad():
        for t in scheduler.timesteps:
            eps_c = stock.unet(x, t, conditional).sample
            eps_u = stock.unet(x, t, empty).sample
            eps = eps_u + SETTINGS.cfg * (eps_c - eps_u)
            x = scheduler.step(eps, t, x, generator=rng).prev_sample
    noise = draw_noise(
        [torch.Generator().manual_seed(5)], generator.latent_shape, SETTINGS.noise_draws
    )
    ours = denoise(generator, torch.tensor([1]), noise, None, SETTINGS)
    assert relative(ours, x) < 1e-4


@pytest.mark.parametrize(("t_sg", "rule", "guided"), [(500, "code", 5), (401, "paper", 6)])
def test_guidance_stops_at_a_training_timestep(generator, t_sg, rule, guided):
    """The grid of 10 steps is 1, 101, .., 901: a timestep of 500 leaves 501, .., 901."""
    common = {"steps": 10, "lambda_": 0.1, "cfg": 1.0, "spacing": "leading"}
    noise = draw_noise([torch.Generator().manual_seed(1)], (4, 8, 8), 10)

    def latents(**stop: object) -> Tensor:
        settings = SamplingSettings(**common, **stop)
        return denoise(generator, torch.tensor([0]), noise, torch.ones(1, 4, 8, 8), settings)

    by_timestep = latents(t_sg=t_sg, stop_rule=rule, stop_unit="timestep")
    assert torch.equal(by_timestep, latents(t_sg=9 - guided))
    assert not torch.equal(by_timestep, latents(t_sg=8 - guided))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: shutil.rmtree(f / "tokenizer"), "no tokenizer in the generator's folder"),
        (lambda f: shutil.rmtree(f / "text_encoder"), "no text_encoder in the generator's folder"),
        (lambda f: shutil.rmtree(f / "unet"), "no unet in the generator's folder"),
        (lambda f: shutil.rmtree(f / "vae"), "no vae in the generator's folder"),
        (
            lambda f: (f / "text_encoder" / "model.safetensors").write_bytes(b"{"),
            "cannot load the text encoder",
        ),
    ],
)
def test_a_broken_folder_is_named(sd_folder, tmp_path, harm, message):
    folder = tmp_path / "sd"
    shutil.copytree(sd_folder, folder)
    harm(folder)
    with pytest.raises(UserError, match=message) as error:
        load_stable_diffusion(folder, PROMPTS)
    assert str(folder) in str(error.value)
    assert error.value.mend
