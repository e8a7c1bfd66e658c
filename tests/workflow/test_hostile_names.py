"""Names of classes, folders and generators reach no shell and leave no results folder."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load_file

from twins import make_dit_folder
from workplace import Workplace, own_images, tiny

pytestmark = pytest.mark.slow

CLASSES = [
    "it's $(touch HIT)",
    '"; touch HIT; "',
    "`touch HIT`",
    "..x",
    "-rf *",
    "line\nfeed; touch HIT",
    "漢字 é 😀",
    "{wildcards} {0} %s",
    "a|b&c>HIT<d?[e]\\",
    "&& touch HIT #",
]
ROOT = """data; touch HIT $(touch HIT) 'one' "two" é"""
GENERATOR = """nets $(touch HIT)/it's; "a" dit"""


def test_hostile_names_reach_no_shell_and_leave_no_folder(fresh: Workplace) -> None:
    place = fresh.path
    own_images(place / ROOT, dict.fromkeys(CLASSES, 20))
    folder = make_dit_folder(place / GENERATOR, num_classes=len(CLASSES))
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(row): name for row, name in enumerate(CLASSES)}
    (folder / "model_index.json").write_text(json.dumps(index))
    dataset = {"name": "own", "root": ROOT, "flip": False, "validation_fraction": 0.3}
    guided = {"method": "mgd3", "generator": f"./{GENERATOR}", "steps": 3, "t_sg": 1}
    config = tiny(datasets=[dataset], runs=[guided], ipc=[1], resources={"device": "cpu"})
    before = {path.name for path in place.iterdir()}
    fresh.run(config, "export", "gallery")

    assert not list(place.rglob("HIT"))
    new = {path.name for path in place.iterdir()} - before
    assert new == {"results", ".snakemake", ".mgd3", "tiny.yaml"}
    for path in (place / "results").rglob("*"):
        assert not set(path.name) & set(" '\"$`;|&<>*?\n\\"), path
    # Folders whose names begin with a dot are no classes.
    shown = {name for name in CLASSES if name[0] != "."}
    made = place / "results/own"
    (block,) = made.glob("blocks/mgd3*/ipc1/gen0/block0~*.safetensors")
    assert set(load_file(block)) == shown
    (images,) = made.glob("distilled/mgd3*/ipc1/gen0~*/images.safetensors")
    assert load_file(images)["images"].shape == (9, 3, 32, 32)
    exhibited = set(load_file(place / "results/reports/tiny/gallery/own_ipc1.safetensors"))
    slug = block.parents[2].name
    kinds = ("made", "mode", "near")
    assert exhibited == {f"{kind}/{slug}/{name}" for kind in kinds for name in shown}
    # A name that cannot be part of a command line is refused before any job.
    bad = place / ROOT / "train" / "\udcff"
    bad.mkdir()
    status, output = fresh.snakemake(config, "--dry-run")
    assert status != 0 and "is not UTF-8" in output and "Traceback" not in output
