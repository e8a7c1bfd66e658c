"""What an artefact says of itself in its own header: its identity, and a seal over all its bytes.

The seal is the SHA-256 of the file with the seal's own digits as zeros, so one flipped bit anywhere
in the file is found from the file alone. What changes from run to run (seconds, memory, machine)
stands in the record beside it: making an artefact again gives the same header.

A safetensors file has the header in its metadata, Parquet in its footer, JSON under the key `mgd3`;
a folder of files that only work together has `mgd3.json`, with the hash of each.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError
from .identity import SHORT, Identity, difference

KEY = "mgd3"
SEAL = "seal"
# What lies in a folder and speaks of all its files.
FOLDER_HEADER = "mgd3.json"
_PREFIX = "mgd3-sha256:"
UNSEALED = _PREFIX + 64 * "0"
_SEAL = re.compile(rf"{_PREFIX}([0-9a-f]{{64}})".encode())
# The seal of a JSON file stands in its first bytes.
_JSON_HEAD = 256
_CHUNK = 1 << 22
# Of files that have a header.
SUFFIXES = (".safetensors", ".parquet", ".json")
# At the end of a component, or before its suffix.
_DIGITS = re.compile(rf"[^~]~([0-9a-f]{{{SHORT}}})(?![0-9a-f])")
# Folders above a file in which its identity may stand: `text_encoder/model.safetensors`.
_ABOVE = 3


def header_of(identity: Identity) -> dict[str, Any]:
    """The entries of a header that make an artefact tell what it is. `close_seal` comes last."""
    return {SEAL: UNSEALED, "identity": {"digest": identity.digest, **identity.description}}


def close_seal(path: Path) -> None:
    """Write the hash of a whole file, its header included, into its seal."""
    start = _seal_at(path)
    digest = _hash(path, start)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(digest.encode())


def identity_of(path: str | Path) -> Identity | None:
    """What an artefact (or a folder) says it is; None where it says nothing. Reads no data.

    Raises:
        UserError: it is missing, or its header is damaged.
    """
    path = _header_file(Path(path))
    try:
        found = _header(path).get("identity")
        if found is None:
            return None
        digest = found.pop("digest")
        identity = Identity(found)
        if identity.digest != digest:
            raise ValueError("its identity is not that of its description")
        return identity
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error


def check(path: str | Path, expecting: Identity | str | None = None) -> Identity:
    """Read an artefact whole, or the files of a folder, and make sure of it.

    Args:
        expecting: what it must be: an identity, or its digest (its first digits are enough).

    Returns:
        What it is.

    Raises:
        UserError: it is missing or damaged, does not say what it is, or is something else.
    """
    path = Path(path)
    file = _header_file(path)
    start = _seal_at(file)
    with file.open("rb") as opened:
        opened.seek(start)
        sealed = opened.read(64)
    if _hash(file, start).encode() != sealed:
        raise damaged(file, "not the bytes that were written")
    found = identity_of(file)
    if found is None:
        raise _mute(file)
    if file != path:
        _check_files(path, file)
    if expecting is not None:
        require(path, found, expecting)
    return found


def check_path(path: Path) -> None:
    """Make sure that an artefact is what its path says; where its path says nothing, that is all.

    Raises:
        UserError: it is damaged, is something else, or does not say what it is.
    """
    if found := _DIGITS.search(path.name):
        check(path, found[1])
        return
    for folder in list(path.absolute().parents)[:_ABOVE]:
        if found := _DIGITS.search(folder.name):
            _check_in(folder, path, found[1])
            return


def _check_in(folder: Path, path: Path, digits: str) -> None:
    """A file in a folder of one identity: it has a header of its own, or the folder has one."""
    header = folder / FOLDER_HEADER
    if not header.is_file() or path.name == FOLDER_HEADER:
        check(path, digits)
        return
    found = identity_of(header)
    if found is None:
        raise _mute(header)
    require(folder, found, digits)
    name = str(path.absolute().relative_to(folder))
    wanted = json.loads(header.read_bytes())["files"].get(name)
    if wanted is None:
        raise damaged(folder, f"{FOLDER_HEADER} names no {name}")
    if path.stat().st_size != wanted["bytes"] or sha256_of(path) != wanted["sha256"]:
        raise damaged(path, "not the bytes that were written")


def require(path: Path, found: Identity, expecting: Identity | str) -> None:
    """Raise UserError unless `found`, which `path` says it is, is what is expected."""
    digest = expecting.digest if isinstance(expecting, Identity) else expecting
    if len(digest) >= SHORT and found.digest.startswith(digest):
        return
    why = ""
    if isinstance(expecting, Identity) and (clauses := difference(found, expecting)):
        why = f": {clauses[0]}" + (f" and {len(clauses) - 1} more" if len(clauses) > 1 else "")
    raise UserError(
        f"{path} is {found.description['stage']} {found.short}, not {digest[:SHORT]}{why}",
        "delete it and run the workflow again to make what is wanted",
    )


def folder_header(folder: Path, identity: Identity) -> dict[str, Any]:
    """The content of `mgd3.json`: to be written, and sealed, when all other files are there."""
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in _files(folder)
    }
    return {KEY: header_of(identity), "files": files}


def damaged(path: str | Path, error: Exception | str) -> UserError:
    return UserError(
        f"{path} is damaged: {error}", "delete it and run the workflow again to remake it"
    )


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mute(path: Path) -> UserError:
    return UserError(
        f"{path} does not say what it is",
        "it was not written by this version of the workflow: delete it and run again",
    )


def _header_file(path: Path) -> Path:
    file = path / FOLDER_HEADER if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"artefact not found: {file}", "run the stage that makes it")
    return file


def _files(folder: Path) -> Iterator[Path]:
    """The visible files of a folder and those below it, but headers of folders."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            if name[0] != "." and name != FOLDER_HEADER:
                yield Path(parent, name)


def _check_files(folder: Path, header: Path) -> None:
    """Files that came later are not looked at: a record, say."""
    for name, wanted in json.loads(header.read_bytes())["files"].items():
        file = folder / name
        if not file.is_file():
            raise damaged(folder, f"it has no {name}")
        if file.stat().st_size != wanted["bytes"] or sha256_of(file) != wanted["sha256"]:
            raise damaged(file, "not the bytes that were written")


def _header_bytes(path: Path) -> tuple[int, bytes]:
    """Where the part of a file that holds its header begins, and that part."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        if begin[:1] == b"{":
            file.seek(0)
            return 0, file.read(_JSON_HEAD)
        if begin[:4] == b"PAR1" and size > 12:
            file.seek(size - 8)
            length = int.from_bytes(file.read(4), "little")
            start = size - 8 - length
        else:
            length, start = int.from_bytes(begin, "little"), 8
        if start < 0 or start + length > size:
            raise damaged(path, "its header does not fit into it")
        file.seek(start)
        return start, file.read(length)


def _seal_at(path: Path) -> int:
    """Where the digits of the seal begin."""
    start, header = _header_bytes(path)
    found = _SEAL.search(header)
    if found is None:
        raise _mute(path)
    return start + found.start(1)


def _hash(path: Path, seal: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        view = memoryview(held)
        try:
            for start, end in ((0, seal), (seal + 64, len(view))):
                for at in range(start, end, _CHUNK):
                    digest.update(view[at : min(at + _CHUNK, end)])
                if start == 0:
                    digest.update(64 * b"0")
        finally:
            view.release()
    return digest.hexdigest()


def _header(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        begin = file.read(4)
    if begin[:1] == b"{":
        value = json.loads(path.read_bytes())
        return value.get(KEY, {})
    if begin == b"PAR1":
        return json.loads(_parquet_metadata(path).get(KEY.encode(), b"{}"))
    _, header = _header_bytes(path)
    return json.loads(json.loads(header).get("__metadata__", {}).get(KEY, "{}"))


def _parquet_metadata(path: Path) -> Mapping[bytes, bytes]:
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path).metadata or {}
    except Exception as error:  # of many kinds, whatever the damaged bytes lead to
        raise damaged(path, error) from error
