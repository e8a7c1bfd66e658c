"""An artefact says what it is; one flipped bit, and anything else than expected, is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from mgd3.base import artifacts, headers
from mgd3.base.errors import UserError
from mgd3.base.identity import Owner, identity

WHAT = identity("modes", 3, owners=[Owner("discovery", "kmeans", 1)], settings={"ipc": 2, "é": "ü"})
OTHER = identity("modes", 3, owners=[Owner("discovery", "kmeans", 1)], settings={"ipc": 5})
TABLE = pd.DataFrame({"class": ["a", "b"], "n": [1, 2]})


def write(kind: str, path: Path, what=WHAT) -> Path:
    if kind == "tensors":
        artifacts.save_tensors(
            path, {"x": torch.arange(20.0), "y": torch.ones(2, 3)}, {"é": 1}, what
        )
    elif kind == "table":
        artifacts.save_table(path, TABLE, {"é": 1}, what)
    else:
        artifacts.save_json(path, {"é": list(range(20)), "mgd3-like": {"seal": "none"}}, what)
    return path


READERS = {
    "tensors": artifacts.load_tensors,
    "table": artifacts.load_table,
    "json": artifacts.load_json,
}
KINDS = list(READERS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_and_says_what_it_is(tmp_path, kind):
    path = write(kind, tmp_path / "x")
    for expecting in (None, WHAT, WHAT.digest, WHAT.short):
        assert headers.check(path, expecting) == WHAT
        READERS[kind](path, expecting=expecting)
    assert headers.identity_of(path) == WHAT
    assert dict(headers.identity_of(path).description) == WHAT.description
    if kind == "tensors":
        assert torch.equal(artifacts.load_tensors(path)["x"], torch.arange(20.0))
        assert artifacts.tensor_metadata(path)["é"] == 1
    elif kind == "table":
        pd.testing.assert_frame_equal(artifacts.load_table(path), TABLE)
        assert artifacts.table_metadata(path)["é"] == 1
    else:
        value = {"é": list(range(20)), "mgd3-like": {"seal": "none"}}
        assert artifacts.load_json(path) == value


@pytest.mark.parametrize("kind", KINDS)
def test_making_it_again_gives_the_same_bytes(tmp_path, kind):
    assert write(kind, tmp_path / "x").read_bytes() == write(kind, tmp_path / "y").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere_is_found(tmp_path, kind):
    path = write(kind, tmp_path / "x")
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(UserError):
            headers.check(path)
    for short in (0, 1, 7, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:short])
        with pytest.raises(UserError):
            headers.check(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(UserError):
        headers.check(path)
    path.write_bytes(whole)
    assert headers.check(path) == WHAT


@pytest.mark.parametrize("kind", KINDS)
def test_readers_refuse_what_is_not_expected_in_one_sentence(tmp_path, kind):
    path = write(kind, tmp_path / "x")
    with pytest.raises(UserError) as refusal:
        READERS[kind](path, expecting=OTHER)
    assert refusal.value.what == (
        f"{path} is modes {WHAT.short}, not {OTHER.short}: ipc 2 -> 5 and 1 more"
    )
    for digest in (OTHER.digest, OTHER.short, WHAT.digest[:4], ""):
        with pytest.raises(UserError, match=f"is modes {WHAT.short}, not"):
            READERS[kind](path, expecting=digest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_identity_is_as_before_and_no_proof(tmp_path, kind):
    path = write(kind, tmp_path / "x", None)
    assert b'seal": "mgd3-sha256' not in path.read_bytes()
    READERS[kind](path)
    assert headers.identity_of(path) is None
    with pytest.raises(UserError, match="does not say what it is"):
        READERS[kind](path, expecting=WHAT)
    with pytest.raises(UserError, match=r"not found: .*absent"):
        READERS[kind](tmp_path / "absent", expecting=WHAT)


def test_a_header_that_was_forged_with_its_seal_is_found(tmp_path):
    path = write("json", tmp_path / "x")
    text = path.read_text().replace('"ipc": 2', '"ipc": 7')
    seal = text.split("mgd3-sha256:")[1][:64]
    path.write_text(text.replace(seal, 64 * "0"))
    headers.close_seal(path)
    with pytest.raises(UserError, match="its identity is not that of its description"):
        headers.check(path)


def test_a_folder_says_what_it_is(tmp_path):
    folder = tmp_path / "generator"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "weights").write_bytes(b"12345")
    (folder / "model_index.json").write_text("{}")
    (folder / ".checkpoint").write_text("hidden")
    artifacts.save_folder_header(folder, WHAT)
    artifacts.save_folder_header(folder / "vae", OTHER)
    before = (folder / headers.FOLDER_HEADER).read_bytes()
    artifacts.save_folder_header(folder, WHAT)
    assert (folder / headers.FOLDER_HEADER).read_bytes() == before
    assert headers.check(folder, WHAT) == headers.identity_of(folder) == WHAT
    assert headers.check(folder / "vae", OTHER) == OTHER
    (folder / "training.provenance.json").write_text("came later")
    (folder / ".checkpoint").unlink()
    moved = shutil.move(folder, tmp_path / "moved")
    assert headers.check(moved, WHAT) == WHAT
    with pytest.raises(UserError, match="not "):
        headers.check(moved, OTHER)
    weights = Path(moved) / "vae" / "weights"
    weights.write_bytes(b"12346")
    for of in (Path(moved), Path(moved) / "vae"):
        with pytest.raises(UserError, match=r"vae.weights is damaged"):
            headers.check(of)
    weights.unlink()
    with pytest.raises(UserError, match="it has no vae/weights"):
        headers.check(moved)


def test_headers_are_read_without_torch(tmp_path):
    path = write("tensors", tmp_path / "x")
    program = (
        "import sys; from pathlib import Path; from mgd3.base import headers\n"
        f"assert headers.check(Path({str(path)!r}), {WHAT.short!r}).short == {WHAT.short!r}\n"
        "assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))


def test_json_stays_json_for_others(tmp_path):
    value = json.loads(write("json", tmp_path / "x").read_text())
    assert value["mgd3"]["identity"]["stage"] == "modes"
    assert value["é"] == list(range(20))
