"""The diffusers pipeline: stock folders load, and it samples what `sampling` samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline, StableDiffusionPipeline
from PIL import Image

from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.diffusion.pipelines import (
    ModeGuidedDiTPipeline,
    ModeGuidedLDMPipeline,
    ModeGuidedStableDiffusionPipeline,
)
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.unet import load_ldm, load_stable_diffusion

MODES = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def pipe(dit_folder: Path) -> ModeGuidedDiTPipeline:
    pipe = ModeGuidedDiTPipeline.from_pretrained(dit_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rngs() -> list[torch.Generator]:
    return [torch_generator("noise", 0, "n01", k) for k in range(2)]


def test_a_stock_folder_loads_as_a_diffusion_pipeline(pipe):
    assert isinstance(pipe, DiffusionPipeline)
    assert set(pipe.components) == {"transformer", "vae", "scheduler"}
    assert pipe.config.origin == "diffusers"


@pytest.mark.parametrize("variant", ["ddpm", "ddim"])
def test_it_samples_what_the_workflow_samples(pipe, dit_folder, variant):
    out = pipe(
        class_labels=[1, 2],
        modes=MODES,
        mode_guidance_scale=0.2,
        stop_guidance_step=3,
        generator=rngs(),
        num_inference_steps=8,
        output_type="latent",
        variant=variant,
    )
    items = [
        Item("n01", label, mode, k)
        for k, (label, mode) in enumerate(zip([1, 2], MODES, strict=True))
    ]
    settings = SamplingSettings(steps=8, lambda_=0.2, t_sg=3, variant=variant)
    (batch,) = sample(
        DiTGenerator.load(dit_folder), items, settings, generation_seed=0, keep_latents=True
    )
    assert torch.equal(out.images, batch.latents)


def test_output_types_hold_the_same_pixels(pipe):
    outputs = {
        kind: pipe(
            [1, 2],
            MODES,
            generator=rngs(),
            num_inference_steps=4,
            stop_guidance_step=2,
            output_type=kind,
            return_dict=False,
        )[0]
        for kind in ("pil", "np", "pt")
    }
    assert all(isinstance(image, Image.Image) for image in outputs["pil"])
    pixels = np.stack([np.asarray(image) for image in outputs["pil"]])
    assert pixels.shape == (2, 32, 32, 3)
    assert outputs["np"].dtype == np.float32
    assert np.array_equal(np.rint(outputs["np"] * 255), pixels)
    assert torch.equal((outputs["pt"] * 255).round().permute(0, 2, 3, 1), torch.tensor(pixels))


def test_images_with_their_own_generators_are_independent(pipe):
    options = {"num_inference_steps": 4, "stop_guidance_step": 2, "output_type": "latent"}
    both = pipe([1, 2], MODES, generator=rngs(), **options).images
    second = pipe([2], list(MODES[1:]), generator=rngs()[1:], **options).images
    assert (both[1:] - second).norm() / second.norm() < 1e-4


def test_it_runs_without_modes_and_with_one_or_no_generator(pipe):
    for generator in (None, torch.Generator().manual_seed(0)):
        out = pipe([3], generator=generator, num_inference_steps=3, stop_guidance_step=1)
        assert out.images[0].size == (32, 32)
    assert len(pipe(3, num_inference_steps=3, stop_guidance_step=1).images) == 1


def test_the_origin_is_remembered_in_a_saved_folder(dit_folder, tmp_path):
    pipe = ModeGuidedDiTPipeline.from_pretrained(dit_folder, origin="dit")
    pipe.save_pretrained(tmp_path / "saved")
    again = ModeGuidedDiTPipeline.from_pretrained(tmp_path / "saved")
    for block in again.transformer.transformer_blocks:
        assert block.norm1.emb.time_proj.downscale_freq_shift == 0
    assert isinstance(DiTPipeline.from_pretrained(tmp_path / "saved"), DiTPipeline)


def test_folders_with_the_hubs_old_class_names_load(dit_folder, tmp_path):
    ModeGuidedDiTPipeline.from_pretrained(dit_folder).save_pretrained(tmp_path / "old")
    for file in ("model_index.json", "transformer/config.json"):
        path = tmp_path / "old" / file
        text = path.read_text().replace("DiTTransformer2DModel", "Transformer2DModel")
        path.write_text(text.replace("ModeGuidedDiTPipeline", "DiTPipeline"))
    index = json.loads((tmp_path / "old" / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", "Transformer2DModel"]
    pipe = ModeGuidedDiTPipeline.from_pretrained(tmp_path / "old")
    generator = DiTGenerator.load(tmp_path / "old")
    assert type(pipe.transformer) is type(generator.transformer)


def test_label_names_are_understood_and_kept(dit_folder, tmp_path):
    stock = ModeGuidedDiTPipeline.from_pretrained(dit_folder)
    named = ModeGuidedDiTPipeline(
        stock.transformer, stock.vae, stock.scheduler, id2label={0: "tench, Tinca tinca"}
    )
    named.save_pretrained(tmp_path / "named")
    again = ModeGuidedDiTPipeline.from_pretrained(tmp_path / "named")
    assert again.get_label_ids(["tench"]) == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": MODES[:1]}, r"modes have shape \(1, 4, 8, 8\), expected \(2, 4, 8, 8\)"),
        ({"generator": [torch.Generator()]}, "1 generators for 2 images"),
        ({"output_type": "jpeg"}, "output_type = 'jpeg'"),
        ({"stop_guidance_step": 51}, "t_sg = 51 is outside"),
        ({"mode_guidance_scale": -1.0}, "lambda = -1.0"),
    ],
)
def test_what_does_not_match_is_refused(pipe, options, message):
    with pytest.raises(UserError, match=message):
        pipe([1, 2], **options)


def test_the_hubs_original_weights_get_their_fixes_without_asking(monkeypatch, dit_folder):
    # The id leads to a local folder, as a filled Hub cache would.
    monkeypatch.setattr("mgd3.diffusion.pipelines.ORIGINAL_DIT_IDS", (str(dit_folder),))
    pipe = ModeGuidedDiTPipeline.from_pretrained(dit_folder)
    assert pipe.config.origin == "dit"
    assert pipe.transformer.transformer_blocks[0].norm3.eps == 1e-6


def test_latent_diffusion_samples_what_the_workflow_samples(ldm_folder, tmp_path):
    pipe = ModeGuidedLDMPipeline.from_pretrained(ldm_folder)
    pipe.set_progress_bar_config(disable=True)
    modes = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    options = {"mode_guidance_scale": 0.2, "stop_guidance_step": 3, "num_inference_steps": 6}
    out = pipe([1, 999], modes, generator=rngs(), output_type="latent", **options)
    items = [Item("n01", 1, modes[0], 0), Item("n01", 999, modes[1], 1)]
    settings = SamplingSettings(steps=6, lambda_=0.2, t_sg=3)
    generator = load_ldm(ldm_folder)
    (batch,) = sample(generator, items, settings, generation_seed=0, keep_latents=True)
    assert torch.equal(out.images, batch.latents)
    images = pipe([1, 999], modes, generator=rngs(), output_type="pt", **options).images
    assert torch.equal((images * 255).round().to(torch.uint8), batch.images)

    pipe.save_pretrained(tmp_path / "saved")
    again = ModeGuidedLDMPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    assert torch.equal(
        again([1, 999], modes, generator=rngs(), output_type="latent", **options).images, out.images
    )


def test_stable_diffusion_samples_what_the_workflow_samples(sd_folder):
    pipe = ModeGuidedStableDiffusionPipeline.from_pretrained(sd_folder)
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a photo of a tench", "a photo of a crane, a bird"]
    out = pipe(
        prompts,
        MODES,
        mode_guidance_scale=0.2,
        stop_guidance_timestep=400,
        generator=rngs(),
        num_inference_steps=6,
        output_type="latent",
    )
    items = [Item("n01", row, mode, row) for row, mode in enumerate(MODES)]
    settings = SamplingSettings(
        steps=6, lambda_=0.2, t_sg=400, cfg=8.0, cfg_channels="all", stop_unit="timestep",
        spacing="leading",
    )  # fmt: skip
    generator = load_stable_diffusion(sd_folder, prompts)
    (batch,) = sample(generator, items, settings, generation_seed=0, keep_latents=True)
    assert (out.images - batch.latents).norm() / batch.latents.norm() < 1e-5
    # A prompt that many images share is one condition; what it is decides the image. One prompt
    # passes the text encoder as another batch than two, so to rounding, which guidance enlarges.
    same = pipe([prompts[1]] * 2, generator=rngs(), num_inference_steps=3, output_type="latent")
    other = pipe(prompts, generator=rngs(), num_inference_steps=3, output_type="latent")
    assert (same.images[1] - other.images[1]).norm() / other.images[1].norm() < 1e-5
    assert not torch.allclose(same.images[0], other.images[0], atol=1e-3)


def test_stable_diffusion_saves_a_folder_that_the_stock_pipeline_reads(sd_folder, tmp_path):
    pipe = ModeGuidedStableDiffusionPipeline.from_pretrained(sd_folder)
    pipe.save_pretrained(tmp_path / "saved")
    stock = StableDiffusionPipeline.from_pretrained(tmp_path / "saved", use_safetensors=True)
    assert torch.equal(stock.unet.conv_in.weight, pipe.unet.conv_in.weight)
    with pytest.raises(UserError, match=r"expected \(1, 4, 8, 8\)"):
        pipe("a tench", MODES)
