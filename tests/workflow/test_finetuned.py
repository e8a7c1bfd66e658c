"""A generator fine-tuned by the workflow on classes that its base has never heard of."""

from __future__ import annotations

import json

import pytest
from diffusers import AutoencoderKL, DiTPipeline
from safetensors.numpy import load_file

from mgd3.base.artifacts import save_folder_header
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS
from twins import make_dit, make_scheduler
from workplace import Workplace, own_config, own_images

# About a minute of one core: six jobs, at the size of the real images.
pytestmark = pytest.mark.slow


def test_own_classes_through_a_fine_tuned_generator(
    fresh: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fresh.path)  # where the layout below looks for the images
    own_images(fresh.path / "own images", {"one": 24, "two": 24})
    # A twin of DiT-XL/2 where the fetched one would be: 256 px, latents 4 x 32 x 32, 1000 classes.
    run = {"method": "mgd3", "generator": "dit-finetuned", "steps": 3, "t_sg": 1}
    config = {**own_config(ipc=[1]), "runs": [run]}
    folder = fresh.path / fresh.paths(config, "fetch_generator")[0]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    dit = make_dit(num_classes=1000, sample_size=32)
    DiTPipeline(dit, vae, make_scheduler()).save_pretrained(folder)
    (folder / "fetched.json").write_text("{}")
    dataset, hub = resolve(config).datasets[0].name, Layout(resolve(config), fresh.path, VERSIONS)
    save_folder_header(folder, hub.ids.generator(dataset, "dit"))
    (made,) = fresh.paths(config, "collect")
    target = f"{made}/images.safetensors"
    planned = fresh.run(config, target)
    assert planned["finetune_generator"] == 1 and not any("fetch" in job for job in planned)
    (tuned,) = (fresh.path / "results/cache/generators").glob("own/dit-finetuned~*")
    told = json.loads((tuned / "training.json").read_text())
    assert told["base"] == "dit" and told["new_classes"] == ["one", "two"]
    assert told["steps"] == 8 * (told["images"] // 8) > 0
    index = json.loads((tuned / "model_index.json").read_text())
    assert index["id2label"] == {"0": "one", "1": "two"}
    held = load_file(fresh.path / target)
    assert held["images"].shape == (2, 3, 32, 32)
    assert fresh.planned(config, target) == {}
