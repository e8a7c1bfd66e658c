"""Hostile arguments of every stage: one sentence and exit status 2, never a traceback or a hang."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hostile import hostile_calls, make_calls, make_hostile, spelled
from mgd3.base import artifacts
from mgd3.cli import main
from mgd3.generators.registry import GENERATORS
from mgd3.stages import CONTRACTS

SEED, CALLS, SECONDS = 1, 447, 60


@pytest.fixture(scope="module")
def calls(dit_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    generator = folder / "generator"
    shutil.copytree(dit_folder, generator)
    return make_calls(folder / "world", generator)


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch):
    """Some calls are none the worse for what was done to them, and train."""
    entry = GENERATORS["tiny-dit"]
    vae, dit = replace(entry.recipe.vae, steps=2), replace(entry.recipe.dit, steps=2)
    shorter = replace(entry, recipe=replace(entry.recipe, vae=vae, dit=dit))
    monkeypatch.setitem(GENERATORS, "tiny-dit", shorter)


@pytest.fixture
def alarm():
    """A call that hangs is a failure, not a test that never ends."""

    def ring(*_):
        pytest.fail("the call hangs")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_every_stage_has_a_call(calls):
    fetching = {name for name in CONTRACTS if name.startswith("fetch-")}
    assert set(calls) == set(CONTRACTS) - fetching - {"schema", "stages"}


def test_hostile_arguments_are_one_sentence(calls, alarm, tmp_path, monkeypatch, capsys):
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    bad = make_hostile(tmp_path / "bad")
    count: Counter[int] = Counter()
    for call in hostile_calls(calls, bad, SEED, CALLS):
        alarm()
        status = main(call)
        signal.alarm(0)
        said = capsys.readouterr().err
        count[status] += 1
        # A tree that is not what its records say is no mistake of the command line.
        assert status in (0, 2) or (call[0] == "verify" and not said), (call, said)
        assert "Traceback" not in said and "bug in" not in said, (call, said)
        assert status == 0 or call[0] == "verify" or "error: " in said, (call, said)
    assert count[2] > CALLS * 0.8, "too few of them are hostile"


@pytest.mark.parametrize("stage", ["index", "grid", "collect", "show"])
def test_the_calls_themselves_would_do(calls, stage):
    assert main(spelled(stage, calls[stage])) == 0


def test_natural_slips_are_one_sentence(calls, tmp_path, capsys):
    latin, lacking = tmp_path / "latin.csv", tmp_path / "lacking.csv"
    latin.write_bytes("dataset,label\nmüll,x\n".encode("latin-1"))
    lacking.write_text("dataset,ipc\ndigits,1\n")
    markdown = calls["tables-page"]["markdown"][0]
    pixels = spelled("pixels", {**calls["pixels"], "--size": ""})
    grid = spelled("grid", {**calls["grid"], "--output": str(tmp_path / "x")})
    embed = spelled("embed", {**calls["embed"], "--device": "x"})
    for texts, words in (
        (["show", markdown], ["tables.md", "results.csv"]),
        (["show", str(latin)], ["latin.csv", "UTF-8"]),
        (["show", str(lacking)], ["lacking.csv", "no column"]),
        (["show", str(tmp_path)], ["is a folder"]),
        (["show", str(tmp_path / ("x" * 300))], ["too long"]),
        (pixels, ["--size", "is no size"]),
        (grid, ["--output", "does not end in .png"]),
        (embed, ["--device", "auto, cpu, cuda"]),
        (["shw"], ["did you mean 'show'?"]),
        (["show"], ["required", "--help"]),
    ):
        assert main(texts) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
        assert said.startswith("error: ") and said.count("\n") == 2, said


def test_only_files_of_our_own_kind_are_replaced(calls, tmp_path, capsys):
    """Told before the work: what stands there keeps standing. (No real device is named here.)"""
    fifo, folder, link = (tmp_path / f"{name}.png" for name in ("fifo", "folder", "link"))
    os.mkfifo(fifo)
    folder.mkdir()
    link.symlink_to(fifo)
    for output in (fifo, folder, link):
        assert main(spelled("grid", {**calls["grid"], "--output": str(output)})) == 2
        assert output.name in capsys.readouterr().err
    assert fifo.is_fifo() and folder.is_dir() and link.is_symlink()
    kept, linked = tmp_path / "kept.png", tmp_path / "linked.png"
    kept.write_bytes(b"old")
    linked.symlink_to(kept)
    assert main(spelled("grid", {**calls["grid"], "--output": str(linked)})) == 0
    assert kept.read_bytes() == b"old" and not linked.is_symlink()


def test_no_output_lies_on_an_input_or_on_another_output(calls, capsys):
    call = calls["collect"]
    assert main(spelled("collect", {**call, "--output": call["--blocks"][0]})) == 2
    assert "would be read, too" in capsys.readouterr().err
    measure = calls["measure"]
    assert main(spelled("measure", {**measure, "--points": measure["--output"]})) == 2
    assert "written twice" in capsys.readouterr().err


def test_a_bug_is_one_line_that_names_a_file(tmp_path, monkeypatch, capsys):
    def broken(self):
        raise ZeroDivisionError("of our own making")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(CONTRACTS["schema"], "run", broken)
    assert main(["schema"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bug in schema, traceback in ") and said.count("\n") == 1
    assert "of our own making" in Path(said.split("traceback in ")[1].strip()).read_text()


@pytest.mark.parametrize("number", ["EMFILE", "EFBIG", "EIO", "ENAMETOOLONG", "EISDIR", "ELOOP"])
def test_errors_of_the_system_are_one_sentence(number, monkeypatch, capsys):
    def failing(self):
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code), "some/file.csv")

    monkeypatch.setattr(CONTRACTS["schema"], "run", failing)
    assert main(["schema"]) == 2
    said = capsys.readouterr().err
    assert "some/file.csv" in said and "->" in said and said.count("\n") == 2


CLASSES = ["one", "three", "two"]
GUIDED = {"variant": "ddpm", "cfg": 1.0, "cfg_channels": "all", "steps": 3, "spacing": "auto",
          "precision": "float32", "modes": "kmeans", "lambda": 0.1, "t_sg": 1}  # fmt: skip


def odd_calls(calls, folder, generator):
    """Files of the right kind that hold something else: stage, what is replaced, words of the
    message."""

    def saved(name: str, tensors, metadata) -> str:
        artifacts.save_tensors(folder / name, tensors, metadata)
        return str(folder / name)

    def modes(name: str, shape) -> str:
        tensors = {c: torch.zeros(shape) for c in CLASSES}
        return saved(f"{name}.safetensors", tensors, {"classes": CLASSES, "images": {}})

    def written(name: str, value) -> str:
        artifacts.save_json(folder / name, value)
        return str(folder / name)

    mgd3 = {"--method": "mgd3", "--settings": json.dumps(GUIDED), "--generator": str(generator)}
    nearest = {"--method": "nearest", "--settings": "{}"}
    few, flat = modes("few", (1, 4, 8, 8)), modes("flat", (2, 64))
    other = modes("other", (2, 3, 5, 5))
    yield "sample", {**mgd3, "--modes": few}, "1 modes of class"
    yield "sample", {**mgd3, "--modes": flat}, "other|F32"
    yield "sample", {**mgd3, "--modes": other}, "shape"
    yield "sample", {**nearest, "--modes": modes("unreal", (2, 4, 8, 8))}, "0 modes of class"
    yield "decode-modes", {"--modes": other}, "channels"
    yield "sample", {"--classes": "[]"}, "has none"
    yield "sample", {"--classes": '["one", "one"]'}, "twice"
    yield "latents", {"--size": "1"}, "too small"
    for stage in ("tune-sample", "tune-proxy", "tune-train"):
        yield stage, {"--slot": "99"}, "slots"
    for stage in ("tune-proxy", "tune-train"):
        yield stage, {"--slot": "1"}, "is not of slot 1"
    path = calls["modes"]["--latents"][0]
    z, about = artifacts.load_tensors(path), artifacts.tensor_metadata(path)
    yield (
        "modes",
        {"--latents": saved("a.safetensors", {k: v[:1] for k, v in z.items()}, about)},
        "",
    )
    yield "modes", {"--latents": saved("b.safetensors", {k: v.long() for k, v in z.items()},
                                       about)}, "I64"  # fmt: skip
    yield "modes", {"--latents": saved("c.safetensors", z, {**about, "images": {}})}, "list"
    path = calls["grid"]["--distilled"]
    held, about = artifacts.load_tensors(path), artifacts.tensor_metadata(path)
    outside = saved("outside.safetensors", {**held, "labels": held["labels"] + 5}, about)
    for stage, flag in (("train-teacher", "--train"), ("evaluate", "--train")):
        yield (
            stage,
            {flag: outside, **({"--network": "convnet3"} if stage == "evaluate" else {})},
            ("has label"),
        )
    judged = json.loads(Path(calls["tune-rung"]["--scores"][0]).read_text())
    others = ({"score": "x"}, {"trial": 99}, {"slot": 1}, {"slot": 99}, {"rung": 1})
    for k, wrong in enumerate(([1], *({**judged, **other} for other in others))):
        yield "tune-rung", {"--scores": written(f"rung{k}.json", wrong)}, f"rung{k}.json"
    tuning = json.loads(calls["tune-report"]["--tunings"])[0]
    for key, wrong in (("scores", []), ("scores", [[]]), ("points", []), ("slugs", ["a"])):
        yield "tune-report", {"--tunings": json.dumps([{**tuning, key: wrong}])}, "--tunings"
    good = Path(calls["tables"]["--scores"][0])
    score = json.loads(good.read_text())
    for key, wrong in (("accuracy", 5), ("ipc", "x"), ("run_settings", [1]), ("seconds", "x"),
                       ("generation_seed", None), ("n_test", "q"),
                       ("label_bytes", "x")):  # fmt: skip
        file = written(f"score_{key}.json", {**score, key: wrong})
        shutil.copy(good.with_suffix(".safetensors"), Path(file).with_suffix(".safetensors"))
        for stage in ("tables", "cost", "claims"):
            yield stage, {"--scores": file}, f"score_{key}.json is not a score: it {key} is"
    for k, text in enumerate(("claims: [1, 2]\n", "claims: {a: 1}\n", "- x\n", "a: [\n")):
        (folder / f"ledger{k}.yaml").write_text(text)
        yield "claims", {"--ledger": str(folder / f"ledger{k}.yaml")}, f"ledger{k}.yaml"
    elsewhere = shutil.copy(calls["settings-table"]["manifests"][0], folder / "manifest.parquet")
    yield "settings-table", {"manifests": [str(elsewhere)]}, "does not lie"
    yield "settings-table", {"--runs": "[]"}, "is of run"
    teacher = Path(calls["judge"]["--teacher-folder"])
    card = json.loads((teacher / "teacher.json").read_text())
    for key, wrong in (("network", "zz"), ("classes", 5), ("size", "x"), ("mean", None)):
        copy = shutil.copytree(teacher, folder / f"teacher_{key}")
        artifacts.save_json(copy / "teacher.json", {**card, key: wrong})
        yield "judge", {"--teacher-folder": str(copy)}, key if key != "network" else "zz"
    for file in ("model_index.json", "vae/config.json", "transformer/config.json",
                 "scheduler/scheduler_config.json"):  # fmt: skip
        for k, text in enumerate(("{", "[1]")):
            copy = shutil.copytree(generator, folder / f"{file.replace('/', '_')}{k}")
            (copy / file).write_text(text)
            fine = str(folder / "unreal.safetensors")
            yield "sample", {**mgd3, "--modes": fine, "--generator": str(copy)}, ""


def test_files_that_hold_something_else_are_one_sentence(calls, dit_folder, tmp_path, capsys):
    generator = shutil.copytree(dit_folder, tmp_path / "generator")
    index = json.loads((generator / "model_index.json").read_text())
    names = {str(row): name for row, name in enumerate([*CLASSES, *"abcdefg"])}
    (generator / "model_index.json").write_text(json.dumps({**index, "id2label": names}))
    seen = 0
    for stage, changes, words in odd_calls(calls, tmp_path, generator):
        status = main(spelled(stage, {**calls[stage], **changes}))
        said = capsys.readouterr().err
        assert status == 2 and "error: " in said, (stage, changes, said)
        assert re.search(words, said), (stage, changes, said)
        seen += 1
    assert seen >= 60
