"""Generators: latents in scaled units, loading, and what is said when a folder is broken."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from mgd3.base.errors import UserError
from mgd3.generators.base import exact_float32
from mgd3.generators.dit import DiTGenerator, match_original, original_to_diffusers
from mgd3.generators.pretrained import training_alphas_cumprod
from mgd3.generators.vae import VAECodec, load_vae
from twins import make_dit, make_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


def some_images(n: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=rng, dtype=torch.uint8)


def test_a_loaded_generator_says_what_it_is(dit_folder):
    generator = DiTGenerator.load(dit_folder)
    assert generator.latent_shape == (4, 8, 8)
    assert generator.image_size == 32
    assert generator.null_label == 10
    assert generator.num_train_timesteps == 1000
    assert generator.alphas_cumprod.dtype == torch.float64
    assert generator.dtype == torch.float32
    assert not generator.transformer.training


@pytest.mark.parametrize("shift", [None, 0.25])
def test_latents_are_scaled_and_shifted_as_the_vae_says(shift):
    vae = make_vae(scaling_factor=0.5)
    vae.register_to_config(shift_factor=shift)
    mean, logvar = VAECodec(vae).encode(some_images())
    with torch.no_grad():
        posterior = vae.encode(some_images().float() / 127.5 - 1).latent_dist
        torch.testing.assert_close(mean, (posterior.mean - (shift or 0)) * 0.5)
        torch.testing.assert_close(logvar, posterior.logvar + 2 * math.log(0.5))
        pixels = vae.decode(posterior.mean).sample.clamp(-1, 1)
    expected = ((pixels + 1) * 127.5 + 0.5).floor()
    decoded = VAECodec(vae).decode(mean)
    assert decoded.dtype == torch.uint8
    assert (decoded.float() - expected).abs().max() <= 1  # rounding at a boundary
    assert (decoded.float() != expected).float().mean() < 0.01


def test_encoding_needs_no_transformer(dit_folder, tmp_path):
    shutil.copytree(dit_folder / "vae", tmp_path / "generator" / "vae")
    from_pipeline, from_vae = load_vae(tmp_path / "generator"), load_vae(dit_folder / "vae")
    mean, _ = from_pipeline.encode(some_images())
    assert torch.equal(mean, from_vae.encode(some_images())[0])
    assert torch.equal(mean, DiTGenerator.load(dit_folder).encode(some_images())[0])


def test_bfloat16_codecs_return_float32_and_uint8(dit_folder):
    codec = load_vae(dit_folder, dtype=torch.bfloat16)
    mean, logvar = codec.encode(some_images())
    assert mean.dtype == logvar.dtype == torch.float32
    assert codec.decode(mean).dtype == torch.uint8


def test_another_vae_can_take_the_place_of_the_generators_own(dit_folder, tmp_path):
    make_vae(seed=5).save_pretrained(tmp_path / "vae")
    other = load_vae(tmp_path / "vae")
    by_path = DiTGenerator.load(dit_folder, vae=tmp_path / "vae")
    by_codec = DiTGenerator.load(dit_folder, vae=other)
    expected = other.encode(some_images())[0]
    assert torch.equal(by_path.encode(some_images())[0], expected)
    assert by_codec.codec is other


def test_only_origin_dit_changes_the_network(dit_folder):
    plain, original = DiTGenerator.load(dit_folder), DiTGenerator.load(dit_folder, origin="dit")
    for generator, shift, eps in ((plain, 1, 1e-5), (original, 0, 1e-6)):
        for block in generator.transformer.transformer_blocks:
            assert block.norm1.emb.time_proj.downscale_freq_shift == shift
            assert block.norm3.eps == eps


def test_the_original_time_embedding_has_the_known_similarity_to_diffusers():
    plain, fixed = make_dit(), make_dit()
    match_original(fixed)
    t = torch.tensor([20, 510, 999])
    a, b = (d.transformer_blocks[0].norm1.emb.time_proj(t) for d in (plain, fixed))
    similarity = torch.nn.functional.cosine_similarity(a, b)
    torch.testing.assert_close(similarity, torch.tensor([0.9997, 0.809, 0.489]), atol=1e-3, rtol=0)


def test_a_network_without_variance_channels_predicts_noise_only():
    dit = make_dit()
    noise_only = type(dit).from_config(dict(dit.config) | {"out_channels": 4}).eval()
    generator = DiTGenerator(noise_only, VAECodec(make_vae()), {})
    with torch.no_grad():
        eps, v = generator.predict(
            torch.zeros(2, 4, 8, 8), torch.tensor([5, 5]), torch.tensor([0, 10])
        )
    assert eps.shape == (2, 4, 8, 8)
    assert v is None


def test_training_schedules_are_those_of_diffusers_in_double_precision():
    for kind in ("linear", "scaled_linear"):
        scheduler = DDPMScheduler(beta_schedule=kind, beta_start=0.00085, beta_end=0.012)
        ours = training_alphas_cumprod(dict(scheduler.config))
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_tf32_is_off_inside_and_restored_outside():
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    torch.backends.cudnn.allow_tf32 = True
    with exact_float32(torch.float32):
        assert not any(flag.allow_tf32 for flag in flags)
    assert torch.backends.cudnn.allow_tf32
    with exact_float32(torch.bfloat16):
        assert torch.backends.cudnn.allow_tf32
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def set_config(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: shutil.rmtree(f / "vae"), "no vae in the generator's folder"),
        (lambda f: shutil.rmtree(f / "transformer"), "no transformer in the generator's folder"),
        (lambda f: shutil.rmtree(f / "scheduler"), "no scheduler in the generator's folder"),
        (lambda f: (f / "vae" / WEIGHTS).unlink(), "no weights in .*vae"),
        (lambda f: truncate(f / "vae" / WEIGHTS), "cannot load AutoencoderKL from .*vae"),
        (lambda f: truncate(f / "transformer" / WEIGHTS), "cannot load DiTTransformer2DModel"),
        (lambda f: (f / "vae" / WEIGHTS).write_bytes(b""), "cannot load AutoencoderKL"),
        (
            lambda f: set_config(f / "transformer" / "config.json", num_layers=3),
            r"the file lacks weights of DiTTransformer2DModel \(19, the first",
        ),
        (
            lambda f: set_config(f / "transformer" / "config.json", num_layers=1),
            r"holds too many weights of DiTTransformer2DModel \(19",
        ),
        (
            lambda f: set_config(f / "transformer" / "config.json", num_embeds_ada_norm=12),
            "cannot load DiTTransformer2DModel",
        ),
        (
            lambda f: set_config(f / "scheduler" / "scheduler_config.json", beta_schedule="cos"),
            "beta_schedule 'cos'",
        ),
        (
            lambda f: set_config(
                f / "scheduler" / "scheduler_config.json", prediction_type="v_prediction"
            ),
            "prediction_type 'v_prediction'",
        ),
        (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), "is not JSON"),
        (lambda f: shutil.rmtree(f), "generator folder not found"),
    ],
)
def test_a_broken_folder_is_named_with_what_to_do(
    dit_folder, tmp_path, harm: Callable[[Path], None], message: str
):
    folder = tmp_path / "generator"
    shutil.copytree(dit_folder, folder)
    harm(folder)
    with pytest.raises(UserError, match=message) as error:
        DiTGenerator.load(folder)
    assert str(folder) in str(error.value) or "scheduler has" in str(error.value)
    assert error.value.mend


def test_other_weights_than_a_dits_are_refused():
    with pytest.raises(UserError, match="not weights of an original DiT"):
        original_to_diffusers({"conv.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"blocks\.0\.conv\.weight"):
        original_to_diffusers({"blocks.0.conv.weight": torch.zeros(1)})


def test_an_unknown_origin_is_refused(dit_folder):
    with pytest.raises(UserError, match="unknown origin 'original'"):
        DiTGenerator.load(dit_folder, origin="original")
