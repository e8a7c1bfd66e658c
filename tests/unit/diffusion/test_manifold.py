"""ManifoldGD: the tangent plane against its definition, the pull, and what an image depends on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.base.seeding import torch_generator
from mgd3.data import make_dataset
from mgd3.diffusion.guidance import Guidance, onto
from mgd3.diffusion.manifold import Manifold, ManifoldSettings, tangent_plane
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.diffusion.schedules import Coefficients, respaced
from mgd3.generators.base import Generator
from mgd3.generators.loading import load_generator
from mgd3.methods import METHODS, Job, manifoldgd
from mgd3.planning.config import resolve

CLASSES = {"n01": 3, "n02": 7, "n03": 0}
DIGITS = ["digit-0", "digit-7", "digit-3"]
IPC = 3
SHORT = SamplingSettings(steps=8, t_sg=3, manifold=ManifoldSettings())


@pytest.fixture(scope="module")
def generator(dit_folder: Path) -> Generator:
    return load_generator(dit_folder)


def make_items(names: list[str] | None = None) -> list[Item]:
    return [
        Item(key, CLASSES[key], torch.randn(4, 8, 8, generator=torch_generator("mode", key, k)), k)
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


# The plane -------------------------------------------------------------------------------------


def test_the_plane_is_that_of_a_full_pca_of_the_nearest_points():
    """Against the covariance's own eigenvectors, in all dimensions."""
    rng = np.random.default_rng(0)
    x, points = rng.normal(size=(2, 40)), rng.normal(size=(2, 50, 40))
    arguments = (torch.tensor(a, dtype=torch.float32) for a in (x, points))
    mean, tangent, nearest = tangent_plane(*arguments, 3)
    for k in range(2):
        distances = np.linalg.norm(points[k] - x[k], axis=1)
        chosen = points[k][np.argsort(distances)[:12]]
        _, vectors = np.linalg.eigh(np.cov(chosen.T))
        projector = vectors[:, -3:] @ vectors[:, -3:].T
        assert nearest[k] == pytest.approx(distances.min(), rel=1e-5)
        np.testing.assert_allclose(mean[k], chosen.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(tangent[k].T @ tangent[k], projector, atol=1e-4)
        np.testing.assert_allclose(tangent[k] @ tangent[k].T, np.eye(3), atol=1e-4)


def test_points_on_a_plane_have_that_plane():
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 2, generator=rng)).Q
    points = (torch.randn(1, 60, 2, generator=rng) @ basis.T) + 5
    x = torch.randn(1, 30, generator=rng)
    mean, tangent, _ = tangent_plane(x, points, 2)
    torch.testing.assert_close(tangent[0].T @ tangent[0], basis @ basis.T, rtol=0, atol=1e-4)
    inside = (basis @ torch.tensor([1.0, -2.0]))[None]
    torch.testing.assert_close(onto(tangent, inside), inside, rtol=0, atol=1e-4)
    away = x - mean
    normal = away - onto(tangent, away)
    assert (normal @ basis).abs().max() < 1e-4


def coefficients(i: int, steps: int = 50) -> Coefficients:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    schedule = respaced(torch.cumprod(1 - betas, 0), steps)
    return Coefficients(*schedule.table("cpu")[i].unbind())


@pytest.mark.parametrize("i", [49, 30])
def test_the_pull_is_normal_to_the_plane_toward_it_and_of_the_scales_length(i):
    rng = torch.Generator().manual_seed(1)
    modes, x = (torch.randn(2, 4, 8, 8, generator=rng) for _ in range(2))
    settings = ManifoldSettings(scale=0.3)
    c = coefficients(i)

    def made(manifold: Manifold) -> Guidance:
        return manifold.at(Guidance(modes, 0.1), x, i, c)

    def clouds() -> list[torch.Generator]:
        return [torch_generator("manifold", 0, "n01", k) for k in range(2)]

    guidance = made(Manifold(settings, clouds(), 50, 25))
    assert guidance.tangent is None
    # In 256 dimensions the nearest noised point is far, so tanh(distance / bandwidth) is 1.
    torch.testing.assert_close(guidance.shift.flatten(1).norm(dim=1), torch.full((2,), 0.3))
    projected = made(Manifold(replace(settings, rule="paper"), clouds(), 50, 25))
    assert projected.shift is None
    shift = guidance.shift.flatten(1)
    assert onto(projected.tangent, shift).norm() < 1e-4, "the same cloud, so the same plane"
    cloud = Manifold(settings, clouds(), 50, 25)._cloud(modes, settings.radius_at(i, 50, 25), c)
    mean = tangent_plane(x.flatten(1), cloud, 3)[0]
    away = x.flatten(1) - mean
    assert ((away * shift).sum(dim=1) < 0).all()
    assert (projected.tangent.shape, cloud.shape) == ((2, 3, 256), (2, 300, 256))


def test_the_cloud_is_the_neighbourhood_of_the_mode_at_the_noise_of_the_step():
    mode = 3 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    for i in (49, 20, 0):
        c, rng = coefficients(i), torch_generator("manifold", 0, "n01", 0)
        cloud = Manifold(ManifoldSettings(), [rng], 50, 0)._cloud(mode, 0.2, c)
        centre = c.sqrt_abar * mode.flatten(1)
        # Radii of mean square .0183 in 256 dimensions, and the noise of the step.
        deviation = (0.0183 / 256 + c.sqrt_one_minus_abar.item() ** 2) ** 0.5
        assert (cloud - centre[:, None]).pow(2).mean().sqrt() == pytest.approx(deviation, rel=0.02)
        assert (cloud.mean(dim=1) - centre).abs().max() < 5 * deviation / 300**0.5


def test_without_noise_the_points_lie_within_the_radius():
    mode = torch.zeros(1, 4, 8, 8)
    c = coefficients(0)._replace(sqrt_abar=torch.ones(()), sqrt_one_minus_abar=torch.zeros(()))
    rng = torch_generator("manifold", 0, "n01", 0)
    radii = Manifold(ManifoldSettings(), [rng], 50, 0)._cloud(mode, 0.3, c)[0].norm(dim=1)
    torch.testing.assert_close(radii[:150], torch.linspace(0.1, 0.3, 150))
    assert radii[150:].min() < 0.1 < 0.2 < radii[150:].max() <= 0.3


def test_the_radius_shrinks_to_its_own_within_five_steps():
    settings = ManifoldSettings(radius=0.1)
    radii = [settings.radius_at(i, 50, 25) for i in reversed(range(50))]
    assert radii[0] == pytest.approx(0.2)
    assert radii[2] == pytest.approx(0.1 * (1 + (np.exp(0.6) - 1) / (np.e - 1)))
    assert radii == sorted(radii, reverse=True)
    assert set(radii[5:]) == {0.1}
    assert settings.radius_at(49, 50, 48) == pytest.approx(0.2), "a short time of guidance"
    assert settings.radius_at(48, 50, 48) == 0.1


# Sampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["ddpm", "ddim-x0"])
def test_scale_zero_is_mgd3_and_another_scale_is_not(generator, variant):
    items = make_items()
    settings = replace(SHORT, variant=variant)
    mgd3 = run(generator, items, replace(settings, manifold=None))
    off = run(generator, items, replace(settings, manifold=ManifoldSettings(scale=0)))
    assert all(torch.equal(off[key], mgd3[key]) for key in mgd3)
    on = run(generator, items, settings)
    assert all(not torch.equal(on[key], mgd3[key]) for key in mgd3)


def test_it_is_paired_with_the_unguided_run(generator):
    """The clouds are drawn apart, so that with nothing to pull the noise is the unguided one's."""
    items = make_items()
    bare = [item._replace(mode=None) for item in items]
    settings = replace(SHORT, lambda_=0.0, manifold=ManifoldSettings(scale=0))
    off, unguided = run(generator, items, settings), run(generator, bare, SHORT)
    assert_same(off, unguided)
    late = run(generator, items, replace(SHORT, t_sg=8))
    assert all(torch.equal(late[key], unguided[key]) for key in unguided), "no guided step"


def test_the_papers_rule_keeps_only_what_lies_in_the_plane(generator):
    items = make_items()
    unguided = run(generator, [item._replace(mode=None) for item in items])
    moved = {}
    for rule in ("code", "paper"):
        made = run(generator, items, replace(SHORT, manifold=ManifoldSettings(rule=rule, scale=0)))
        moved[rule] = sum((made[key] - unguided[key]).norm().item() for key in made)
    # 3 of 256 dimensions.
    assert 0 < moved["paper"] < 0.5 * moved["code"]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("rule", ["code", "paper"])
def test_the_batch_does_not_matter(generator, batch, rule):
    settings = replace(SHORT, manifold=ManifoldSettings(rule=rule))
    whole = run(generator, make_items(), settings)
    assert_same(run(generator, make_items(), settings, batch=batch), whole)


def test_permuting_the_classes_permutes_the_images_and_nothing_else(generator):
    permuted = make_items(["n03", "n01", "n02"])
    assert_same(run(generator, permuted, batch=4), run(generator, make_items(), batch=4))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rule": "papr"}, "paper"),
        ({"scale": -1.0}, "manifold_scale"),
        ({"scale": float("nan")}, "manifold_scale"),
        ({"radius": 0.0}, "manifold_radius"),
        ({"tangent_dim": 12}, "1..11"),
    ],
)
def test_options_out_of_range_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        ManifoldSettings(**options)


@pytest.mark.parametrize("variant", ["ddim", "ddim-sqrt-abar"])
def test_variants_without_it_are_refused_before_any_job(variant):
    with pytest.raises(UserError, match="ddpm or ddim-x0"):
        replace(SHORT, variant=variant)
    with pytest.raises(UserError, match="ddpm or ddim-x0"):
        resolve(raw({"method": "manifoldgd", "generator": "tiny-dit", "variant": variant}))


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


def test_its_row_in_the_configuration():
    row = {"method": "manifoldgd", "generator": "tiny-dit"}
    (run,) = resolve(raw(row)).runs
    assert run.label == "ManifoldGD (λ=0.1, t_SG=25, CFG 1.5)"
    assert run.settings["modes"] == "divisive"
    (run,) = resolve(raw({**row, "modes": "kmeans", "manifold_rule": "paper"})).runs
    assert run.label == "ManifoldGD (kmeans modes, λ=0.1, t_SG=25, projected guidance, CFG 1.5)"


def test_its_sets_are_valid_seeded_and_independent_of_blocks(dit_folder, tmp_path):
    folder = tmp_path / "dit"
    shutil.copytree(dit_folder, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(row): f"digit-{row}" for row in range(10)}
    (folder / "model_index.json").write_text(json.dumps(index))
    rng = torch.Generator().manual_seed(0)
    modes = {name: torch.randn(IPC, 4, 8, 8, generator=rng) for name in DIGITS}
    artifacts.save_tensors(tmp_path / "modes", modes, {})
    job = Job(
        dataset=make_dataset("digits"), index=None, classes=DIGITS, ipc=IPC, generation_seed=0,
        settings={**METHODS["manifoldgd"].defaults(), "steps": 8, "t_sg": 3}, generator=folder,
        modes=tmp_path / "modes", device="cpu", batch="auto",
    )  # fmt: skip

    def distil(**more) -> dict[str, Tensor]:
        return manifoldgd.distil(replace(job, **more))

    def apart(other: dict[str, Tensor]) -> list[int]:
        return [(whole[name].int() - other[name].int()).abs().max().item() for name in whole]

    whole = distil()
    for images in whole.values():
        assert images.shape == (IPC, 3, job.dataset.size, job.dataset.size)
        assert images.dtype == torch.uint8
    assert max(apart(distil())) == 0
    assert min(apart(distil(generation_seed=1))) > 1
    parts = distil(classes=DIGITS[2:]) | distil(classes=DIGITS[1::-1])
    assert max(apart(parts)) <= 1, "rounding of a uint8"
