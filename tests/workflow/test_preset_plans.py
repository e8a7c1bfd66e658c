"""A dry run of every preset on a root with ImageNet's 1,000 class folders."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fake_imagenet import picture
from mgd3.data.imagenet import imagenet_wnids
from mgd3.generators.registry import FAMILY_FILES
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS
from workplace import ROOT, SLOWEST_PLAN, Workplace, parse_jobs

PRESETS = sorted(file.stem for file in (ROOT / "workflow" / "presets").glob("*.yaml"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workplace:
    """The workflow beside an ImageNet whose class folders are links to one folder of images."""
    place = Workplace.make(tmp_path_factory.mktemp("presets") / "here")
    root = place.path / "imagenet"
    for split, count in (("train", 100), ("val", 1)):
        images = place.path / f"{split} images"
        images.mkdir()
        picture(0).save(images / "0.JPEG")
        for k in range(1, count):
            os.link(images / "0.JPEG", images / f"{k}.JPEG")
        (root / split).mkdir(parents=True)
        for wnid in imagenet_wnids():
            (root / split / wnid).symlink_to(images)
    # This generator is put into the cache by hand. A dry run looks at names only.
    for file in FAMILY_FILES["ldm"]:
        path = place.path / "results/cache/generators/any/ldm" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (place.path / "mine.yaml").write_text("{imagenet_root: imagenet}")
    return place


def plan(place: Workplace, name: str) -> tuple[int, str]:
    """What the documentation tells a user to type, with -n: exit status, output."""
    preset = f"workflow/presets/{name}.yaml"
    done = subprocess.run(
        ["snakemake", "-n", "--cores", "2", "--configfile", preset, "mine.yaml"],
        cwd=place.path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(place.path / "workflow"),
        },
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_plans(place, name, monkeypatch):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, output = plan(place, name)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    raw = yaml.safe_load((ROOT / "workflow" / "presets" / f"{name}.yaml").read_text())
    assert status == 0, output[-3000:]
    jobs = parse_jobs(output)
    monkeypatch.chdir(place.path)
    config = resolve({**raw, "imagenet_root": "imagenet"})
    layout = Layout(config, place.path, VERSIONS)
    assert jobs["index"] == len(config.datasets)
    assert jobs["collect"] == len(layout.cards())
    # One job for one or more classes of a set.
    classes = max(len(of_dataset) for of_dataset in layout.classes.values())
    assert jobs["collect"] <= jobs["sample"] <= jobs["collect"] * classes
    assert jobs["evaluate"] == len(layout.scores())
    assert sum(jobs.values()) < 5000
    # Processor time, and not the clock's: other tests run beside this one.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < SLOWEST_PLAN, f"planning took {seconds:.1f} s"
