"""What a sampler predicts on its way: recorded without changing it, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mgd3.base import artifacts
from mgd3.base.seeding import torch_generator
from mgd3.cli import main
from mgd3.data.index import Index, write_index
from mgd3.data.registry import make_dataset
from mgd3.diffusion.sampling import Item, SamplingSettings, denoise, draw_noise, sample
from mgd3.diffusion.trajectories import Recorder
from mgd3.generators.loading import load_generator
from mgd3.generators.vae import load_vae
from mgd3.methods import METHODS, Job, distiller
from mgd3.methods.trajectories import decode_modes, shown_steps, trace
from twins import make_dit_folder

CLASSES = ["digit-4", "digit-0"]
STEPS = 12


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    generator = make_dit_folder(folder / "dit")
    index = json.loads((generator / "model_index.json").read_text())
    index["id2label"] = {str(k): f"digit-{k}" for k in range(10)}
    (generator / "model_index.json").write_text(json.dumps(index))
    dataset = make_dataset("digits")
    write_index(dataset, folder / "index")
    modes = {n: torch.randn(4, 4, 8, 8, generator=torch_generator("m", n)) for n in CLASSES}
    artifacts.save_tensors(folder / "modes", modes, {"classes": CLASSES, "images": {}})
    settings = {**METHODS["mgd3"].defaults(), "steps": STEPS, "t_sg": 5, "lambda": 0.5}
    return Job(
        dataset=dataset, index=Index.read(folder / "index"), classes=CLASSES, ipc=4,
        generation_seed=0, settings=settings, generator=generator, modes=folder / "modes",
        device="cpu", batch="auto",
    )  # fmt: skip


def unguided(job: Job) -> Job:
    settings = {**METHODS["unguided"].defaults(), "steps": STEPS}
    return replace(job, settings=settings, modes=None)


@pytest.mark.parametrize("steps", [2, 3, 8, 12, 50, 1000])
def test_shown_steps_are_evenly_spaced_from_the_first_to_the_last(steps):
    shown = shown_steps(steps)
    assert (shown[0], shown[-1], len(shown)) == (steps - 1, 0, min(8, steps))
    gaps = [a - b for a, b in pairwise(shown)]
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("variant", ["ddpm", "ddim"])
def test_a_recorder_changes_no_bit_of_the_images(job, variant):
    generator = load_generator(job.generator)
    settings = SamplingSettings(steps=STEPS, t_sg=5, lambda_=0.5, variant=variant)
    modes = [torch.randn(4, 8, 8, generator=torch_generator("m", k)) for k in range(3)]
    items = [Item("n", k, mode, k) for k, mode in enumerate(modes)]

    def latents(callback):
        (batch,) = sample(
            generator, items, settings, generation_seed=0, keep_latents=True, callback=callback
        )
        return batch

    recorder = Recorder([11, 4, 0])
    plain, recorded = latents(None), latents(recorder)
    assert torch.equal(plain.latents, recorded.latents)
    assert torch.equal(plain.images, recorded.images)
    assert recorder.taken().shape == (3, 3, 4, 8, 8)


def test_what_is_recorded_is_the_clean_latent_that_each_step_predicts(job):
    generator = load_generator(job.generator)
    settings = SamplingSettings(steps=STEPS, t_sg=5, lambda_=0.5, cfg=1)
    labels, modes = torch.tensor([4, 0]), torch.randn(2, 4, 8, 8)
    rngs = [torch_generator("noise", k) for k in range(2)]
    noise = draw_noise(rngs, (4, 8, 8), settings.noise_draws)
    recorder, before = Recorder([11, 7, 3]), {11: noise[0]}

    def both(i, x, x0_hat):
        recorder(i, x, x0_hat)
        before[i - 1] = x

    denoise(generator, labels, noise, modes, settings, both)
    found = recorder.taken()
    # The training timesteps of 12 evenly spaced steps that keep both ends.
    timesteps = [round(k * 999 / 11) for k in range(STEPS)]
    for column, i in enumerate([11, 7, 3]):
        abar = generator.alphas_cumprod[timesteps[i]]
        with torch.no_grad():
            eps, _ = generator.predict(before[i], torch.full((2,), timesteps[i]), labels)
        plain = (before[i].double() - (1 - abar).sqrt() * eps.double()) / abar.sqrt()
        torch.testing.assert_close(found[:, column].double(), plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", ["auto", 1])
@pytest.mark.parametrize("guided", [True, False])
def test_a_trajectory_ends_at_the_first_image_of_the_set(job, guided, batch, tmp_path):
    job = replace(job if guided else unguided(job), batch=batch)
    method = "mgd3" if guided else "unguided"
    images = distiller(method)(replace(job, batch=len(CLASSES), ipc=1))
    trace(method, job, tmp_path / "trajectory")
    found = artifacts.load_tensors(tmp_path / "trajectory")
    about = artifacts.tensor_metadata(tmp_path / "trajectory")
    assert about["steps"] == shown_steps(STEPS)
    assert about["guided"] == [guided and i > 5 for i in about["steps"]]
    for name in CLASSES:
        assert found[f"x0/{name}"].shape == (8, 3, 32, 32)
        image, x0 = found[f"image/{name}"].int(), found[f"x0/{name}"].int()
        # Another batch size may round differently.
        assert (image - images[name][0].int()).abs().max() <= (1 if batch == 1 else 0)
        # The last step's mean is its clean latent, and it is neither noised nor guided. All steps
        # are decoded as one batch, the image with those of the other classes: to rounding, which
        # is one grey level where a value lies between two.
        assert (x0[-1] - image).abs().max() <= 1 < (x0[0] - image).abs().max()


def test_trajectories_of_both_kinds_begin_alike_and_end_apart(job, tmp_path):
    trace("mgd3", job, tmp_path / "guided")
    trace("unguided", unguided(job), tmp_path / "unguided")
    a, b = (
        artifacts.load_tensors(tmp_path / n)[f"x0/{CLASSES[0]}"] for n in ("guided", "unguided")
    )
    assert torch.equal(a[0], b[0]), "the first prediction is made from the same noise"
    assert not torch.equal(a[-1], b[-1])


def test_the_command_writes_what_the_function_does(job, tmp_path):
    trace("mgd3", job, tmp_path / "a")
    write_index(job.dataset, tmp_path / "index")
    arguments = {
        "dataset": '"digits"', "index": tmp_path / "index", "method": "mgd3",
        "settings": json.dumps(job.settings), "classes": json.dumps(CLASSES), "ipc": 4,
        "generation-seed": 0, "generator": job.generator, "modes": job.modes, "device": "cpu",
        "output": tmp_path / "b.safetensors",
    }  # fmt: skip
    assert main(["trajectory", *(f"--{key}={value}" for key, value in arguments.items())]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_decoded_modes_are_those_of_the_decoder_by_class(job, tmp_path):
    decode_modes(job.modes, job.generator, CLASSES[::-1], 32, tmp_path / "decoded", "cpu")
    found = artifacts.load_tensors(tmp_path / "decoded")
    names = artifacts.tensor_metadata(tmp_path / "decoded")["classes"]
    assert names == CLASSES[::-1]
    vae, modes = load_vae(job.generator), artifacts.load_tensors(job.modes)
    for label, name in enumerate(names):
        plain = torch.cat([vae.decode(mode[None]) for mode in modes[name]])
        own = found["images"][found["labels"] == label]
        assert (own.int() - plain.int()).abs().max() <= 1
