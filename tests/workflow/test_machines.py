"""One machine with several GPUs; several clones with one cache."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fake_imagenet import make_imagenet
from mgd3.data.imagenet import subsets
from workplace import Workplace, own_images, parse_jobs, tiny

pytestmark = pytest.mark.slow

ON_AUTO = {"device": "auto", "batch": "auto", "classes_per_block": 5}


def test_jobs_at_the_same_time_use_different_gpus(again: Workplace) -> None:
    config = tiny(runs=[{"method": "random"}], ipc=[3], resources=ON_AUTO)
    # Without a driver torch falls back to the CPU; which GPU it would use is told all the same.
    two = Workplace(again.path, env={"CUDA_VISIBLE_DEVICES": "4,7"})
    status, output = two.snakemake(config, *two.paths(config, "sample"))
    assert status == 0, output
    assert re.search(r'Provided resources: .*gpu=(Resource\("gpu", )?2\b', output), output
    logs = (again.path / "results/logs/digits/random").glob("ipc3_gen0_block*~*.log")
    used = [re.search(r"on GPU (\d) of 4, 7", log.read_text()).group(1) for log in logs]
    assert sorted(used) == ["4", "7"]


def test_clones_share_whatever_is_in_the_cache(tmp_path: Path) -> None:
    root, cache = make_imagenet(tmp_path / "imagenet", subsets()["imagenette"]), tmp_path / "cache"
    own = tmp_path / "own images"
    own_images(own, {"one": 8, "two": 8})
    own_images(own, {"one": 4, "two": 4}, "val")
    config = tiny(
        datasets=[
            {"name": "imagenette", "incomplete": "warn"},
            {"name": "mine", "root": str(own), "size": 32},
        ],
        imagenet_root=str(root),
        cache_dir=str(cache),
        runs=[
            {"method": "nearest", "generator": "dit"},
            {"method": "unguided", "generator": "tiny-dit"},
        ],
        evaluation=[{"protocol": "soft-small", "networks": ["resnet10"], "training_seeds": 1}],
    )
    one, other = (Workplace.make(tmp_path / name) for name in ("one", "other"))
    status, output = one.snakemake(config, "--dry-run")
    assert status == 0, output
    made: dict[str, list[Path]] = {}
    for rule, text in re.findall(r"^(?:local)?rule (\w+):\n((?: +.+\n)+)", output, re.M):
        for line in re.findall(r"^ +output: (.+)$", text, re.M):
            made.setdefault(rule, []).extend(map(Path, line.split(", ")))
    first = parse_jobs(output)
    # In the order in which they are made: nothing may be older than what it was made from.
    shared = ("index", "pixels", "train_teacher", "fetch_dit", "train_vae", "train_generator")
    shared += ("latents",)
    assert set(shared) <= set(first)
    for rule in shared:
        for file in made[rule]:
            assert file.is_relative_to(cache)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("made by the one")
    second = other.planned(config)
    assert second == {rule: n for rule, n in first.items() if rule not in shared}
    # The same name with other settings is another data set, which must not take these files.
    config["datasets"][1]["validation_fraction"] = 0.5
    assert {"index", "train_teacher", "train_vae"} <= set(other.planned(config))
