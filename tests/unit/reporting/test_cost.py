"""What runs cost, added up from the records along each score's line of descent."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mgd3.base.artifacts import load_json, save_json
from mgd3.base.records import part_record, record_of, recorded
from mgd3.reporting.cost import cost

RUNS = [
    {"run": "random", "label": "random real images", "method": "random", "generator": None},
    {"run": "guided", "label": "MGD3 | λ=1", "method": "mgd3", "generator": "tiny"},
    {"run": "later", "label": "not yet run", "method": "mgd3", "generator": "tiny"},
]


def make(stage: str, file: Path, *inputs: Path, seconds: float, record: Path | None = None) -> Path:
    """A stage's file and record; the seconds are set, everything else is measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = record or record_of(file)
    with recorded(record, stage, settings={}, inputs=inputs, outputs=[file]):
        if not file.exists():
            file.write_text(str(file))
    save_json(record, {**load_json(record), "seconds": seconds, "peak_memory_bytes": 2 * 10**9})
    return file


@pytest.fixture
def scores(tmp_path: Path) -> list[Path]:
    """Two distilled sets of each run, two trainings on each."""
    index = make("index", tmp_path / "index.parquet", seconds=1)
    pixels = make("pixels", tmp_path / "test_32.safetensors", index, seconds=3)
    weights = tmp_path / "tiny/vae/w.safetensors"
    make("train-vae", weights, index, seconds=100, record=part_record(weights.parent))
    latents = make("latents", tmp_path / "latents/block0.safetensors", index, weights, seconds=10)
    modes = make("modes", tmp_path / "modes/ipc5.safetensors", latents, seconds=4)
    found = []
    for run in RUNS[:2]:
        name = run["run"]
        for gen in range(2):
            folder = tmp_path / name / f"gen{gen}"
            made_from = [index] if name == "random" else [index, weights, modes]
            blocks = [
                make("sample", folder / f"block{b}.safetensors", *made_from, seconds=20)
                for b in range(2)
            ]
            images = make("collect", folder / "images.safetensors", *blocks, seconds=1)
            for seed in range(2):
                path = tmp_path / f"evaluated/{name}/gen{gen}/net_seed{seed}.json"
                save_json(
                    path,
                    {
                        **run, "dataset": "digits", "ipc": 5, "protocol": "hard", "network": "net",
                        "generation_seed": gen, "training_seed": seed, "n_test": 9, "n_train": 50,
                        "accuracy": {"best": 1.0, "last": 1.0, "selected": None},
                    },
                )  # fmt: skip
                found.append(make("evaluate", path, images, pixels, seconds=7))
    return found


def test_each_job_is_counted_once_in_each_run(scores, tmp_path):
    cost(RUNS, scores, tmp_path / "cost.csv")
    table = pd.read_csv(tmp_path / "cost.csv").set_index(["run", "stage"])
    assert set(table.index) == {
        *(("random", s) for s in ("index", "sample", "collect", "pixels", "evaluate")),
        *(("guided", s) for s in ("index", "train-vae", "latents", "modes", "sample", "collect",
                                  "pixels", "evaluate")),
    }  # fmt: skip
    guided = table.loc["guided"]
    assert guided["jobs"].to_dict() == {
        "index": 1, "train-vae": 1, "latents": 1, "modes": 1, "sample": 4, "collect": 2,
        "pixels": 1, "evaluate": 4,
    }  # fmt: skip
    assert guided.loc["sample", "seconds"] == 80
    assert guided.loc["evaluate", "seconds"] == 28
    assert (table["peak_memory_gb"] == 2).all()
    assert (table["device"] == "cpu").all()


def test_the_summary_says_what_a_set_and_an_image_cost(scores, tmp_path):
    cost(RUNS, scores, tmp_path / "cost.csv")
    lines = (tmp_path / "cost.md").read_text().splitlines()
    rows = [
        [c.strip() for c in line.split(" | ")] for line in lines if "λ" in line or "real" in line
    ]
    # (4 + 4 * 20 + 2 * 1) s for two sets of 50 images; 100 + 10 + 1 s before; 4 * 7 + 3 s after.
    assert rows[1] == [r"| MGD3 \| λ=1", "cpu", "111.0", "43.0", "0.860", "2.00", "31.0 |"]
    assert rows[0][1:] == ["cpu", "1.0", "41.0", "0.820", "2.00", "31.0 |"]


def test_a_methods_teacher_is_prepared_and_a_protocols_judges(tmp_path):
    index = make("index", tmp_path / "index.parquet", seconds=1)
    pixels = make("pixels", tmp_path / "train_64.safetensors", index, seconds=2)
    teachers = [
        make("train-teacher", tmp_path / name / "model.safetensors", pixels, seconds=seconds)
        for name, seconds in (("method", 30), ("protocol", 500))
    ]
    block = make("sample", tmp_path / "block0.safetensors", index, teachers[0], seconds=20)
    images = make("collect", tmp_path / "images.safetensors", block, seconds=1)
    path = tmp_path / "evaluated/net_seed0.json"
    save_json(
        path,
        {
            **RUNS[0], "dataset": "digits", "ipc": 5, "protocol": "soft", "network": "net",
            "generation_seed": 0, "training_seed": 0, "n_test": 9, "n_train": 50,
            "accuracy": {"best": 1.0, "last": 1.0, "selected": None},
        },
    )  # fmt: skip
    make("evaluate", path, images, teachers[1], seconds=7)
    cost(RUNS, [path], tmp_path / "cost.csv")
    table = pd.read_csv(tmp_path / "cost.csv")
    assert table.groupby("part")["seconds"].sum().to_dict() == {
        "prepare": 1 + 2 + 30, "distil": 20 + 1, "evaluate": 500 + 7,
    }  # fmt: skip


def test_scores_without_records_are_said(scores, tmp_path):
    for score in scores:
        record_of(score).unlink()
    cost(RUNS, scores, tmp_path / "cost.csv")
    assert "No records" in (tmp_path / "cost.md").read_text()
