"""`snakemake tune` from the command line, beside test images that nobody can read."""

from __future__ import annotations

import csv
import json
import re
import shlex

import pytest
import yaml

from twins import make_dit_folder
from workplace import Workplace, own_images, parse_jobs, tiny

CLASSES = {"one": 30, "two": 30}
DATASET = {"name": "own", "root": "own images", "flip": False, "validation_fraction": 0.4}
RUN = {"generator": "./dit", "steps": 4, "t_sg": 1}
CONFIG = tiny(
    datasets=[DATASET],
    runs=[{"method": "unguided", "generator": "./dit", "steps": 4}, {"method": "mgd3", **RUN}],
    tuning=[
        {"grid": {"lambda": [0.1, 1, 3], "t_sg": [0, 2]}, "keep": 0.3},
        {"method": "unguided", "grid": {"cfg": [1, 2]}},
    ],
)


def tuned_place(place: Workplace) -> Workplace:
    """With images of one's own, of which those for test have whole headers and cut pixels."""
    root = place.path / "own images"
    own_images(root, CLASSES)
    own_images(root, dict.fromkeys(CLASSES, 6), folder="val")
    for image in (root / "val").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:70])
    folder = make_dit_folder(place.path / "dit", num_classes=len(CLASSES))
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(row): name for row, name in enumerate(CLASSES)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return place


def test_no_job_of_a_tuning_is_given_test_images(fresh: Workplace) -> None:
    status, output = tuned_place(fresh).snakemake(CONFIG, "tune", "--dry-run", "--printshellcmds")
    assert status == 0, output
    assert parse_jobs(output) == {
        "index": 1, "latents": 1, "modes": 1, "pixels": 2, "tune_teacher": 1,
        "tune_sample": 12, "tune_proxy": 8, "tune_train": 4, "tune_rung": 6, "tune_report": 1,
        "view": 1, "tune_surface": 2, "tune": 1,
    }  # fmt: skip
    commands = re.findall(r"^(?:Shell command: )? *(mgd3 .+)$", output, re.M)
    assert len(commands) == sum(parse_jobs(output).values()) - 1  # `tune` itself runs nothing
    # Identities name settings, too, such as at which size a teacher is tested.
    identities = [json.loads(shlex.split(c)[shlex.split(c).index("--identity") + 1])
                  for c in commands if "--identity" in c]  # fmt: skip
    assert len(identities) > 20 and not [of for of in identities if "test" in of["inputs"]]
    told = [re.sub(r"--identity '[^']*'", "", c) for c in commands]
    assert not [c for c in told if "--test" in c or "test" in c.split("--output")[-1]]
    assert sorted(c.split("--split ")[1].split()[0] for c in commands if "--split" in c) == [
        "train", "validation"
    ]  # fmt: skip


def test_a_mistake_in_tuning_is_one_message_to_who_tunes(fresh: Workplace) -> None:
    bad = tiny(tuning=[{"method": "d4m"}])
    assert fresh.snakemake(bad, "--dry-run")[0] == 0
    status, output = fresh.snakemake(bad, "tune", "--dry-run")
    assert status != 0
    assert "no run has the method 'd4m'" in output
    assert "Traceback" not in output


@pytest.mark.analysis
def test_a_tuning_runs_beside_unreadable_test_images_and_its_overlay_is_a_config(
    fresh: Workplace,
) -> None:
    place = tuned_place(fresh)
    place.run(CONFIG, "tune")
    assert place.planned(CONFIG, "tune") == {}
    tables = place.path / "results/reports/tiny/tables"
    with (tables / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    chosen = [row for row in rows if row["chosen"] == "True"]
    assert [row["method"].split()[0] for row in chosen] == ["MGD3", "unguided"]
    # Each rung took the best of the one before, by the files that its jobs wrote.
    folders = [f.parent for f in (place.path / "results/own/tuning").glob("*/rung0.json")]
    assert len(folders) == 2
    for folder in folders:
        judged: dict[int, float] = {}
        for path in (folder / "rung0").glob("*_score.json"):
            record = json.loads(path.read_text())
            judged[record["trial"]] = record["score"]
        best = sorted(judged, key=lambda trial: (-judged[trial], trial))
        kept = json.loads((folder / "rung1.json").read_text())["settings"]
        assert [setting["trial"] for setting in kept] == best[: len(kept)]
    # The test images are as bad as they should be: what reads them fails.
    overlay = place.path / "results/reports/tiny/tuning/overlay.yaml"
    extended = {**CONFIG, **yaml.safe_load(overlay.read_text())}
    assert len(extended["runs"]) == 4
    assert place.planned(extended)["evaluate"] == 4
    status, output = place.snakemake(extended)
    assert status != 0
    assert "pixels" in output
    (log,) = (place.path / "results/logs").glob("own/pixels_test_32~*.log")
    assert "cannot be decoded" in log.read_text()
