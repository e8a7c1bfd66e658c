"""Files that were whole once, and data that changed under their index."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import CONFIG, also, files_of, forget, from_stage, outcome
from PIL import Image

from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS
from workplace import Workplace, own_config, own_images

pytestmark = pytest.mark.faults


def truncated(content: bytes) -> bytes:
    """As after a crash of the machine, or a copy that ended early."""
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit among the numbers, of which no reader would complain."""
    at = len(content) - 10
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("stage", "damage", "reader"),
    [
        ("latents", flipped, "modes"),
        ("sample", flipped, "collect"),
        ("evaluate", truncated, "tables"),
        *also(("train-generator", truncated, "sample")),
    ],
)
def test_a_damaged_file(reference, place: Workplace, stage: str, damage, reader: str) -> None:
    """Named by `mgd3 verify` and by whoever reads it, never used; remade by what they print."""
    if stage == "evaluate":
        file = next(f for f in files_of(place, stage) if f.suffix == ".json")
    else:
        file = max(files_of(place, stage), key=lambda file: file.stat().st_size)
    relative = str(file.relative_to(place.path))
    assert place.mgd3("verify", "results")[0] == 0
    file.write_bytes(damage(file.read_bytes()))

    status, output = place.mgd3("verify", "results")
    assert status == 1
    assert re.findall(r"^(\w+) +(\S+):", output, re.M) == [("damaged", relative)]
    (remake,) = re.findall(r"--forcerun (.*)", output)
    forget(place, *from_stage(reader))
    status, output = place.snakemake(CONFIG)
    assert status != 0
    assert f"{relative} is damaged" in output, output
    assert "Traceback" not in output, output

    place.run(CONFIG, "--forcerun", *remake.split())
    assert outcome(place) == outcome(reference.place)
    assert place.mgd3("verify", "results")[0] == 0


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_data_that_changes_under_its_index(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was planned with the old images names one; the next plan takes the new."""
    place = Workplace.make(tmp_path / "own")
    own_images(place.path / "own images", {"one": 30, "two": 30})
    config = own_config(ipc=[1])
    monkeypatch.chdir(place.path)
    index = Layout(resolve(config), place.path, VERSIONS).index("own")
    place.run(config, index)
    for image in sorted((place.path / "own images/train/two").iterdir())[::2]:
        if change == "replaced":
            Image.new("RGB", (32, 32), "red").save(image)
        else:
            image.unlink()
    status, output = place.mgd3(
        "pixels", "--dataset", json.dumps(config["datasets"][0]), "--index", index,
        "--split", "train", "--size", "32", "--output", "pixels.safetensors",
    )  # fmt: skip
    assert status != 0
    assert re.search(r"train/two/image .* changed or went since the index was made", output)
    assert "Traceback" not in output
    assert place.run(config)["index"] == 1
    assert place.planned(config) == {}
