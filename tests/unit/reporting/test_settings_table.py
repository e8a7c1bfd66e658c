"""The table of settings says what the records of each set say."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mgd3.base.artifacts import load_json, save_json
from mgd3.base.records import record_of, recorded
from mgd3.reporting.settings_table import settings_table

RUNS = [
    {"run": "full", "label": "Full", "method": "full", "generator": None, "settings": {}},
    {"run": "random", "label": "random", "method": "random", "generator": None,
     "settings": {"selection": "seeded"}},
    {"run": "guided", "label": "MGD3 | λ=1", "method": "mgd3", "generator": "dit",
     "settings": {"lambda": 1, "t_sg": 10}},
]  # fmt: skip


def make(file: Path, stage: str, *inputs: Path, **settings: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with recorded(record_of(file), stage, settings=settings, inputs=inputs, outputs=[file]):
        file.write_text(str(file))
    return file


def a_set(root: Path, run: str, gen: int, *inputs: Path) -> Path:
    folder = root / f"results/own/distilled/{run}/ipc5/gen{gen}"
    blocks = [make(folder / f"block{b}.safetensors", "sample", *inputs) for b in range(2)]
    make(folder / "images.safetensors", "collect", *blocks)
    manifest = folder / "manifest.parquet"
    manifest.write_text("rows")
    return manifest


def test_each_set_has_its_hash_its_weights_and_its_versions(tmp_path):
    weights = []
    for part in ("vae", "transformer"):
        weights.append(tmp_path / f"generator/{part}/diffusion_pytorch_model.safetensors")
        weights[-1].parent.mkdir(parents=True)
        weights[-1].write_text(part)
    modes = make(tmp_path / "results/own/modes/ipc5.safetensors", "modes")
    found = [a_set(tmp_path, "random", 0), a_set(tmp_path, "guided", 1, *weights, modes)]
    record = found[1].with_name("block0.provenance.json")
    save_json(record, {**load_json(record), "revision": "abc"})
    settings_table(found, RUNS, tmp_path / "settings.csv")

    table = pd.read_csv(tmp_path / "settings.csv", keep_default_na=False)
    random, guided, full = table.to_dict("records")
    assert [str(guided[c]) for c in ("dataset", "ipc", "generation_seed")] == ["own", "5", "1"]
    assert json.loads(guided["settings"]) == RUNS[2]["settings"]
    files = load_json(found[1].with_name("images.provenance.json"))["files"]
    assert guided["set_sha256"] == files["images.safetensors"]
    assert random["set_sha256"] not in ("", guided["set_sha256"])
    names = [part.split(" ")[0] for part in guided["weights_sha256"].split("; ")]
    assert names == [
        f"{part}/diffusion_pytorch_model.safetensors" for part in ("transformer", "vae")
    ]
    assert random["weights_sha256"] == "" and "abc" in guided["commit"]
    assert guided["torch"] and guided["mgd3"] and guided["faiss"] and guided["device"] == "cpu"
    assert guided["fetched_from"].startswith("facebook/DiT-XL-2-256@eab87f77")
    assert full["run"] == "full" and full["dataset"] == full["set_sha256"] == ""
    text = (tmp_path / "settings.md").read_text()
    assert guided["set_sha256"][:12] in text and "MGD3 \\| λ=1" in text and "* torch: " in text


def test_a_set_without_records_has_its_settings_only(tmp_path):
    manifest = a_set(tmp_path, "random", 0)
    for record in manifest.parent.glob("*.provenance.json"):
        record.unlink()
    settings_table([manifest], RUNS[1:2], tmp_path / "settings.csv")
    (row,) = pd.read_csv(tmp_path / "settings.csv", keep_default_na=False).to_dict("records")
    assert row["set_sha256"] == row["torch"] == "" and row["run"] == "random"
