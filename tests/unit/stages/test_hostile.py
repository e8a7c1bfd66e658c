"""Hostile arguments of every stage: one sentence and exit status 2, never a traceback or a hang."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from hostile import hostile_calls, make_calls, make_hostile, spelled
from mgd3.cli import main
from mgd3.stages import CONTRACTS

SEED, CALLS, SECONDS = 1, 447, 60


@pytest.fixture(scope="module")
def calls(dit_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    generator = folder / "generator"
    shutil.copytree(dit_folder, generator)
    return make_calls(folder / "world", generator)


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
