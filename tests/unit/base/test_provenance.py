"""Records name what made a file, and `mgd3 verify` finds every file that is not what was made."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mgd3.base import records
from mgd3.base.artifacts import load_json
from mgd3.base.errors import UserError
from mgd3.base.records import Problem, record_of, recorded, revision, verify
from mgd3.cli import main

DIGITS = json.dumps("digits")


def make(folder: Path) -> list[Path]:
    """A chain of three files, each made from the one before."""
    folder.mkdir(parents=True)
    files: list[Path] = []
    for name in ("a.txt", "b.bin", "deeper/c.bin"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        with recorded(
            record_of(file), "stage", settings={"seed": 1}, inputs=files[-1:], outputs=[file]
        ):
            file.write_bytes(name.encode() * 100)
        files.append(file)
    return files


def flip(file: Path, at: int = 50) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def found(folder: Path) -> list[tuple[str, str]]:
    return [(p.kind, str(p.file.relative_to(folder))) for p in verify(folder)[1]]


def test_what_was_made_is_sound(tmp_path):
    make(tmp_path / "results")
    assert verify(tmp_path / "results") == (3, [])


def test_a_tree_may_move(tmp_path):
    make(tmp_path / "results")
    shutil.move(tmp_path / "results", tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere") == (3, [])


def test_one_flipped_bit_is_found_and_only_there(tmp_path):
    a, b, _ = make(tmp_path / "results")
    flip(b)
    assert found(tmp_path / "results") == [("damaged", "b.bin")]
    flip(a)
    assert found(tmp_path / "results") == [("damaged", "a.txt"), ("damaged", "b.bin")]


def test_missing_and_unexpected_files_are_named(tmp_path):
    a, _, _ = make(tmp_path / "results")
    a.unlink()
    (tmp_path / "results/deeper/mine.txt").write_text("notes")
    (tmp_path / "results/.b.bin.host.1.tmp").write_text("unfinished")
    (tmp_path / "results/logs").mkdir()
    (tmp_path / "results/logs/x.log").write_text("said")
    # The reports of a name are links, some to pages that nobody has asked for yet.
    (tmp_path / "results/gallery.html").symlink_to("~0123456789ab/gallery.html")
    (tmp_path / "results/page.html").symlink_to("deeper/mine.txt")
    assert found(tmp_path / "results") == [("missing", "a.txt"), ("unexpected", "deeper/mine.txt")]


def test_a_file_made_from_another_version_of_its_input_is_stale(tmp_path):
    a, b, _ = make(tmp_path / "results")
    with recorded(record_of(a), "stage", settings={}, inputs=[], outputs=[a]):
        a.write_text("made anew, otherwise")
    (problem,) = verify(tmp_path / "results")[1]
    assert problem == Problem("stale", b, f"made from another {a} than is there now")


def test_a_damaged_record_is_named(tmp_path):
    a, _, _ = make(tmp_path / "results")
    record_of(a).write_text("{")
    assert ("damaged", "a.provenance.json") in found(tmp_path / "results")


def test_a_damaged_input_is_refused_and_leaves_no_record(tmp_path):
    a, b, _ = make(tmp_path / "results")
    flip(a)
    with (
        pytest.raises(UserError, match=r"a\.txt is damaged(.|\n)*--forcerun .*a\.txt"),
        recorded(record_of(b), "stage", settings={}, inputs=[a], outputs=[b]),
    ):
        raise AssertionError("the stage ran")
    assert not record_of(b).exists()


def test_a_failed_stage_leaves_no_record(tmp_path):
    a, b, _ = make(tmp_path / "results")
    with (
        pytest.raises(ZeroDivisionError),
        recorded(record_of(b), "stage", settings={}, inputs=[a], outputs=[b]),
    ):
        raise ZeroDivisionError
    assert not record_of(b).exists()


@pytest.mark.parametrize("tree", ["nowhere", "empty"])
def test_a_folder_without_records_is_named(tmp_path, tree):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=tree):
        verify(tmp_path / tree)


def test_stages_leave_records(tmp_path, monkeypatch, capsys):
    """Real stages, as the workflow calls them."""
    monkeypatch.chdir(tmp_path)
    index, block = "results/index.parquet", "results/block0.safetensors"
    assert main(["index", "--dataset", DIGITS, "--output", index]) == 0
    sample = ["sample", "--dataset", DIGITS, "--index", index, "--method", "random",
              "--settings", '{"selection": "seeded"}', "--classes", '["digit-3"]', "--ipc", "2",
              "--generation-seed", "7", "--output", block]  # fmt: skip
    assert main(sample) == 0
    first = Path(block).read_bytes()
    collect = ["collect", "--blocks", block, "--classes", '["digit-3"]',
               "--output", "results/images.safetensors",
               "--manifest", "results/manifest.parquet"]  # fmt: skip
    assert main(collect) == 0

    record = load_json(Path("results/block0.provenance.json"))
    assert record["settings"]["generation_seed"] == 7
    assert record["settings"]["method"] == "random"
    assert record["inputs"] == load_json(Path("results/index.provenance.json"))["files"]
    assert record["device"] == "cpu"
    assert record["seconds"] > 0
    assert record["peak_memory_bytes"] > 1e7
    assert {"python", "mgd3", "torch", "numpy"} <= set(record["versions"])
    whole = load_json(Path("results/images.provenance.json"))
    assert set(whole["files"]) == {"images.safetensors", "manifest.parquet"}
    assert whole["sampling"]["seconds"] == record["seconds"]
    assert whole["sampling"]["settings"] == {"selection": "seeded"}

    # Made again: the same bytes, whatever it took.
    assert main(sample) == 0
    assert Path(block).read_bytes() == first
    assert main(["verify", "results"]) == 0
    assert "4 files are sound" in capsys.readouterr().out

    flip(Path(block), -5)
    assert main(["verify", "results"]) == 1
    said = capsys.readouterr().out
    assert f"damaged    {block}" in said
    assert f"--forcerun {block}" in said
    assert main(collect) == 2
    assert f"{block} is damaged" in capsys.readouterr().err


def test_the_revision_is_that_of_the_workflow_or_unknown(tmp_path, monkeypatch):
    package = tmp_path / "clone" / "workflow" / "mgd3"
    (package / "base").mkdir(parents=True)
    monkeypatch.setattr(records, "__file__", str(package / "base" / "records.py"))
    (package / "base" / "records.py").write_text("x = 1\n")
    assert revision() == "unknown"  # an unpacked archive

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path / "clone"), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert revision() == "unknown"  # in somebody's repository, but not of it
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert revision() == head
    (package / "base" / "records.py").write_text("x = 2\n")
    assert revision() == f"{head}-dirty"
