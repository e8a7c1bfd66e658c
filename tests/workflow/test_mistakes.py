"""What a user's mistake prints: the key or the thing, and no traceback."""

from __future__ import annotations

from typing import Any

import pytest

from workplace import Workplace, own_config, own_images, tiny, tiny_mgd3

MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "misspelt key": ({**tiny(), "ipcs": [1]}, ["ipcs", "did you mean 'ipc'"]),
    "misspelt run key": (tiny_mgd3(lamda=0.1), ["lamda", "did you mean 'lambda'"]),
    "misspelt method": (tiny(runs=[{"method": "randm"}]), ["randm", "did you mean 'random'"]),
    "lambda below zero": (tiny_mgd3(**{"lambda": -1}), ["runs[3].lambda", "-1"]),
    "t_sg above steps": (tiny_mgd3(t_sg=99), ["t_sg", "99", "0..12"]),
    "ipc above images": (own_config(ipc=[50]), ["class 'one'", "ipc is 50"]),
    "missing folder": (
        tiny(datasets=[{"name": "own", "root": "nowhere"}]), ["nowhere/train"]
    ),
    "network too small": (
        tiny(evaluation=[{"protocol": "hard-small", "networks": ["resnet18"]}]), ["resnet18"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_any_job(fresh: Workplace, mistake: str) -> None:
    config, named = MISTAKES[mistake]
    own_images(fresh.path / "own images", {"one": 20, "two": 20})
    status, output = fresh.snakemake(config, "--dry-run")
    assert status != 0
    for text in named:
        assert text in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("metrics", "metrics needs a run with a generator"),
        ("figures", "figures needs a run with a generator"),
        ("figure4a", "figure4a needs runs that differ in t_sg only"),
        ("figure9", "figure9 needs a run that is guided to modes"),
    ],
)
def test_what_the_runs_do_not_permit_is_named(fresh: Workplace, target: str, named: str) -> None:
    status, output = fresh.snakemake(tiny(runs=[{"method": "random"}]), "--dry-run", target)
    assert status != 0
    assert named in output
    assert "Traceback" not in output and "InputFunction" not in output


def test_a_target_of_another_configuration_is_refused_by_the_plan(fresh: Workplace) -> None:
    (foreign,) = [p for p in fresh.paths(tiny(ipc=[3]), "collect") if "/random/" in p]
    status, output = fresh.snakemake(tiny(), f"{foreign}/images.safetensors")
    assert status != 0
    digits = foreign.rpartition("~")[2]
    assert f"~{digits} is not of this configuration" in output
    assert "Traceback (most" not in output and not (fresh.path / "results/logs").exists()


def test_an_unknown_preset_is_named(fresh: Workplace) -> None:
    status, output = fresh.snakemake({}, "--dry-run", "--config", "preset=ablation-stpo")
    assert status != 0
    assert "no preset 'ablation-stpo'" in output and "ablation-stop" in output
    assert "Traceback" not in output


def test_a_class_missing_in_val_is_named(fresh: Workplace) -> None:
    root = fresh.path / "own images"
    own_images(root, {"one": 20, "two": 20})
    own_images(root, {"one": 5}, folder="val")
    status, output = fresh.snakemake(own_config(), "--dry-run")
    assert status != 0
    assert "class 'two' is in train/ but has no folder" in output
    assert "Traceback" not in output


def test_results_that_cannot_be_written_are_named(fresh: Workplace) -> None:
    (fresh.path / "results").write_text("not a folder")
    status, output = fresh.snakemake(tiny())
    assert status != 0
    assert "results is not a folder" in output
    assert "Traceback" not in output


def test_a_corrupt_image_is_named(fresh: Workplace) -> None:
    root = fresh.path / "own images"
    own_images(root, {"one": 20, "two": 20})
    bad = root / "train/two/image 3.png"
    bad.write_bytes(b"no picture")
    status, output = fresh.snakemake(own_config())
    assert status != 0
    assert str(bad.relative_to(fresh.path)) in output
    assert "Traceback" not in output
