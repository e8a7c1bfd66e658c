"""Sampling: what an image depends on, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.diffusion.names import VARIANT_NAMES
from mgd3.diffusion.sampling import (
    Item,
    SampledBatch,
    SamplingSettings,
    denoise,
    draw_noise,
    sample,
)
from mgd3.diffusion.schedules import Coefficients, respaced
from mgd3.diffusion.trajectories import Recorder
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.registry import GENERATORS

SHORT = SamplingSettings(steps=8, t_sg=3, lambda_=0.1)
CLASSES = {"n01": 3, "n02": 7, "n03": 0}


@pytest.fixture(scope="module")
def generator(dit_folder: Path) -> DiTGenerator:
    return DiTGenerator.load(dit_folder)


def make_items(classes: list[str] | None = None, images: int = 3) -> list[Item]:
    return [
        Item(key, CLASSES[key], torch.randn(4, 8, 8, generator=torch_generator("mode", key, k)), k)
        for key in classes or list(CLASSES)
        for k in range(images)
    ]


def by_key(items: list[Item], batches: list[SampledBatch]) -> dict[tuple[str, int], Tensor]:
    return {
        (items[index].class_key, items[index].k): latent
        for batch in batches
        for index, latent in zip(batch.indices, batch.latents, strict=True)
    }


def run(
    generator: DiTGenerator,
    items: list[Item],
    settings: SamplingSettings = SHORT,
    *,
    seed: int = 0,
    batch: int | str = "auto",
) -> dict[tuple[str, int], Tensor]:
    batches = sample(
        generator, items, settings, generation_seed=seed, batch=batch, keep_latents=True
    )
    return by_key(items, list(batches))


def assert_same(a: dict[tuple[str, int], Tensor], b: dict[tuple[str, int], Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert ((a[key] - b[key]).norm() / b[key].norm()).item() < 1e-4


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_batch_size_does_not_matter(generator, batch):
    items = make_items()
    assert_same(run(generator, items, batch=batch), run(generator, items))


def test_permuting_the_classes_permutes_the_images_and_nothing_else(generator):
    permuted = make_items(["n03", "n01", "n02"])
    assert_same(run(generator, permuted, batch=4), run(generator, make_items(), batch=4))


def test_an_image_does_not_depend_on_how_many_others_there_are(generator):
    few, many = run(generator, make_items(images=1)), run(generator, make_items(images=3))
    assert_same(few, {key: many[key] for key in few})


def test_every_item_comes_back_once_with_its_own_image(generator):
    items = make_items()
    items[1] = items[1]._replace(mode=None)
    batches = list(sample(generator, items, SHORT, generation_seed=0, batch=2))
    assert sorted(index for batch in batches for index in batch.indices) == list(range(9))
    for batch in batches:
        assert batch.images.shape == (len(batch.indices), 3, 32, 32)
        assert batch.images.dtype == torch.uint8
        assert batch.latents is None


def test_generation_seeds_classes_and_k_give_different_images(generator):
    first, second = run(generator, make_items(), seed=0), run(generator, make_items(), seed=1)
    assert all(not torch.allclose(first[key], second[key]) for key in first)
    unguided = [Item("a", 1, None, 0), Item("a", 1, None, 1), Item("b", 1, None, 0)]
    x, y, z = run(generator, unguided).values()
    assert not torch.allclose(x, y)
    assert not torch.allclose(x, z)


def test_the_first_noise_does_not_depend_on_the_number_of_steps_or_the_variant():
    shape = (3, 5, 7)  # odd, so that a vectorised generator's tail would show
    draws = {
        n: draw_noise([torch_generator("noise", 0, "n01", k) for k in range(2)], shape, n)
        for n in (1, 10, 50)
    }
    assert torch.equal(draws[1][0], draws[50][0])
    assert torch.equal(draws[10], draws[50][:10])
    alone = draw_noise([torch_generator("noise", 0, "n01", 1)], shape, 50)
    assert torch.equal(alone[:, 0], draws[50][:, 1])


@pytest.mark.parametrize("variant", VARIANT_NAMES)
@pytest.mark.parametrize(
    "off",
    [{"lambda_": 0.0}, {"t_sg": 7}, {"t_sg": 8}, {"t_sg": 8, "stop_rule": "paper"}],
)
@pytest.mark.parametrize("cfg", [4.0, 1.0])
def test_guidance_switched_off_is_bit_equal_to_the_unguided_sampler(generator, variant, off, cfg):
    settings = SamplingSettings(
        **{"steps": 8, "variant": variant, "lambda_": 0.5, "t_sg": 3, "cfg": cfg, **off}
    )
    items = make_items()
    off_run = run(generator, items, settings)
    unguided = run(generator, [item._replace(mode=None) for item in items], settings)
    assert all(torch.equal(off_run[key], unguided[key]) for key in unguided)


def test_guidance_switched_on_is_not(generator):
    items = make_items()
    unguided = run(generator, [item._replace(mode=None) for item in items])
    guided = run(generator, items)
    assert all(not torch.equal(guided[key], unguided[key]) for key in unguided)


@pytest.mark.parametrize(("channels", "count"), [(3, 3), (1, 1), ("all", 4), (9, 4)])
def test_classifier_free_guidance_acts_on_the_first_channels_only(generator, channels, count):
    settings = SamplingSettings(steps=8, cfg=4.0, cfg_channels=channels, lambda_=0, t_sg=8)
    labels, null = torch.tensor([2, 5]), torch.tensor([10, 10])
    noise = draw_noise([torch_generator("noise", 0, "n01", k) for k in range(2)], (4, 8, 8), 8)
    seen = {}
    denoise(generator, labels, noise, None, settings, lambda i, x, x0: seen.setdefault(i, (x, x0)))
    schedule = respaced(generator.alphas_cumprod, 8)
    c = Coefficients(*schedule.table("cpu")[7].unbind())
    t = schedule.timesteps[7].expand(2)
    with torch.no_grad():
        conditional, v = generator.predict(noise[0], t, labels)
        unconditional, _ = generator.predict(noise[0], t, null)
    eps = conditional.clone()
    difference = conditional[:, :count] - unconditional[:, :count]
    eps[:, :count] = unconditional[:, :count] + 4 * difference
    x, x0_hat = seen[7]
    expected = c.x0_from_x * noise[0] - c.x0_from_eps * eps
    torch.testing.assert_close(x0_hat, expected, rtol=1e-4, atol=1e-3)
    # The variance is the conditional half's own.
    sigma = (0.5 * ((v + 1) / 2 * c.log_beta + (1 - v) / 2 * c.log_posterior)).exp()
    mean = c.mean_from_x0 * expected + c.mean_from_x * noise[0]
    torch.testing.assert_close(x, mean + sigma * noise[1], rtol=1e-4, atol=1e-4)


class Copies(TorchDispatchMode):
    """Counts copies from the CPU to another device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            moved = args[0].device.type == "cpu" and result.device.type != "cpu"
            self.count += moved
        return result


@pytest.mark.parametrize("variant", ["ddpm", "ddim"])
@pytest.mark.parametrize("callback", [None, Recorder([2, 0])])
def test_the_loop_neither_waits_for_the_device_nor_copies_to_it(dit_folder, variant, callback):
    # Tensors on the meta device have no values, so reading one in the loop would raise.
    generator = DiTGenerator.load(dit_folder, device="meta")
    counts = []
    for steps in (4, 12):
        settings = SamplingSettings(steps=steps, variant=variant, t_sg=2)
        noise = torch.randn(settings.noise_draws, 2, 4, 8, 8)
        with Copies() as copies:
            modes = torch.zeros(2, 4, 8, 8)
            latents = denoise(generator, torch.tensor([1, 2]), noise, modes, settings, callback)
        assert latents.device.type == "meta"
        assert latents.shape == (2, 4, 8, 8)
        counts.append(copies.count)
    assert counts[0] == counts[1]
    assert 0 < counts[0] <= 5  # the table, the timesteps, the noise, the labels, the modes


def test_bfloat16_weights_run_with_a_float32_sampler(generator, dit_folder):
    half = DiTGenerator.load(dit_folder, dtype=torch.bfloat16)
    assert half.transformer.dtype == half.codec.vae.dtype == torch.bfloat16
    exact, rounded = run(generator, make_items()), run(half, make_items())
    for key, latent in rounded.items():
        assert latent.dtype == torch.float32
        assert ((latent - exact[key]).norm() / exact[key].norm()).item() < 0.05


def test_bfloat16_changes_the_images_of_a_trained_generator_by_a_fiftieth_at_most():
    """The error that docs/performance.md states; another seed changes three quarters."""
    items = [Item(f"digit-{c}", c, None, 0) for c in range(10)]
    settings = SamplingSettings(steps=25, t_sg=0, cfg=1.5, cfg_channels="all")
    exact, rounded = (
        DiTGenerator.load(GENERATORS["mnist-dit"].folder, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )

    def latents(generator: DiTGenerator, seed: int) -> torch.Tensor:
        (batch,) = sample(generator, items, settings, generation_seed=seed, keep_latents=True)
        return batch.latents.flatten(1)

    wanted = latents(exact, 0)
    size = wanted.norm(dim=1)
    assert ((latents(rounded, 0) - wanted).norm(dim=1) / size).max() < 0.02
    assert ((latents(exact, 1) - wanted).norm(dim=1) / size).mean() > 0.5


class SmallMemory(DiTGenerator):
    """Runs out of memory beyond a number of samples in one call."""

    limit = 4

    def predict(self, x, timestep, labels):
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return super().predict(x, timestep, labels)


def test_running_out_of_memory_halves_the_batch_and_goes_on(generator, dit_folder):
    small = SmallMemory.load(dit_folder)
    batches = list(
        sample(small, make_items(), SHORT, generation_seed=0, batch=8, keep_latents=True)
    )
    assert [len(batch.indices) for batch in batches] == [2, 2, 2, 2, 1]
    assert_same(by_key(make_items(), batches), run(generator, make_items()))


def test_too_little_memory_for_one_image_is_said(dit_folder):
    small = SmallMemory.load(dit_folder)
    small.limit = 1
    with pytest.raises(UserError, match="not enough memory to make one image on cpu"):
        list(sample(small, make_items(), SHORT, generation_seed=0))


def test_the_callback_sees_every_step_and_ends_at_the_result(generator):
    seen = []
    batches = sample(
        generator,
        make_items(images=1),
        SHORT,
        generation_seed=0,
        keep_latents=True,
        callback=lambda i, x, x0_hat: seen.append((i, x, x0_hat)),
    )
    (batch,) = batches
    assert [i for i, _, _ in seen] == list(range(7, -1, -1))
    assert torch.equal(seen[-1][1], batch.latents)
    assert all(x.shape == x0_hat.shape == (3, 4, 8, 8) for _, x, x0_hat in seen)


def test_an_empty_queue_gives_nothing(generator):
    assert list(sample(generator, [], SHORT, generation_seed=0)) == []


def test_divergence_names_the_image_and_the_mend(generator):
    settings = SamplingSettings(steps=8, t_sg=0, lambda_=1e30)
    items = make_items(["n02"], images=2)
    with pytest.raises(UserError, match=r"image 0 of class n02 \(and 1 others\) diverged") as error:
        list(sample(generator, items, settings, generation_seed=0))
    assert "lower lambda" in error.value.mend
    assert "clamp" in error.value.mend


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"t_sg": 51}, r"t_sg = 51 is outside 0\.\.50"),
        ({"t_sg": -1}, r"t_sg = -1 is outside"),
        ({"steps": 20}, r"t_sg = 25 is outside 0\.\.20"),
        ({"lambda_": -0.1}, "lambda = -0.1"),
        ({"lambda_": float("nan")}, "lambda = nan"),
        ({"variant": "dimm"}, "variant = 'dimm' is unknown\n.*did you mean"),
        ({"stop_rule": "papers"}, "stop_rule = 'papers'.*\n.*did you mean 'paper'"),
        ({"cfg": -1}, "cfg = -1"),
        ({"cfg_channels": 0}, "cfg_channels = 0"),
        ({"cfg_channels": "some"}, "cfg_channels = 'some'"),
        ({"clamp": 0}, "clamp = 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        SamplingSettings(**setting)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            Item("n01", 3, torch.zeros(4, 32, 32), 0),
            r"image 0 of class n01 has shape \(4, 32, 32\)",
        ),
        (Item("n01", 10, None, 5), r"label 10 of image 5 of class n01 is outside 0\.\.9"),
        (Item("n01", -1, None, 5), "label -1"),
    ],
)
def test_items_that_do_not_fit_the_generator_are_refused(generator, item, message):
    with pytest.raises(UserError, match=message):
        list(sample(generator, [item], SHORT, generation_seed=0))
