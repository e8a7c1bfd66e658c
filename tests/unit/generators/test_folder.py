"""One reading of a generator's folder: the plan refuses what loading would, and only that."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from mgd3.base.errors import UserError
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.folder import check_folder, pipeline_files, vae_files
from mgd3.generators.loading import load_generator
from mgd3.generators.registry import VAE_FILES, get_generator
from mgd3.generators.vae import load_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE = f"vae/{WEIGHTS}"


@pytest.fixture
def folder(dit_folder, tmp_path) -> Path:
    return shutil.copytree(dit_folder, tmp_path / "my dit")


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def shard(folder: Path) -> None:
    """Write the VAE anew, in several files."""
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    (folder / VAE).unlink()
    vae.save_pretrained(folder / "vae", max_shard_size="30KB")


def only_bin(folder: Path) -> None:
    weights = load_file(folder / VAE)
    (folder / VAE).unlink()
    torch.save(weights, folder / "vae" / "diffusion_pytorch_model.bin")


def only_fp16(folder: Path) -> None:
    (folder / VAE).rename(folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")


def without_a_shard(folder: Path) -> None:
    shard(folder)
    sorted((folder / "vae").glob("*-of-*.safetensors"))[1].unlink()


def pointer(folder: Path) -> None:
    (folder / VAE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def scheduler(**values: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "scheduler" / "scheduler_config.json", **values)


def config(part: str, **values: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / part / "config.json", **values)


def text(file: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(content)


def flow_matching(folder: Path) -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**flow, "shift": 3.0}))


def edm(folder: Path) -> None:
    other = {"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(other))


REFUSED = {
    "only bin": (only_bin, r"no weights in .*vae.*only diffusion_pytorch_model\.bin, a pickle"),
    "only fp16": (only_fp16, r"only the variant diffusion_pytorch_model\.fp16\.safetensors"),
    "a shard": (without_a_shard, r"lacks 1 of \d+ files of its weights: .*-00002-of-"),
    "a pointer": (pointer, "holds no weights, but git's pointer(.|\n)*git lfs pull"),
    "a list": (text("vae/config.json", "[1]"), "not JSON of keys and values, but a list"),
    "null": (text("transformer/config.json", "null"), "keys and values, but null"),
    "no JSON": (text("scheduler/scheduler_config.json", "{"), "is not JSON"),
    "NaN": (text("vae/config.json", '{"scaling_factor": NaN}'), "scaling_factor is nan"),
    "infinite": (scheduler(beta_end=float("inf")), "beta_end is inf"),
    "zero scale": (config("vae", scaling_factor=0), "scaling_factor is 0"),
    "negative scale": (config("vae", scaling_factor=-0.2), r"scaling_factor is -0\.2"),
    "a word": (config("vae", shift_factor="0"), "shift_factor is '0'"),
    "no widths": (config("vae", block_out_channels=[]), r"block_out_channels is \[\]"),
    "flow matching": (flow_matching, "FlowMatchEuler.* has no schedule of betas: .*flow matching"),
    "flow sigmas": (scheduler(use_flow_sigmas=True), "has no schedule of betas: .*flow matching"),
    "EDM": (edm, "EDMEulerScheduler, has no schedule of betas"),
    "a large beta": (scheduler(beta_end=2.0), r"has beta_end 2\.0"),
    "no betas": (scheduler(trained_betas=[]), "has trained_betas that are no numbers"),
    "no steps": (scheduler(num_train_timesteps=0), "has num_train_timesteps 0"),
    "layers": (config("transformer", num_layers=10**9), "num_layers is 1,000,000,000, more than"),
    "classes": (config("transformer", num_embeds_ada_norm=10**9), "num_embeds_ada_norm is 1,000,"),
    "a side": (config("transformer", sample_size=10**6), "sample_size is 1,000,000"),
    "half a layer": (config("transformer", num_layers=2.5), r"num_layers is 2\.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_plan_and_the_loader_refuse_a_folder_in_the_same_words(folder, case):
    harm, message = REFUSED[case]
    harm(folder)
    told = []
    for look in (lambda: get_generator(str(folder)), lambda: load_generator(folder)):
        with pytest.raises(UserError, match=message) as caught:
            look()
        assert caught.value.mend
        told.append(caught.value.what.rpartition(": the generator's")[2])
    assert told[0] == told[1]


@pytest.mark.parametrize("harm", [only_bin, only_fp16])
def test_the_conversion_that_is_named_does_it(folder, harm):
    expected = load_file(folder / VAE)
    harm(folder)
    with pytest.raises(UserError) as caught:
        check_folder(folder)
    command = re.search(r'python -c "(.*)"', caught.value.mend)
    subprocess.run([sys.executable, "-c", command[1]], check=True)
    found = load_file(folder / VAE)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert check_folder(folder) == "dit"


def test_a_sharded_vae_is_planned_and_loaded(folder):
    before = load_vae(folder).vae.state_dict()
    shard(folder)
    files = vae_files(folder)
    assert len(files) > 3 and f"{VAE}.index.json" in files and VAE not in files
    assert all((folder / file).is_file() for file in files)
    entry = get_generator(str(folder))
    assert set(files) <= set(entry.files)
    after = DiTGenerator.load(folder).codec.vae.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_files_of_a_folder_are_those_that_are_read(folder):
    for other in ("vae/diffusion_pytorch_model.fp16.safetensors", "vae/notes.txt", "README.json"):
        (folder / other).write_text("{}")
    files = pipeline_files(folder, "dit")
    assert set(VAE_FILES) <= set(files)
    assert not {"vae/notes.txt", "README.json"} & set(files)
    assert not any("fp16" in file for file in files)
    for file in files:
        (folder / file).rename(folder / "away")
        with pytest.raises(UserError):
            check_folder(folder)
        (folder / "away").rename(folder / file)
    assert check_folder(folder) == "dit"


def test_of_a_vae_that_is_yet_to_be_made_the_files_are_known(tmp_path):
    assert vae_files(tmp_path / "later") == VAE_FILES


@pytest.mark.parametrize("made", ["sd_folder", "ldm_folder"])
def test_the_other_families_are_read_alike(made, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(made), tmp_path / "x")
    family = made.partition("_")[0]
    assert check_folder(folder) == family
    files = get_generator(str(folder)).files
    assert all((folder / file).is_file() for file in files)
    weights = next(f for f in files if f.startswith("unet/") and f.endswith(".safetensors"))
    (folder / weights).unlink()
    with pytest.raises(UserError, match=r"no weights in .*unet"):
        get_generator(str(folder))
