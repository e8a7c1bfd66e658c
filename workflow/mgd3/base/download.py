"""Fetching a large file: resumed where it stopped, checked before it counts, unpacked safely."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .errors import UserError

_TIMEOUT = 60
_CHUNK = 1 << 20
_ATTEMPTS = 5
_REPORT_SECONDS = 10.0


def fetch(url: str, target: Path, checksums: Sequence[str]) -> None:
    """Bring `url` to `target`, which is there at the end, whole and checked, or not at all.

    What was received is kept in `target`.part, and the next call asks for the rest only.

    Args:
        checksums: `md5:...` or `sha256:...` of the whole file; one of them must agree. There are
            several where the file was published more than once.

    Raises:
        UserError: the server cannot be reached or stops too often, or no checksum agrees.
    """
    if target.is_file():
        check(target, checksums)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, before)
            break
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            held = part.stat().st_size if part.exists() else 0
            print(f"interrupted after {held:,} bytes: {error}", file=sys.stderr)
            if held == before or attempt == _ATTEMPTS:
                kept = f"{held:,} bytes are kept in {part}; " if held else ""
                raise UserError(
                    f"cannot fetch {url}: {error}",
                    f"{kept}check the connection and run again, or put the file at {target}",
                ) from error
    try:
        check(part, checksums)
    except UserError:
        part.unlink()
        raise
    part.replace(target)


def _receive(url: str, part: Path, start: int) -> None:
    """Append what is missing to `part`. Raises OSError when the answer ends too soon."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        whole = error.headers.get("Content-Range", "").rpartition("/")[2]
        if error.code == 416 and whole == str(start):
            return  # there is nothing after what is held
        if error.code == 416:
            part.unlink()
        raise
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        begin = start if resumed else 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else None
        print(f"fetching {url} from byte {begin:,} of {total or '?'}", file=sys.stderr)
        started = told = time.monotonic()
        held = begin
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                held += len(chunk)
                if (now := time.monotonic()) - told > _REPORT_SECONDS:
                    told, rate = now, (held - begin) / (now - started)
                    print(f"{held:,} bytes, {rate / 1e6:.1f} MB/s", file=sys.stderr)
    if total is not None and held != total:
        raise ConnectionError(f"the server closed after {held:,} of {total:,} bytes")


def check(path: Path, checksums: Sequence[str]) -> str:
    """The checksum of `checksums` that agrees.

    Raises:
        UserError: none does.
    """
    found = {}
    for known in checksums:
        kind, _, value = known.partition(":")
        if kind not in found:
            with path.open("rb") as file:
                found[kind] = hashlib.file_digest(file, kind).hexdigest()
        if found[kind] == value:
            return known
    got = ", ".join(f"{kind}:{value}" for kind, value in found.items())
    raise UserError(
        f"{path.name.removesuffix('.part')} ({path.stat().st_size:,} bytes) is not the published "
        f"file: its checksum is {got} instead of {' or '.join(checksums)}",
        "it is damaged or was changed: remove it and fetch it again",
    )


def unpack(archive: Path, folder: Path, top: str) -> int:
    """Unpack a tar archive whose files lie in `top`/ to `folder`, whole or not at all.

    Nothing but plain files and folders inside `top` is accepted: no links, devices or other paths,
    so that an archive writes and refers to nothing outside.

    Returns:
        The number of files.

    Raises:
        UserError: the archive is damaged, or holds something else.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = _safe_path(member, archive, top)
                if member.isdir():
                    (temporary / path).mkdir(parents=True, exist_ok=True)
                    continue
                target = temporary / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
                target.chmod(stat.S_IMODE(target.stat().st_mode) | stat.S_IRUSR | stat.S_IRGRP)
                files += 1
        if not (temporary / top).is_dir():
            raise UserError(f"{archive} holds no folder {top}/", "fetch it again")
        shutil.rmtree(folder, ignore_errors=True)
        (temporary / top).rename(folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(
            f"cannot unpack {archive}: {error}", "free some space, or remove it and fetch it again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return files


def _safe_path(member: tarfile.TarInfo, archive: Path, top: str) -> PurePosixPath:
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    inside = parts and parts[0] == top and ".." not in parts and not path.is_absolute()
    if not inside or "\\" in member.name or not (member.isfile() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "not a plain file in its folder"
        raise UserError(
            f"{archive} was not unpacked: {member.name!r} is {kind}",
            f"an archive may hold only files in {top}/: do not use it",
        )
    return PurePosixPath(*parts)
