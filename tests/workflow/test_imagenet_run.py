"""ImageNet's subsets through the whole workflow, on a small ImageNet of real pictures."""

from __future__ import annotations

import csv
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from fake_imagenet import make_imagenet, many_classes
from mgd3.cli import main
from mgd3.data.imagenet import subsets
from mgd3.planning.config import resolve
from originals import OriginalDiT
from twins import make_dit_folder
from workplace import Workplace, tiny

pytestmark = pytest.mark.slow

NETTE, WOOF = subsets()["imagenette"], subsets()["imagewoof"]
SMALL = {"size": 32, "incomplete": "warn"}


def config(*names: str, **changes: Any) -> dict[str, Any]:
    sampler = {"generator": "./dit", "steps": 4, "cfg": 1.5}
    runs = [
        {"method": "random"},
        {"method": "mgd3", "lambda": [0.1], "t_sg": [2], **sampler},
    ]
    return tiny(datasets=[{"name": name, **SMALL} for name in names], **{"runs": runs, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """ImageNette from its folder to the table, with a DiT of ImageNet's 1,000 label rows."""
    place = Workplace.make(tmp_path_factory.mktemp("imagenet") / "place")
    place.shorten()
    make_imagenet(place.path / "data" / "imagenet", [*NETTE, *WOOF], train=4)
    make_dit_folder(place.path / "dit", num_classes=1000)
    place.run(config("imagenette"))
    return place


@pytest.fixture
def again(done: Workplace, tmp_path: Path) -> Workplace:
    return done.copy(tmp_path / "again")


def latents(place: Workplace) -> dict[str, int]:
    return {
        name: time
        for name, time in place.times().items()
        if "/latents/" in name and name.endswith(".safetensors")
    }


def test_imagenette_runs_from_folders_to_the_table(done: Workplace) -> None:
    with (done.path / "results/reports/tiny/tables/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["dataset"] for row in rows} == {"imagenette"}
    assert len({row["run"] for row in rows}) == 2
    slug = resolve(config("imagenette") | {"runs": [{"method": "random"}]}).runs[0].slug
    (images,) = done.path.glob(
        f"results/imagenette/distilled/{slug}/ipc2/gen0~*/images.safetensors"
    )
    with safe_open(images, framework="np") as file:
        assert file.get_tensor("images").shape == (20, 3, 32, 32)
        assert all(wnid in file.metadata()["mgd3"] for wnid in NETTE)
    assert "n/a" in (done.path / "results/reports/tiny/tables/results.md").read_text()
    assert "Nothing to be done" in done.snakemake(config("imagenette"))[1]


def test_every_family_runs_from_its_files_to_the_table(
    again: Workplace, sd_folder: Path, ldm_folder: Path
) -> None:
    """Original checkpoints of DiT and latent diffusion, converted, and a folder of SD."""
    torch.manual_seed(0)
    torch.save(OriginalDiT(heads=2, classes=1000).state_dict(), again.path / "dit.pt")
    arguments = ["--checkpoint", str(again.path / "dit.pt"), "--vae", str(again.path / "dit/vae")]
    arguments += ["--heads", "2", "--folder", str(again.path / "converted")]
    assert main(["convert", "--family", "dit", *arguments]) == 0
    shutil.copytree(ldm_folder, again.path / "ldm")
    shutil.copytree(sd_folder, again.path / "sd")
    guided = {"method": "mgd3", "lambda": [0.1], "steps": 4, "cfg": 1.5}
    runs = [
        {**guided, "generator": "./converted", "t_sg": [2]},
        {**guided, "generator": "./ldm", "t_sg": [2]},
        {**guided, "generator": "./sd", "t_sg": [500], "stop_unit": "timestep"},
    ]
    choice = config("imagenette", runs=runs, ipc=[1])
    jobs = again.run(choice)
    assert jobs["sample"] == 6  # two blocks each
    assert jobs["collect"] == jobs["evaluate"] == 3
    with (again.path / "results/reports/tiny/tables/results.csv").open() as file:
        rows = {row["generator"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"./converted", "./ldm", "./sd"}
    assert all(0 <= float(row["last_mean"]) <= 100 for row in rows.values())


def test_another_subset_encodes_only_the_classes_that_are_new(again: Workplace) -> None:
    before = latents(again)
    both = config("imagenette", "imagewoof")
    jobs = again.planned(both)
    # Blocks hold the classes that are in the same subsets: ImageWoof is 7 + 2 + 1.
    assert (jobs["latents"], jobs["index"], jobs["modes"]) == (3, 1, 1)
    assert again.planned(config("imagewoof"))["latents"] == 3
    again.run(both, "--until", "modes")
    after = latents(again)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 3
    for order in (config("imagewoof", "imagenette"), config("imagewoof")):
        assert "latents" not in again.planned(order)
    held = {
        key.partition("/")[2]
        for name in after.keys() - before.keys()
        for key in safe_open(again.path / name, framework="np").keys()  # noqa: SIM118
    }
    assert held == set(WOOF)

    # All other classes beside them; images that were there stay, or their latents would not.
    many, root = again.path / "many", again.path / "data" / "imagenet"
    many_classes(many, train=3, val=1)
    for folder in root.glob("*/*/"):
        other = many / folder.relative_to(root)
        shutil.rmtree(other)
        folder.rename(other)
    shutil.rmtree(root)
    many.rename(root)
    # Two of the 100 classes are ImageWoof's; 10 are ImageIDC's, 2 are also in ImageNet-B's.
    assert again.planned(config("imagenet100"))["latents"] == 4
    # All 1,000 classes in 30 blocks, of which 4 are there.
    assert again.planned(config("imagenet1k"))["latents"] == 26


def test_a_thousand_classes_are_planned_in_seconds(fresh: Workplace) -> None:
    many_classes(fresh.path / "data" / "imagenet", train=11, val=1)
    sampler = {"generator": "dit", "steps": 50}
    runs = [
        {"method": "random"},
        {"method": "unguided", **sampler},
        {"method": "mgd3", "lambda": [0.1], "t_sg": [25], **sampler},
    ]
    evaluation = [{"protocol": "hard", "networks": ["resnet18"], "training_seeds": 1}]
    choice = config("imagenet1k", runs=runs, ipc=[10], generation_seeds=[0, 1, 2])
    choice |= {"evaluation": evaluation, "resources": {"classes_per_block": 10}}
    # Processor time, so that what else the machine does is not counted.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = fresh.planned(choice)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert jobs["latents"] == 30
    # Three methods, three seeds, a hundred blocks of ten classes.
    assert jobs["sample"] == 900
    assert sum(jobs.values()) < 1000, jobs
    assert seconds < 15
