"""Calls of every stage that would do, and the same with hostile arguments."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from made_scores import PAPER, REPORTED, Scores
from mgd3.base import artifacts
from mgd3.cli import main
from mgd3.data import make_dataset
from mgd3.data.index import write_index
from mgd3.networks.architectures import create_network
from mgd3.stages import CONTRACTS
from mgd3.stages.fields import InFile, InFolder, OutFile, OutFolder
from mgd3.teachers.model import save
from workplace import own_images

CLASSES = ["one", "two"]
OF = {"dataset": "own", "ipc": 2, "generation_seed": 0}
ROW = {"run": "mgd3_x", "label": "MGD3", "method": "mgd3", "generator": None}
ROW["settings"] = {"t_sg": 5}
TUNING = {
    "id": "t", "label": "MGD3", "position": 0, "dataset": "own", "ipc": 2,
    "choice": {"method": "mgd3"},
    "points": [{"lambda": 0.1}, {"lambda": 1.0}], "slugs": ["a", "b"], "protocol": "hard-small",
    "network": "convnet3",
}  # fmt: skip


def _images(path: Path, metadata: dict[str, Any]) -> Path:
    pixels = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(3).repeat_interleave(2)
    artifacts.save_tensors(path, {"images": pixels, "labels": labels}, metadata)
    return path


def _measured(path: Path, classes: list[str]) -> Path:
    rows = [(run, c, k, space) for run in ("mgd3_x", "random") for c in classes
            for k in range(2) for space in ("latent", "map")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["run", "class", "k", "space"])
    names = ["diversity", "representativeness", "memorisation", "modes_hit", "kid",
             "precision", "recall", "coverage", "frechet", "nearest_train", "closer_than_99",
             "agreement", "log_probability", "originals", "x", "y"]  # fmt: skip
    draws = np.random.default_rng(0).random((len(table), len(names)))
    table[names] = draws
    about = {"classes": classes, "of": OF, "runs": ["mgd3_x", "random"], "not_judged": {}}
    artifacts.save_table(path, table, about)
    return path


def make_calls(folder: Path, generator: Path) -> dict[str, dict[str, Any]]:
    """Of every stage but those that fetch, arguments that it takes: by flag, a text or a list."""
    choice = {"name": "own", "root": str(folder / "own"), "flip": False}
    own_images(folder / "own", {"one": 12, "three": 12, "two": 12})
    dataset = make_dataset(choice)
    classes = dataset.source.classes()
    index, latents = folder / "index.parquet", folder / "latents.safetensors"
    write_index(dataset, index)
    table = artifacts.load_table(index)
    train = table[table.split == "train"]
    keys = {c: train.loc[train["class"] == c, "image"].tolist() for c in classes}
    tensors = {f"{w}/{c}": torch.randn(len(keys[c]), 4, 8, 8) for c in classes
               for w in ("mean", "logvar")}  # fmt: skip
    header = {"classes": classes, "images": keys, "undecodable": {c: [] for c in classes}}
    artifacts.save_tensors(latents, tensors, header)
    modes, made = folder / "modes.safetensors", {"classes": classes, "images": {}}
    artifacts.save_tensors(modes, {c: torch.randn(2, 4, 8, 8) for c in classes}, made)
    embedded = folder / "embedded.safetensors"
    artifacts.save_tensors(embedded, {c: torch.randn(2, 4, 8, 8) for c in classes}, made)
    method = {"method": "random", "settings": {"selection": "seeded"}, "generation_seed": 0}
    block = folder / "block0.safetensors"
    pixels = {c: torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8) for c in classes}
    artifacts.save_tensors(block, pixels, {"classes": classes, **method})
    images = _images(folder / "images.safetensors", {"classes": classes, **method, "blocks": {}})
    manifest = folder / "own/distilled/mgd3_x/ipc2/gen0/manifest.parquet"
    rows = [(k, classes[k // 2], k // 2, k % 2) for k in range(6)]
    listed = pd.DataFrame(rows, columns=["row", "class", "label", "k"])
    artifacts.save_table(manifest, listed, {"classes": classes, "blocks": {}})
    slot = {"rung": 0, "slot": 0, "trial": 0, "point": TUNING["points"][0]}
    trial = {**slot, "generation_seed": 0, "classes": classes}
    trial_images = _images(folder / "trial.safetensors", trial)
    teacher = folder / "teacher"
    model = create_network("conv3", 3, 32, "soft")
    card = {"network": "conv3", "classes": classes, "size": 32, "teacher": "conv3-32",
            "mean": [0.5] * 3, "std": [0.2] * 3, "accuracy": {}}  # fmt: skip
    save(teacher, model.state_dict(), card)
    judged = folder / "judged.safetensors"
    features = {f"features/{c}": torch.randn(2, 8) for c in classes}
    features |= {f"agrees/{c}": torch.zeros(2, dtype=torch.bool) for c in classes}
    features |= {f"log_probability/{c}": torch.zeros(2) for c in classes}
    about = {"name": "conv3-32", "accuracy": {}}
    artifacts.save_tensors(judged, features, {"classes": classes, "teacher": about})
    rung, score = folder / "rung0.json", folder / "trial_score.json"
    points = [{"trial": k, "point": p, "score": None} for k, p in enumerate(TUNING["points"])]
    artifacts.save_json(rung, {"rung": 0, "settings": points})
    artifacts.save_json(folder / "chosen.json", {"rung": 1, "settings": points[:1]})
    judgement = {"modes_hit": 0.5, "agreement": 0.5, "log_probability": -1.0, "score": 0.5}
    artifacts.save_json(score, {**slot, **judgement})
    scores = Scores(folder)
    for run, accuracy in (("mgd3_x", 0.8), ("random", 0.6)):
        scores.add(run, accuracy, [(0, 0)], dataset="own", ipc=2, n_test=40)
    steps = {"classes": CLASSES, "steps": [3, 1, 0], "guided": [True, False, False]}
    traced = {f"x0/{c}": torch.zeros(3, 3, 8, 8, dtype=torch.uint8) for c in CLASSES}
    traced |= {f"image/{c}": torch.zeros(3, 8, 8, dtype=torch.uint8) for c in CLASSES}
    recorded = folder / "recorded.safetensors"
    artifacts.save_tensors(recorded, traced, steps)
    measured = _measured(folder / "measured.parquet", classes)
    exhibit = folder / "exhibit.safetensors"
    shown = {"of": OF, "runs": ["mgd3_x"], "classes": CLASSES, "known": 3, "held": 2, "side": 32}
    kept = {f"made/mgd3_x/{c}": pixels[c] for c in CLASSES}
    artifacts.save_tensors(exhibit, kept, shown)
    markdown = folder / "tables.md"
    markdown.write_text("# Title\n\n| a | b |\n| --- | --: |\n| 1 | 2 |\n")
    config = folder / "config.yaml"
    config.write_text("name: x\n")
    checkpoint = folder / "model.pt"
    torch.save({"x": torch.zeros(1)}, checkpoint)
    published = [
        str(shutil.copy(PAPER.with_name(name), folder))
        for name in (PAPER.name, REPORTED.name, "claims.yaml")
    ]
    settings = {"variant": "ddpm", "cfg": 1.0, "cfg_channels": "all", "steps": 2, "spacing": "auto",
                "precision": "float32"}  # fmt: skip

    data = {"--dataset": json.dumps(choice), "--index": str(index)}
    made = {"--ipc": "2", "--generation-seed": "0", "--classes": json.dumps(CLASSES)}
    random_ = {"--method": "random", "--settings": '{"selection": "seeded"}'}
    guided = {"--method": "unguided", "--settings": json.dumps(settings)}
    trained = {"--generator": "tiny-dit", "--folder": str(folder / "new")}
    rows_, files = json.dumps([ROW, {**ROW, "run": "random", "settings": {}}]), scores.files
    scored = {"--runs": rows_, "--scores": [*map(str, files)]}
    claimed = {**scored, "--ledger": published[2], "--paper": published[0],
               "--title": "t"}  # fmt: skip
    run_on = {"--device": "cpu", "--threads": "1"}
    taught = {"--teacher-folder": str(teacher)}

    def out(suffix: str) -> dict[str, str]:
        return {"--output": str(folder / "out" / f"made{suffix}")}

    tensor, png, csv = out(".safetensors"), out(".png"), out(".csv")
    tables = folder / "tables"
    tunings = [{**TUNING, "scores": [[str(score)]], "chosen": str(folder / "chosen.json")}]
    calls = {
        "index": {"--dataset": json.dumps(choice), **out(".parquet")},
        "train-vae": {**data, **trained, **run_on},
        # What `train-vae` would have made: on a VAE that is there it would train for minutes.
        "train-generator": {**data, **trained, "--vae": str(folder / "new"), **run_on},
        "finetune-generator": {**data, **trained, "--generator": "mnist-finetuned", **run_on,
                               "--base": str(generator)},
        "convert": {"--family": "dit", "--checkpoint": str(checkpoint), "--vae": str(generator),
                    "--folder": str(folder / "converted")},
        "latents": {"--dataset": json.dumps(choice), "--generator": str(generator), "--size": "32",
                    "--classes": json.dumps(CLASSES), **tensor, **run_on},
        "modes": {"--latents": [str(latents)], "--index": str(index), "--discovery": "kmeans",
                  "--ipc": "2", "--generation-seed": "0", **tensor, "--threads": "1"},
        "sample": {**data, **random_, **made, **tensor, **run_on, "--batch": "auto"},
        "trajectory": {**data, **guided, **made, "--generator": str(generator), **tensor, **run_on},
        "decode-modes": {"--modes": str(modes), "--generator": str(generator), "--size": "32",
                         "--classes": json.dumps(CLASSES), **tensor, **run_on},
        "collect": {"--blocks": [str(block)], "--classes": json.dumps(classes), **tensor,
                    "--manifest": str(folder / "out" / "manifest.parquet")},
        "export": {"--distilled": str(images), "--manifest": str(manifest),
                   "--output": str(folder / "exported")},
        "pixels": {**data, "--split": "test", "--size": "32", **tensor},
        "train-teacher": {"--teacher": "conv3-32", "--train": str(images),
                          "--folder": str(folder / "taught"), **run_on},
        "relabel": {"--train": str(images), **taught, "--protocol": "soft-fkd", "--part": "0",
                    "--parts": "300", "--generation-seed": "0", **tensor, **run_on},
        "evaluate": {"--train": str(images), "--test": str(images), "--protocol": "hard-small",
                     "--network": "resnet18", "--generation-seed": "0", "--training-seed": "0",
                     "--context": "{}", **out(".json"), **run_on},
        "tables": {**scored, "--paper": published[0], "--reported": published[1],
                   "--sizes": '[{"dataset": "d", "size": 32}]', "--title": "t",
                   **out(".csv")},
        "cost": {**scored, **csv},
        "claims": {**claimed, "--costs": str(tables / "cost.csv"), **csv},
        "claims-of-measures": {**claimed, "--by-class": str(tables / "metrics_classes.csv"), **csv},
        "embed": {"--distilled": str(images), "--generator": str(generator), "--size": "32",
                  **tensor, **run_on},
        "measure": {"--latents": [str(latents)], "--index": str(index),
                    "--embedded": [str(embedded)], "--slugs": '["mgd3_x"]', "--of": json.dumps(OF),
                    "--not-judged": '{"mgd3_x": "no network"}', **out(".parquet"),
                    "--points": str(folder / "out" / "points.parquet")},
        "judge": {"--distilled": str(images), "--teacher": "conv3-32", **taught, **tensor,
                  **run_on},
        "judge-originals": {**data, "--teacher": "conv3-32", **taught, **tensor, **run_on},
        "measures-table": {"measures": [str(measured)], "--runs": rows_, **csv},
        "tune-rung": {"--grid": json.dumps(TUNING["points"]), "--keep": "1",
                      "--scores": [str(score)], "--before": str(rung), **out(".json")},
        "tune-sample": {"--rung": str(rung), "--slot": "0", **data, **random_, **made,
                        "--generator": str(generator), **tensor, **run_on},
        "tune-proxy": {"--distilled": str(trial_images), "--rung": str(rung), "--slot": "0",
                       "--latents": [str(latents)],
                       "--index": str(index), "--generator": str(generator), "--size": "32",
                       **taught, **out(".json"), **run_on},
        "tune-train": {"--distilled": str(trial_images), "--rung": str(rung), "--slot": "0",
                       "--validation": str(images),
                       "--protocol": "hard-small", "--network": "resnet18", **out(".json"),
                       **run_on},
        "tune-report": {"--tunings": json.dumps(tunings), "--runs": '[{"method": "mgd3"}]',
                        "--slugs": '["a"]', "--title": "t", **csv,
                        "--overlay": str(folder / "out" / "overlay.yaml")},
        "tune-surface": {"results": str(tables / "tuning.csv"), "--tuning": "t", **png},
        "grid": {"--distilled": str(images), **png},
        "overview": {"results": str(tables / "results.csv"), **png},
        "sweep-plot": {"results": str(tables / "results.csv"), "--runs": rows_, "--over": "ipc",
                       **png},
        "cost-plot": {"results": str(tables / "results.csv"), "--costs": str(tables / "cost.csv"),
                      **png},
        "trade-off": {"results": str(tables / "metrics_classes.csv"), **png},
        "sample-map": {"--mapped": str(measured), "--runs": rows_, **png},
        "trade-off-images": {"--measured": str(measured), "--runs": rows_, "--space": "map", **png},
        "trade-off-over-stops": {"--measured": str(measured), "--runs": rows_, "--space": "map",
                                 **png},
        "images-over-stops": {"--runs": json.dumps([ROW]), "--sets": [str(images)],
                              "--decoded": str(images), **png},
        "trajectories": {"--runs": json.dumps([ROW]), "--recorded": [str(recorded)],
                         "--decoded": str(images), **png},
        "modes-and-samples": {"--decoded": str(images), "--distilled": str(images), **png},
        "exhibit": {**data, "--classes": json.dumps(CLASSES), "--slugs": '["mgd3_x"]',
                    "--sets": [str(images)], "--of": json.dumps(OF), **tensor},
        "gallery": {"results": str(tables / "results.csv"), "--exhibits": [str(exhibit)],
                    "--runs": rows_, "--title": "t", **out(".html"),
                    "--small": str(folder / "out" / "small.html")},
        "settings-table": {"manifests": [str(manifest)], "--runs": rows_, **csv},
        "tables-page": {"markdown": [str(markdown)], "--title": "t", **out(".html")},
        "show": {"results": str(tables / "results.csv")},
        "verify": {"tree": str(folder)},
        "plan": {"configs": [str(config)], **run_on},
        "graph": {"configs": [str(config)]},
        "where": {"run_name": "random", "configs": [str(config)]},
        "why": {"artefacts": [str(index)], "--results": str(folder)},
        "view": {"--report": str(folder / "r/~0"), "--output": str(folder / "r/.shown~0")},
    }  # fmt: skip
    for stage, name in (("tables", "results"), ("cost", "cost"), ("measures-table", "metrics"),
                        ("tune-report", "tuning")):  # fmt: skip
        call = {**calls[stage], "--output": str(tables / f"{name}.csv")}
        assert main(spelled(stage, call)) == 0, stage
    return calls


def spelled(stage: str, call: Mapping[str, Any]) -> list[str]:
    """A call as the command line has it."""
    texts, named = [stage], []
    for flag, given in call.items():
        values = [given] if isinstance(given, str) else given
        if not flag.startswith("--"):
            texts += values
        else:
            named += [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]
    return [*texts, *named]


def make_hostile(folder: Path) -> list[str]:
    """Paths of things that no stage should be given, in a folder of their own."""
    folder.mkdir()
    os.mkfifo(folder / "fifo.safetensors")
    (folder / "folder.parquet").mkdir()
    contents = {
        "empty.csv": b"", "empty.json": b"", "junk.safetensors": bytes(range(256)) * 40,
        "latin.csv": "dataset,name\nmüll,ä\n".encode("latin-1"), "list.json": b"[1, 2]",
        "number.json": b"5", "deep.json": b"[" * 50_000, "huge.safetensors": b"\xff" * 64,
        "header.safetensors": (2).to_bytes(8, "little") + b"{}", "other.csv": b"a,b\n1,2\n",
        "ragged.csv": b"a,b\n1,2,3,4\n5\n", "null.yaml": b"null\n", "text.yaml": b"- [: x\n",
        "quoted.csv": b'a,b\n"1,2\n', "nul.csv": b"a,\0b\n\0,\0\n",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(path) for path in sorted(folder.iterdir())]


TEXTS = (
    "", " ", "nan", "inf", "-1", "0", "1e9", "99999999999999999999", "3.5", "true", "null", "[]",
    "{}", "[1]", '"x"', '[{"run": 1}]', '{"name": 5}', '{"name": "digits", "size": 7}', "[[[[",
    '{"selection": NaN}', '{"variant": "x"}', "[null]", '["a", "a"]', "x" * 300, "a\nb", "\x1b[2J",
    "\x7f", "..", "~", "ünï", "-x", "--flip", "cuda:99", "resnet10", "dit", "yes",
    "\udcff", "%s%n", "{run}", "256-", "0-0", "224-256", "1-tensor", "/nonexistent/x.json",
)  # fmt: skip


def hostile_calls(
    calls: dict[str, dict[str, Any]], bad_paths: list[str], seed: int, count: int
) -> list[list[str]]:
    """Calls with one to three arguments replaced, dropped or repeated."""
    draws = random.Random(seed)
    files = sorted(
        {v for call in calls.values() for given in call.values()
         for v in ([given] if isinstance(given, str) else given) if Path(v[:200]).is_file()}
    )  # fmt: skip
    found = []
    for k in range(count):
        stage = sorted(calls)[k % len(calls)]
        call = dict(calls[stage])
        kinds = {f.flag: f.kind for f in CONTRACTS[stage].fields()}
        for flag in draws.sample(sorted(call), min(len(call), draws.choice([1, 1, 2, 3]))):
            kind = kinds.get(flag)
            pool: Sequence[str] = TEXTS
            if draws.random() < 0.7 and isinstance(kind, InFile | InFolder):
                pool = [*bad_paths, *files]
            elif draws.random() < 0.5 and isinstance(kind, OutFile | OutFolder):
                pool = bad_paths  # not what later calls read
            call[flag] = draws.choice(pool)
        found.append(spelled(stage, call))
    return found
