"""Files are whole or absent, whoever can read the folder can read them, and damage is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mgd3.base import artifacts
from mgd3.base.errors import UserError

TABLE = pd.DataFrame({"class": ["a", "b"], "n": [1, 2]})


def write(kind: str, path: Path) -> None:
    if kind == "tensors":
        artifacts.save_tensors(path, {"x": torch.arange(1000.0)}, {"é": 1})
    elif kind == "table":
        artifacts.save_table(path, TABLE, {"é": 1})
    else:
        artifacts.save_json(path, {"é": list(range(100))})


READERS = {
    "tensors": [artifacts.load_tensors, artifacts.tensor_metadata],
    "table": [artifacts.load_table, artifacts.table_metadata],
    "json": [artifacts.load_json],
}
KINDS = list(READERS)


def test_what_is_written_is_read_back(tmp_path):
    for kind in KINDS:
        write(kind, tmp_path / kind)
    assert torch.equal(artifacts.load_tensors(tmp_path / "tensors")["x"], torch.arange(1000.0))
    assert artifacts.tensor_metadata(tmp_path / "tensors")["é"] == 1
    pd.testing.assert_frame_equal(artifacts.load_table(tmp_path / "table"), TABLE)
    assert artifacts.table_metadata(tmp_path / "table")["é"] == 1
    assert artifacts.load_json(tmp_path / "json") == {"é": list(range(100))}


def test_arrays_are_the_bytes_of_tensors_and_read_as_they_are(tmp_path):
    tensors = {
        "images": torch.arange(5 * 3 * 2 * 2, dtype=torch.uint8).reshape(5, 3, 2, 2),
        "labels": torch.arange(5),
        "weights": torch.arange(6.0).reshape(2, 3).T,
        "none": torch.zeros(0, 3),
    }
    artifacts.save_tensors(tmp_path / "tensors", tensors, {"é": 1})
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    artifacts.save_arrays(tmp_path / "arrays", arrays, {"é": 1})
    assert (tmp_path / "arrays").read_bytes() == (tmp_path / "tensors").read_bytes()
    read = artifacts.load_arrays(tmp_path / "tensors")
    assert read.keys() == tensors.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("chunk", [1, 2, 5, 256])
def test_rows_come_in_pieces(tmp_path, chunk):
    artifacts.save_tensors(tmp_path / "x", {"x": torch.arange(10).reshape(5, 2)}, {})
    pieces = list(artifacts.tensor_rows(tmp_path / "x", "x", chunk))
    assert [len(piece) for piece in pieces[:-1]] == [chunk] * (len(pieces) - 1)
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(10).reshape(5, 2))


def test_a_process_killed_while_writing_leaves_no_file_that_looks_finished(tmp_path):
    target = tmp_path / "out.safetensors"
    program = f"""
import time
from pathlib import Path
from mgd3.base import artifacts
with artifacts.atomic({str(target)!r}) as temporary:
    temporary.write_bytes(b"half")
    Path({str(tmp_path / "begun")!r}).touch()
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        for _ in range(1000):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "begun").exists()
    assert not target.exists()
    assert not list(tmp_path.glob("*.safetensors")), "what is left is hidden"
    alive = artifacts.temporary_beside(target)
    alive.write_text("of this process")
    write("tensors", tmp_path / "another.safetensors")
    assert len(list(tmp_path.glob(".out*.tmp"))) == 2
    artifacts.discard_leftovers(target)
    assert list(tmp_path.glob(".out*.tmp")) == [alive], "what the killed one left is gone"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_and_keeps_what_was_there(tmp_path, error):
    target = tmp_path / "out"
    for before in ([], ["out"]):
        with pytest.raises(error), artifacts.atomic(target) as temporary:
            temporary.write_text("half")
            raise error
        assert [p.name for p in tmp_path.iterdir()] == before
        target.write_text("old")
    assert target.read_text() == "old"


@pytest.mark.parametrize("below", ["file/out", "file/folder/out"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_cannot_be_made_is_named(tmp_path, kind, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*out"):
        write(kind, tmp_path / below)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["empty", "truncated", "zeroed end", "noise"])
def test_a_damaged_file_is_named(tmp_path, kind, damage):
    path = tmp_path / "damaged-one"
    write(kind, path)
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(
        {
            "empty": b"",
            "truncated": whole[:half],
            "zeroed end": whole[:half] + bytes(len(whole) - half - 8) + whole[-8:],
            "noise": b"\xff\xfe\x80" * 100,
        }[damage]
    )
    if kind == "tensors" and damage == "zeroed end":
        return  # lies in the numbers, which carry no checksum
    for read in READERS[kind]:
        with pytest.raises(UserError, match="damaged-one"):
            read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(tmp_path, kind):
    for read in READERS[kind]:
        with pytest.raises(UserError, match=r"not found: .*absent"):
            read(tmp_path / "absent")


def test_a_missing_entry_is_named(tmp_path):
    write("tensors", tmp_path / "x")
    with pytest.raises(UserError, match="no entry for 'y'"):
        artifacts.load_tensors(tmp_path / "x", ["x", "y"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_open_gives(tmp_path, kind, umask):
    before = os.umask(umask)
    try:
        write(kind, tmp_path / "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~umask
