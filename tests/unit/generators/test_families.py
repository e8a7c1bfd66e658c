"""Every family of generators: the pull toward the mode, and the stages from images to images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from mgd3.base.artifacts import load_tensors, tensor_metadata
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data import make_dataset
from mgd3.data.imagenet import imagenet_wnids
from mgd3.data.meaning import imagenet_prompts
from mgd3.diffusion.sampling import SamplingSettings, denoise, draw_noise
from mgd3.generators.base import Generator
from mgd3.generators.conditions import conditions_of
from mgd3.generators.loading import load_generator
from mgd3.generators.registry import get_generator
from twins import make_dit_folder

FAMILIES = ["dit", "ldm", "sd"]
# Not in the order of their rows, and not sorted.
WNIDS = ["n03888257", "n01440764", "n02012849"]


@pytest.fixture(scope="session")
def imagenet_dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DiT of the 1000 classes of ImageNet, which names none of them."""
    return make_dit_folder(tmp_path_factory.mktemp("generator") / "dit1000", num_classes=1000)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    fixtures = {"dit": "imagenet_dit", "ldm": "ldm_folder", "sd": "sd_folder"}
    return request.getfixturevalue(fixtures[request.param])


@pytest.fixture
def generator(folder: Path) -> Generator:
    return load_generator(folder, prompts=["tench", "crane, bird"])


@pytest.fixture(scope="session")
def own_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of two photographs, 12 for training and 2 for test in each of three wnid folders."""
    root = tmp_path_factory.mktemp("photographs")
    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for number, wnid in enumerate(WNIDS):
        for split, count in (("train", 12), ("val", 2)):
            (root / split / wnid).mkdir(parents=True)
            for k in range(count):
                photograph = photographs[number % 2]
                top, left = rng.integers(0, 300), rng.integers(0, 500)
                crop = photograph[top : top + 60 + 10 * number, left : left + 80]
                Image.fromarray(crop).save(root / split / wnid / f"{k}.png")
    return root


def own_dataset(root: Path, **more: object) -> str:
    return json.dumps({"name": "own", "root": str(root), "validation_fraction": 0, **more})


def distances(generator: Generator, lambdas: list[float]) -> list[float]:
    """Mean final distance to the mode, with the same noise for each lambda."""
    rng = torch.Generator().manual_seed(0)
    modes = torch.randn(2, *generator.latent_shape, generator=rng)
    noise = draw_noise([rng] * 2, generator.latent_shape, 8)
    found = []
    for lambda_ in lambdas:
        chosen = SamplingSettings(
            steps=8, lambda_=lambda_, t_sg=0, cfg=1.5, cfg_channels="all", clamp=3.0
        )
        latents = denoise(generator, torch.tensor([0, 1]), noise, modes, chosen)
        found.append((latents - modes).flatten(1).norm(dim=1).mean().item())
    return found


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_guidance_pulls_toward_the_mode(generator):
    found = distances(generator, [0.0, 0.1, 0.4])
    assert found == sorted(found, reverse=True), found
    assert found[-1] < 0.95 * found[0], found


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_bfloat16_networks_sample_near_float32(folder):
    exact, rough = (
        load_generator(folder, prompts=["tench"], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    x = torch.randn(2, *exact.latent_shape, generator=torch.Generator().manual_seed(2))
    arguments = (x, torch.tensor([400, 400]), torch.tensor([0, exact.null_label]))
    with torch.no_grad():
        one, other = exact.predict(*arguments)[0], rough.predict(*arguments)[0]
    assert other.dtype == torch.float32
    assert (one - other).norm() < 0.05 * one.norm()


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
@pytest.mark.parametrize("method", ["mgd3", "manifoldgd", "d4m", "unguided", "decoded-modes"])
def test_images_go_through_every_stage(folder, method, own_root, tmp_path):
    """index, latents, modes, sample and collect as a user runs them, at another size at the end."""
    dataset = own_dataset(own_root, size=32)
    classes, cpu = json.dumps(WNIDS), ("--device", "cpu", "--threads", "1")
    index, latents = str(tmp_path / "index.parquet"), str(tmp_path / "latents.safetensors")
    modes, block = str(tmp_path / "modes.safetensors"), str(tmp_path / "block0.safetensors")
    common = ("--dataset", dataset, "--generator", str(folder), "--classes", classes, *cpu)
    settings = {
        "variant": "ddpm",
        "cfg": 2.0,
        "cfg_channels": "all",
        "steps": 3,
        "spacing": "auto",
        "precision": "float32",
    }
    if method in ("mgd3", "manifoldgd"):
        settings |= {"modes": "kmeans", "lambda": 0.1, "t_sg": 500, "stop_unit": "timestep"}
    if method == "manifoldgd":
        settings |= {"manifold_rule": "code", "manifold_scale": 0.1, "manifold_radius": 0.1}
        settings |= {"tangent_dim": 3}
    if method == "d4m":
        settings |= {"modes": "kmeans", "strength": 0.7}
    if method == "decoded-modes":
        settings = {"modes": "kmeans"}
    assert main(["index", "--dataset", dataset, "--output", index]) == 0
    if method != "unguided":
        assert main(["latents", *common, "--size", "32", "--output", latents]) == 0
        discovery = ("--discovery", "kmeans", "--ipc", "2", "--generation-seed", "0")
        discover = ["modes", "--latents", latents, "--index", index, *discovery]
        assert main([*discover, "--output", modes]) == 0
    guided = () if method == "unguided" else ("--modes", modes)
    sample = ["sample", *common, "--method", method, "--settings", json.dumps(settings)]
    sample += ["--index", index, "--ipc", "2", "--generation-seed", "0", *guided]
    assert main([*sample, "--output", block]) == 0
    images, manifest = tmp_path / "images.safetensors", str(tmp_path / "manifest.parquet")
    collect = ["collect", "--blocks", block, "--classes", classes]
    assert main([*collect, "--output", str(images), "--manifest", manifest]) == 0
    made = load_tensors(images)
    assert made["images"].shape == (6, 3, 32, 32)
    assert made["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    assert made["images"].float().std() > 1
    assert tensor_metadata(images)["classes"] == WNIDS


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_images_are_made_at_the_size_of_the_data_set(folder, own_root, tmp_path):
    dataset, block = own_dataset(own_root, size=16), str(tmp_path / "block0.safetensors")
    index = str(tmp_path / "index.parquet")
    assert main(["index", "--dataset", dataset, "--output", index]) == 0
    settings = {"cfg": 1.0, "cfg_channels": "all", "steps": 2, "variant": "ddim"}
    settings |= {"spacing": "auto", "precision": "float32"}
    sample = ["sample", "--dataset", dataset, "--index", index, "--generator", str(folder)]
    sample += ["--method", "unguided", "--settings", json.dumps(settings), "--ipc", "1"]
    sample += ["--classes", json.dumps(WNIDS), "--generation-seed", "0", "--device", "cpu"]
    assert main([*sample, "--output", block]) == 0
    assert {tuple(t.shape) for t in load_tensors(block).values()} == {(1, 3, 16, 16)}


def test_label_rows_of_imagenet_follow_the_fixed_order_not_the_folders(imagenet_dit, own_root):
    dataset = make_dataset(json.loads(own_dataset(own_root)))
    conditions = conditions_of(imagenet_dit, dataset, WNIDS)
    assert conditions.rows == {"n03888257": 701, "n01440764": 0, "n02012849": 134}
    assert conditions.prompts is None
    backwards = conditions_of(imagenet_dit, dataset, WNIDS[::-1])
    assert backwards.rows == conditions.rows


def test_prompts_follow_the_wnids_and_cranes_are_told_apart(sd_folder, own_root):
    dataset = make_dataset(json.loads(own_dataset(own_root)))
    rows, prompts = conditions_of(sd_folder, dataset, WNIDS)
    assert rows == {"n03888257": 0, "n01440764": 1, "n02012849": 2}
    assert prompts == ["parachute, chute", "tench, Tinca tinca", "crane, bird"]
    known = imagenet_prompts()
    assert set(known) == set(imagenet_wnids())
    assert len(set(known.values())) == 1000, "no two classes share a prompt"
    assert known["n03126707"] == "crane, construction machine"


def test_classes_without_a_meaning_are_refused_before_any_job(imagenet_dit, sd_folder, own_root):
    dataset = make_dataset("digits")
    with pytest.raises(UserError, match="knows the classes of ImageNet, and class 'digit-0'"):
        conditions_of(imagenet_dit, dataset, dataset.source.classes())
    with pytest.raises(UserError, match="class 'digit-0' of digits has no prompt"):
        conditions_of(sd_folder, dataset, dataset.source.classes())


def test_a_generators_own_names_come_first(dit_folder, tmp_path):
    (tmp_path / "transformer").mkdir()
    for file in ("model_index.json", "transformer/config.json"):
        (tmp_path / file).write_text((dit_folder / file).read_text())
    index = json.loads((tmp_path / "model_index.json").read_text())
    names = [f"digit-{9 - row}" for row in range(10)]
    index["id2label"] = {str(row): name for row, name in enumerate(names)}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    dataset = make_dataset("digits")
    rows, _ = conditions_of(tmp_path, dataset, ["digit-0", "digit-7"])
    assert rows == {"digit-0": 9, "digit-7": 2}


def test_a_stated_wnid_wins_over_a_name_and_a_name_that_stands_twice_is_refused(
    imagenet_dit, dit_folder, tmp_path
):
    def named(folder: Path, names: dict[str, str]) -> Path:
        (tmp_path / folder.name / "transformer").mkdir(parents=True)
        for file in ("model_index.json", "transformer/config.json"):
            (tmp_path / folder.name / file).write_text((folder / file).read_text())
        index = tmp_path / folder.name / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}))
        return tmp_path / folder.name

    def classes(**wnids: str):
        root = tmp_path / "data"
        for name in ("crane", "tench"):
            (root / "train" / name).mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{name}\t{wnid}\n" for name, wnid in wnids.items())
        (tmp_path / "classes.tsv").write_text(f"class\twnid\n{rows}")
        settings = {"classes": str(tmp_path / "classes.tsv")} if wnids else {}
        return make_dataset({"name": "own", "root": str(root), **settings})

    folder = named(imagenet_dit, {"0": "tench", "134": "crane", "517": "crane", "9": "ostrich"})
    for wnid, row in (("n02012849", 134), ("n03126707", 517)):
        rows, _ = conditions_of(folder, classes(crane=wnid), ["tench", "crane"])
        assert rows == {"tench": 0, "crane": row}
    # The folder's name is that of another row than the one stated.
    rows, _ = conditions_of(folder, classes(tench="n01518878"), ["tench"])
    assert rows == {"tench": 9}
    with pytest.raises(UserError, match=r"2 classes that are called 'crane': rows 134, 517"):
        conditions_of(folder, classes(), ["tench", "crane"])
    # A generator of its own classes, some of which it calls by their wnids.
    other = named(dit_folder, {"3": "n01440764", "4": "crane", "5": "crane"})
    assert conditions_of(other, classes(tench="n01440764"), ["tench"]).rows == {"tench": 3}
    with pytest.raises(UserError, match=r"called 'crane'(.|\n)*id2label"):
        conditions_of(other, classes(crane="n02012849"), ["crane"])


def test_stable_diffusions_modes_are_found_in_samples_of_the_posterior(
    sd_folder, own_root, tmp_path
):
    dataset, index = own_dataset(own_root, size=32), str(tmp_path / "index.parquet")
    latents = str(tmp_path / "latents.safetensors")
    assert main(["index", "--dataset", dataset, "--output", index]) == 0
    encode = ["latents", "--dataset", dataset, "--generator", str(sd_folder), "--size", "32"]
    encode += ["--classes", json.dumps(WNIDS), "--device", "cpu"]
    assert main([*encode, "--output", latents]) == 0
    stored = load_tensors(latents)
    found = {}
    for draw in ("mean", "sample"):
        modes = str(tmp_path / f"{draw}.safetensors")
        discover = ["modes", "--latents", latents, "--index", index, "--discovery", "random"]
        discover += ["--ipc", "12", "--generation-seed", "0", "--draw", draw]
        assert main([*discover, "--output", modes]) == 0
        found[draw] = load_tensors(modes)
        rows = tensor_metadata(modes)["images"]
    for name in WNIDS:
        order = [tensor_metadata(latents)["images"][name].index(key) for key in rows[name]]
        mean, sigma = stored[f"mean/{name}"], (0.5 * stored[f"logvar/{name}"]).exp()
        assert torch.equal(found["mean"][name], mean[order])
        z = (found["sample"][name] - mean[order]) / sigma[order]
        assert abs(z.mean()) < 0.1
        assert abs(z.std() - 1) < 0.1
    assert get_generator("sd").draw == get_generator(str(sd_folder)).draw == "sample"
    assert get_generator("dit").draw == "mean"
