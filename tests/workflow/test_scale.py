"""ImageNet-1K is planned in seconds, in jobs of a sensible number."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import pytest

from fake_imagenet import many_classes
from workplace import SLOWEST_PLAN, Workplace, parse_jobs, tiny

IPC, SETS, BLOCK = (10, 50), 3 * 3, 10


def imagenet1k(root: Path, classes_per_block: int | str = "auto") -> dict[str, Any]:
    return tiny(
        datasets=["imagenet1k"],
        imagenet_root=str(root),
        ipc=list(IPC),
        generation_seeds=[0, 1, 2],
        runs=[
            {"method": "random"},
            {"method": "unguided", "generator": "small-dit"},
            {"method": "mgd3", "generator": "small-dit", "lambda": 0.1, "t_sg": 25},
        ],
        evaluation=[{"protocol": "hard", "networks": ["resnet18"]}],
        resources={"device": "auto", "batch": "auto", "classes_per_block": classes_per_block},
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 classes of as many images as the largest IPC needs."""
    return many_classes(tmp_path_factory.mktemp("imagenet") / "root", train=max(IPC), val=1)


def timed(place: Workplace, *arguments: Any) -> tuple[str, float]:
    """What `snakemake` prints and its CPU seconds, which do not depend on what else runs."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    status, output = place.snakemake(*arguments)
    assert status == 0, output
    return output, spent() - before


@pytest.mark.parametrize(
    ("size", "samples"),
    [
        ("auto", {10: 10, 50: 50}),
        pytest.param(BLOCK, {10: 100, 50: 100}, marks=pytest.mark.slow),
    ],
)
def test_imagenet_1k_is_planned_in_seconds(fresh: Workplace, root: Path, size, samples) -> None:
    output, seconds = timed(fresh, imagenet1k(root, size), "--dry-run")
    jobs = parse_jobs(output)
    assert jobs["sample"] == SETS * sum(samples.values())
    assert jobs["collect"] == jobs["evaluate"] == SETS * len(IPC)
    assert jobs["modes"] == len(IPC)
    assert jobs["grid"] == 3 * len(IPC)
    assert jobs["index"] == jobs["train_vae"] == jobs["train_generator"] == 1
    assert seconds < SLOWEST_PLAN


@pytest.mark.slow
def test_a_finished_imagenet_1k_is_seen_in_seconds(fresh: Workplace, root: Path) -> None:
    config = imagenet1k(root)
    output, _ = timed(fresh, config, "--dry-run")
    for line in re.findall(r"^    (?:output|log|benchmark): (.+)$", output, re.M):
        for file in line.split(", "):
            (fresh.path / file).parent.mkdir(parents=True, exist_ok=True)
            (fresh.path / file).write_text("made")
    timed(fresh, config, "--touch")
    output, seconds = timed(fresh, config)
    assert "Nothing to be done" in output
    assert seconds < SLOWEST_PLAN
