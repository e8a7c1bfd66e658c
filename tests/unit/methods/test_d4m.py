"""D4M: prototypes by one pass of mini-batch k-means, noised to a strength and denoised."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.data import make_dataset
from mgd3.diffusion.guidance import VARIANTS
from mgd3.diffusion.sampling import Item, SamplingSettings, denoise, draw_noise, sample
from mgd3.diffusion.schedules import make_schedule
from mgd3.discovery.clustering import find_modes
from mgd3.generators.base import Generator
from mgd3.generators.loading import load_generator
from mgd3.methods import METHODS, Job, d4m
from mgd3.planning.config import resolve
from mgd3.reporting.tables.paper import load_paper, paper_key, published

CLASSES = {"n01": 3, "n02": 7, "n03": 0}
IPC = 3
FAMILIES = ["dit", "ldm", "sd"]
SHORT = SamplingSettings(steps=10, t_sg=10, strength=0.7, cfg_channels="all")
DIGITS = ["digit-0", "digit-7", "digit-3"]


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> Generator:
    folder = request.getfixturevalue(f"{request.param}_folder")
    return load_generator(folder, prompts=["a tench", "a crane"] * 4)


@pytest.fixture(scope="module")
def dit(dit_folder: Path) -> Generator:
    return load_generator(dit_folder)


def prototype(generator: Generator, key: str, k: int) -> Tensor:
    return torch.randn(generator.latent_shape, generator=torch_generator("prototype", key, k))


def make_items(generator: Generator, names: list[str] | None = None) -> list[Item]:
    return [
        Item(key, CLASSES[key], None, k, start=prototype(generator, key, k))
        for key in names or list(CLASSES)
        for k in range(IPC)
    ]


def run(
    generator: Generator, items: list[Item], settings: SamplingSettings = SHORT, **more
) -> dict[tuple[str, int], Tensor]:
    options = {"generation_seed": 0, "batch": "auto", **more}
    return {
        (items[index].class_key, items[index].k): latent
        for part in sample(generator, items, settings, keep_latents=True, **options)
        for index, latent in zip(part.indices, part.latents, strict=True)
    }


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def assert_same(a: dict[tuple[str, int], Tensor], b: dict[tuple[str, int], Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(relative(a[key], b[key]) < 1e-4 for key in a)


@pytest.mark.parametrize(
    ("steps", "strength", "walked"),
    [(50, 0.7, 35), (50, 0.75, 37), (50, 1.0, 50), (100, 0.29, 29), (10, 0.01, 1)],
)
def test_the_strength_is_a_share_of_the_steps(steps, strength, walked):
    assert SamplingSettings(steps=steps, t_sg=0, strength=strength).walked == walked


@pytest.mark.parametrize("strength", [0, -0.5, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(UserError, match="strength"):
        SamplingSettings(strength=strength)
    row = {"method": "d4m", "generator": "tiny-dit", "strength": strength}
    with pytest.raises(UserError, match=r"strength|nan"):
        resolve(raw(row))


@pytest.mark.parametrize("generator", FAMILIES, indirect=True)
@pytest.mark.parametrize("variant", ["ddpm", "ddim"])
def test_it_walks_from_the_noised_prototype(generator, variant):
    """Against the definition: x = sqrt(abar) prototype + sqrt(1 - abar) z_T, then plain steps."""
    settings = SamplingSettings(steps=10, t_sg=0, variant=variant, strength=0.35, cfg=1.0)
    noise = draw_noise(
        [torch_generator("noise", 0, "n01", k) for k in range(2)],
        generator.latent_shape,
        settings.noise_draws,
    )
    starts = torch.stack([prototype(generator, "n01", k) for k in range(2)])
    seen = []
    result = denoise(
        generator, torch.tensor([3, 3]), noise, None, settings,
        lambda i, x, x0: seen.append((i, x, x0)), starts,
    )  # fmt: skip
    assert [i for i, _, _ in seen] == [2, 1, 0], "0.35 of 10 steps"
    spacing = VARIANTS[variant].spacing
    schedule = make_schedule(generator.alphas_cumprod, 10, spacing, generator.steps_offset)
    abar = schedule.alphas_cumprod[2].float()
    x = abar.sqrt() * starts + (1 - abar).sqrt() * noise[0]
    eps, _ = generator.predict(x, schedule.timesteps[2].expand(2), torch.tensor([3, 3]))
    x0_hat = (x - (1 - abar).sqrt() * eps) / abar.sqrt()
    assert relative(seen[0][2], x0_hat) < 1e-4
    assert torch.equal(result, seen[-1][1])


@pytest.mark.parametrize("generator", FAMILIES, indirect=True)
def test_strength_one_is_the_unguided_sampler(generator):
    items = make_items(generator)
    full = SamplingSettings(steps=10, t_sg=0, strength=1.0, cfg_channels="all")
    noised = run(generator, items, full)
    unguided = run(generator, [item._replace(start=None) for item in items], full)
    assert all(torch.equal(noised[key], unguided[key]) for key in unguided)
    # And below it is another image, of the same noise.
    weaker = run(generator, items)
    assert all(not torch.equal(weaker[key], unguided[key]) for key in unguided)


@pytest.mark.parametrize("variant", ["ddpm", "ddim"])
def test_each_step_has_the_noise_it_has_in_the_whole_run(dit, variant):
    """Begun from where the unguided run stands, the rest of the run is the same."""
    settings = SamplingSettings(steps=10, t_sg=0, variant=variant, strength=0.4)
    rngs = [torch_generator("noise", 0, "n01", 0)]
    noise, labels = draw_noise(rngs, dit.latent_shape, settings.noise_draws), torch.tensor([3])
    passed: dict[int, Tensor] = {}
    whole = denoise(dit, labels, noise, None, settings, lambda i, x, _: passed.update({i: x}))
    spacing = VARIANTS[variant].spacing
    schedule = make_schedule(dit.alphas_cumprod, 10, spacing, dit.steps_offset)
    abar = schedule.alphas_cumprod[3].float()
    # The start which, noised, is x as it comes out of step 4.
    start = (passed[4] - (1 - abar).sqrt() * noise[0]) / abar.sqrt()
    assert relative(denoise(dit, labels, noise, None, settings, starts=start), whole) < 1e-3


@pytest.mark.parametrize("generator", FAMILIES, indirect=True)
def test_the_distance_to_the_prototype_grows_with_the_strength(generator):
    items = make_items(generator)
    distances = []
    for strength in (0.1, 0.3, 0.6, 1.0):
        # A network of random weights predicts little, so the deterministic sampler shows the start.
        settings = SamplingSettings(steps=10, t_sg=0, variant="ddim", strength=strength, cfg=1.0)
        made = run(generator, items, settings)
        away = [(made[i.class_key, i.k] - i.start).norm().item() for i in items]
        distances.append(sum(away) / len(away))
    assert distances == sorted(distances)
    norm = sum(i.start.norm().item() for i in items) / len(items)
    assert distances[0] < 0.3 * norm


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_batch_does_not_matter(dit, batch):
    assert_same(run(dit, make_items(dit), batch=batch), run(dit, make_items(dit)))


def test_permuting_the_classes_permutes_the_images_and_nothing_else(dit):
    permuted = make_items(dit, ["n03", "n01", "n02"])
    assert_same(run(dit, permuted, batch=4), run(dit, make_items(dit), batch=4))


def test_guided_unguided_and_begun_items_come_back_in_one_call(dit):
    items = make_items(dit)
    items[1] = items[1]._replace(start=None)
    items[4] = items[4]._replace(start=None, mode=prototype(dit, "n02", 1))
    parts = list(sample(dit, items, SHORT, generation_seed=0, batch=2))
    assert sorted(index for part in parts for index in part.indices) == list(range(9))
    assert_same(
        run(dit, items), {(i.class_key, i.k): run(dit, [i])[i.class_key, i.k] for i in items}
    )


def test_a_start_of_another_shape_is_named(dit):
    item = Item("n01", 3, None, 5, start=torch.zeros(4, 32, 32))
    with pytest.raises(UserError, match="the start of image 5 of class n01 has shape"):
        list(sample(dit, [item], SHORT, generation_seed=0))


# The method ------------------------------------------------------------------------------------


def raw(row: dict) -> dict:
    return {
        "name": "test",
        "datasets": ["digits"],
        "ipc": [IPC],
        "generation_seeds": [0],
        "runs": [row],
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
    }


@pytest.fixture(scope="module")
def digits_dit(dit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random-weight DiT, its classes named as those of `digits`."""
    folder = tmp_path_factory.mktemp("digits") / "dit"
    shutil.copytree(dit_folder, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(row): f"digit-{row}" for row in range(10)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def job(digits_dit: Path, tmp_path: Path) -> Job:
    rng = torch.Generator().manual_seed(0)
    modes = {name: torch.randn(IPC, 4, 8, 8, generator=rng) for name in DIGITS}
    artifacts.save_tensors(tmp_path / "modes", modes, {})
    return Job(
        dataset=make_dataset("digits"), index=None, classes=DIGITS, ipc=IPC,
        generation_seed=0, settings={**METHODS["d4m"].defaults(), "steps": 10},
        generator=digits_dit, modes=tmp_path / "modes", device="cpu", batch="auto",
    )  # fmt: skip


def distances(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[int]:
    """Largest difference of a pixel, class by class."""
    return [(a[name].int() - b[name].int()).abs().max().item() for name in a]


def test_its_sets_are_valid_seeded_and_independent_of_blocks(job):
    def distil(**more) -> dict[str, Tensor]:
        return d4m.distil(replace(job, **more))

    whole = distil()
    assert list(whole) == DIGITS
    for images in whole.values():
        assert images.shape == (IPC, 3, job.dataset.size, job.dataset.size)
        assert images.dtype == torch.uint8
    assert all(torch.equal(whole[name], again) for name, again in distil().items())
    assert min(distances(whole, distil(generation_seed=1))) > 1
    parts = distil(classes=DIGITS[2:]) | distil(classes=DIGITS[1::-1])
    assert max(distances(whole, parts)) <= 1, "rounding of a uint8"
    assert max(distances(whole, distil(batch=2))) <= 1
    assert min(distances(whole, distil(settings={**job.settings, "strength": 0.3}))) > 1


def test_prototypes_that_are_not_finite_are_named(job):
    bad = {name: torch.full((IPC, 4, 8, 8), torch.nan) for name in DIGITS}
    artifacts.save_tensors(job.modes, bad, {})
    with pytest.raises(UserError, match="modes of class 'digit-0' are not finite"):
        d4m.distil(job)


def test_its_row_in_the_configuration():
    config = resolve(raw({"method": "d4m", "generator": "tiny-dit", "strength": [0.5, 0.7]}))
    assert [r.label for r in config.runs] == [
        "D4M (strength 0.5, CFG 1.5)", "D4M (strength 0.7, CFG 1.5)",
    ]  # fmt: skip
    assert config.runs[1].slug == "d4m_tiny-dit_ddpm_d4m_strength0.7_cfg1.5_steps50"
    assert config.runs[1].settings["modes"] == "d4m"
    with pytest.raises(UserError, match="'d4m' takes no 'lambda'"):
        resolve(raw({"method": "d4m", "generator": "tiny-dit", "lambda": 0.1}))


# Its prototypes --------------------------------------------------------------------------------


def blobs(n: int = 203) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 5, n)[:, None] * 10 + rng.standard_normal((n, 16))).astype("float32")


def test_prototypes_see_each_latent_at_most_once_in_whole_groups(monkeypatch):
    seen = []
    fit = MiniBatchKMeans.partial_fit

    def watched(self, x, *args, **options):
        seen.append((self.batch_size, np.array(x)))
        return fit(self, x, *args, **options)

    monkeypatch.setattr(MiniBatchKMeans, "partial_fit", watched)
    x = blobs()
    found = find_modes(x, "d4m", 5, "n01", 0)
    assert found.modes.shape == (5, 16)
    assert [len(part) for _, part in seen] == [5] * 40, "203 = 40 groups of 5, 3 left over"
    assert {size for size, _ in seen} == {5}
    rows = {row.tobytes() for row in x}
    used = [row.tobytes() for _, part in seen for row in part]
    assert len(set(used)) == 200
    assert set(used) < rows
    assert used != [row.tobytes() for row in x[:200]], "shuffled"


def test_prototypes_come_near_the_clusters():
    x = blobs()
    modes = find_modes(x, "d4m", 20, "n01", 0).modes
    centres = np.arange(5)[:, None] * np.full(16, 10.0)
    nearest = np.linalg.norm(modes[:, None] - centres, axis=2).min(axis=0)
    spread = np.linalg.norm(x - x.mean(axis=0), axis=1).mean()
    assert (nearest < 0.1 * spread).all()


def test_as_many_prototypes_as_latents():
    x = blobs(7)
    modes = find_modes(x, "d4m", 7, "n01", 0).modes
    assert sorted(map(tuple, modes.round(3))) == sorted(map(tuple, x.round(3)))


def test_it_is_put_beside_the_papers_figure_with_its_own_settings_only():
    paper = load_paper(Path(__file__).parents[3] / "workflow/mgd3/resources/paper_results.csv")

    def figures(**settings) -> list[float]:
        (run,) = resolve({
            **raw({"method": "d4m", "generator": "dit", **settings}), "datasets": ["imagenette"],
            "evaluation": [{"protocol": "hard", "networks": ["resnetap10"]}],
        }).runs  # fmt: skip
        key = paper_key(run.method, run.slug, run.generator, run.settings)
        found = published(paper, "imagenette", 10, "hard", "resnetap10", key)
        return [figure.mean for figure in found]

    assert figures() == [60.4]
    assert figures(strength=0.5) == figures(modes="kmeans") == figures(cfg=1.5) == []
