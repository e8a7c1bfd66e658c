"""What the user's own files hold, as digests: images by class, generators, tables.

Files are read once. What was found is kept by path, with the size, times and inode of each file, in
the working folder's `.mgd3/`; a file of which none of these changed is not read again. As in git, a
file that was changed while (or just before) it was read is read again the next time: its clock
would not show a second change.

Data sets that everyone has are known by their published names, and none of their images is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from ..base.artifacts import atomic
from ..base.errors import UserError
from ..base.identity import bundle
from ..base.progress import Progress
from .archives import FetchedArchive, archives
from .cifar import CifarBinary
from .imagefolder import ImageFolder
from .imagenet import ImageNet
from .registry import Source

# The folder of the working folder in which lists are kept.
KEPT = Path(".mgd3", "fingerprints")
# Clocks of file systems are this coarse at worst (FAT); a file younger than that is not kept.
_COARSEST = 2_000_000_000
# From when on the user is told, and how often an unfinished list is kept.
_PATIENCE, _KEEP_EVERY = 2.0, 20.0
_MAGIC = f"mgd3 fingerprints 1 {sys.byteorder}\n".encode()
_THREADS = 16
# Files of a task for a thread.
_TASK = 64
_DIGEST, _STATS = 32, 4


@dataclass(frozen=True)
class Files:
    """Files of one group (a class, say), in sorted order, and what they hold.

    Attributes:
        names: paths below the root.
        stats: of each file its size, mtime, ctime (ns) and inode; int64, row by row.
        digests: SHA-256 of each file, row by row; zeros where it is not known.
    """

    names: list[str]
    stats: array[int]
    digests: bytes

    def digest(self, row: int) -> str:
        return self.digests[row * _DIGEST : (row + 1) * _DIGEST].hex()

    def fingerprint(self, first: int | None = None) -> str:
        """Of the names and contents of all files, or of the first ones."""
        names = self.names[:first]
        return bundle([f"{self.digest(row)} {name}" for row, name in enumerate(names)])


def fingerprints(
    root: Path, groups: Mapping[str, Sequence[str]], kept: Path = KEPT
) -> dict[str, Files]:
    """Read the files of some groups below a root; those that did not change are not read again.

    Args:
        groups: paths below the root, by group.
        kept: the folder of lists.

    Raises:
        UserError: a file cannot be read, or changes while it is read.
    """
    file = kept / f"{hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]}.list"
    known = _load(file)
    begun = time.time_ns()
    found, stale = {}, []
    for name, paths in groups.items():
        files, rows = _compare(root, sorted(paths), known.get(name))
        found[name] = files
        stale += [(name, row) for row in rows]
    if not stale:
        return found
    digests = {name: bytearray(files.digests) for name, files in found.items()}

    def keep() -> None:
        """What is known so far, but files that are too young."""
        current = {
            name: Files(files.names, files.stats, bytes(digests[name]))
            for name, files in found.items()
        }
        _save(file, known | current, begun)

    total = sum(found[name].stats[_STATS * row] for name, row in stale)
    last = time.monotonic()
    with _told(root, len(stale), total) as tell:
        try:
            for name, row, digest in _read(root, found, stale):
                digests[name][row * _DIGEST : (row + 1) * _DIGEST] = digest
                tell(found[name].stats[_STATS * row])
                if time.monotonic() - last > _KEEP_EVERY:
                    started = time.monotonic()
                    keep()
                    last = time.monotonic() + 10 * (time.monotonic() - started)
        finally:
            keep()
    return {
        name: Files(files.names, files.stats, bytes(digests[name])) for name, files in found.items()
    }


def of_file(path: Path, kept: Path = KEPT) -> str:
    """The fingerprint of one file's content, whatever it is called. Raises as `fingerprints`."""
    return fingerprints(path.parent, {f"file {path.name}": [path.name]}, kept)[
        f"file {path.name}"
    ].digest(0)


def of_folder(folder: Path, kept: Path = KEPT) -> str:
    """The fingerprint of all visible files of a folder. Raises as `fingerprints`."""
    names = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        below = os.path.relpath(parent, folder)
        names += [os.path.normpath(os.path.join(below, n)) for n in files if n[0] != "."]  # noqa: PTH118
    if not names:
        raise UserError(f"{folder} holds no files", "mend the path in the config")
    return fingerprints(folder, {"folder": names}, kept)["folder"].fingerprint()


def of_classes(source: Source, kept: Path = KEPT) -> dict[str, str]:
    """The fingerprint of each class of a data set; the data set's is the `bundle` of them.

    Images of one's own count by content. Of a set that is published, a class with as many images as
    it was published with is known by its name and those of its images; another by their sizes, too.
    CIFAR is known by its name where its files are the published ones, or still to be fetched.

    Raises:
        UserError: as `fingerprints`.
    """
    if isinstance(source, ImageNet) and not isinstance(source, FetchedArchive):
        return {name: _published(source, name) for name in source.classes()}
    if isinstance(source, CifarBinary):
        return _of_rows(source, kept)
    if isinstance(source, ImageFolder) and not source.published:
        groups = {name: source.files(name) for name in source.classes()}
        found = fingerprints(source.root, groups, kept)
        return {name: files.fingerprint() for name, files in found.items()}
    return {name: bundle([f"published as {source.published}", name]) for name in source.classes()}


def require_unchanged(
    source: Source, planned: str, names: Sequence[str] | None = None, kept: Path = KEPT
) -> None:
    """Refuse images that are not those that the run was planned with.

    For the job that has read them: it looks at the files' sizes and times once more. What is
    published stands by its name and is not looked at.

    Args:
        planned: the `bundle` of the fingerprints of some classes.
        names: of these classes; None: all.

    Raises:
        UserError: they changed.
    """
    of_folder = isinstance(source, ImageFolder) and not source.published
    if not of_folder and not isinstance(source, CifarBinary):
        return
    now = of_classes(source, kept)
    if bundle({name: now.get(name, 64 * "0") for name in names or now}) != planned:
        raise UserError(
            f"images in {source.root} changed since this run was planned",
            "run the same command again: it plans with the images that are there now",
        )


def _of_rows(source: CifarBinary, kept: Path) -> dict[str, str]:
    """All classes lie in the same files: of changed ones, every class counts as changed."""
    name = source.published
    if not source.root.exists():
        whole = f"published as {name}"
    elif source.root.is_file():
        digest = of_file(source.root, kept)
        published = f"sha256:{digest}" in archives()[name].checksums
        whole = f"published as {name}" if published else f"a part of {name} {digest}"
    else:
        known = source.binary.digests
        there = [file for file in known if (source.root / file).is_file()]
        found = fingerprints(source.root, {name: there}, kept)[name]
        digests = {file: found.digest(row) for row, file in enumerate(found.names)}
        whole = f"published as {name}" if digests == known else f"a part of {name} {digests}"
    return {of: bundle([whole, of]) for of in source.classes()}


def _published(source: ImageNet, name: str) -> str:
    """By the names of its images, whatever folders they lie in: a file may be missing from a class
    whose count is still a possible one."""
    images = source.images(name)
    listed = sorted(image.rpartition("/")[2] for image in images)
    if source.is_complete(images):
        return bundle([f"published as {source.published}", name, *listed])
    sizes = sorted(f"{image.rpartition('/')[2]} {source.bytes_of(image)}" for image in images)
    return bundle([f"a part of {source.published}", name, *sizes])


def _compare(root: Path, names: list[str], known: Files | None) -> tuple[Files, list[int]]:
    """The files as they are now, with the digests that hold still; the rows to be read."""
    stats = array("q")
    for name in names:
        try:
            state = os.stat(f"{root}/{name}")  # noqa: PTH116 - of millions
        except OSError as error:
            raise _unreadable(root, name, error) from error
        stats.extend((state.st_size, state.st_mtime_ns, state.st_ctime_ns, _inode(state)))
    if known is not None and known.names == names and known.stats == stats:
        digests = bytearray(known.digests)
    else:
        digests = bytearray(_DIGEST * len(names))
        row_of = {name: row for row, name in enumerate(known.names)} if known else {}
        for row, name in enumerate(names):
            old = row_of.get(name)
            if old is not None and _row(known.stats, old) == _row(stats, row):
                start = old * _DIGEST
                digests[row * _DIGEST : (row + 1) * _DIGEST] = known.digests[
                    start : start + _DIGEST
                ]
    files = Files(names, stats, bytes(digests))
    if _UNKNOWN not in files.digests:
        return files, []
    return files, [
        row for row in range(len(names)) if not any(digests[row * _DIGEST : (row + 1) * _DIGEST])
    ]


_UNKNOWN = bytes(_DIGEST)


def _inode(state: os.stat_result) -> int:
    return state.st_ino & (1 << 63) - 1  # some network file systems use all 64 bits


def _row(stats: array[int], row: int) -> array[int]:
    return stats[row * _STATS : (row + 1) * _STATS]


def _read(
    root: Path, found: Mapping[str, Files], stale: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, int, bytes]]:
    """Group, row and digest of each file, read by threads: most time goes to waiting."""

    def hashed(part: Sequence[tuple[str, int]]) -> list[bytes]:
        return [
            _digest_of(root, found[name].names[row], _row(found[name].stats, row))
            for name, row in part
        ]

    tasks = (stale[start : start + _TASK] for start in range(0, len(stale), _TASK))
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: list[tuple[Sequence[tuple[str, int]], Future[list[bytes]]]] = []
        try:
            for part in tasks:
                waiting.append((part, pool.submit(hashed, part)))
                if len(waiting) >= 4 * _THREADS:
                    yield from _done(*waiting.pop(0))
            for part, future in waiting:
                yield from _done(part, future)
        finally:
            pool.shutdown(cancel_futures=True)


def _done(
    part: Sequence[tuple[str, int]], future: Future[list[bytes]]
) -> Iterator[tuple[str, int, bytes]]:
    for (name, row), digest in zip(part, future.result(), strict=True):
        yield name, row, digest


def _digest_of(root: Path, name: str, planned: array[int]) -> bytes:
    try:
        with open(f"{root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - of millions
            digest = hashlib.file_digest(file, "sha256").digest()
            state = os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(root, name, error) from error
    seen = array("q", (state.st_size, state.st_mtime_ns, state.st_ctime_ns, _inode(state)))
    if seen != planned:
        raise UserError(f"{root}/{name} changed while it was read", "run again when it is whole")
    return digest


def _unreadable(root: Path, name: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"cannot read {os.fsencode(f'{root}/{name}').decode(errors='replace')}: {reason}",
        "mend its permissions, put it back, or remove it",
    )


@contextmanager
def _told(root: Path, files: int, total: int) -> Iterator[Callable[[int], None]]:
    """Tell how far the reading is, once it has taken long enough for somebody to wonder."""
    started, done = time.monotonic(), 0.0
    bar: Progress | None = None

    def announce() -> None:
        print(
            f"reading {files:,} files of {root} ({total / 1e6:,.0f} MB) to know what they hold: "
            "once, and later only those that change",
            file=sys.stderr,
            flush=True,
        )

    def tell(size: int) -> None:
        nonlocal done, bar
        done += size / 1e6
        if bar is None and time.monotonic() - started > _PATIENCE:
            bar = Progress(round(total / 1e6), f"Reading {root}", "MB", int(done))
        if bar is not None:
            bar.reach(done)

    # One file may take longer than that.
    timer = Timer(_PATIENCE, announce)
    timer.daemon = True
    timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        if bar is not None:
            bar.__exit__(*sys.exc_info())


def _save(file: Path, groups: Mapping[str, Files], begun: int) -> None:
    """Keep a list; of files that are no older than its beginning (ns), no digest."""
    parts, head = [], []
    for name, files in groups.items():
        names = b"\0".join(map(os.fsencode, files.names))
        head.append([os.fsencode(name).hex(), len(files.names), len(names)])
        parts += [names, files.stats.tobytes(), _old_enough(files, begun - _COARSEST)]
    body = b"".join([json.dumps(head).encode(), b"\n", *parts])
    with atomic(file) as temporary:
        temporary.write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)


def _old_enough(files: Files, before: int) -> bytes:
    newest = map(max, files.stats[1::_STATS], files.stats[2::_STATS])
    if young := [row for row, time_ns in enumerate(newest) if time_ns >= before]:
        digests = bytearray(files.digests)
        for row in young:
            digests[row * _DIGEST : (row + 1) * _DIGEST] = _UNKNOWN
        return bytes(digests)
    return files.digests


def _load(file: Path) -> dict[str, Files]:
    """A list as it was kept; nothing where there is none, or it is damaged."""
    try:
        content = memoryview(file.read_bytes())
    except OSError:
        return {}
    start = len(_MAGIC) + _DIGEST
    body = content[start:]
    if (
        content[: len(_MAGIC)] != _MAGIC
        or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]
    ):
        return {}
    line = bytes(body[: 1 << 24]).partition(b"\n")[0]
    at, found = len(line) + 1, {}
    for name, count, length in json.loads(line):
        names = bytes(body[at : at + length])
        at += length
        stats = array("q")
        stats.frombytes(body[at : at + 8 * _STATS * count])
        at += 8 * _STATS * count
        listed = os.fsdecode(names).split("\0") if count else []
        found[os.fsdecode(bytes.fromhex(name))] = Files(
            listed, stats, bytes(body[at : at + _DIGEST * count])
        )
        at += _DIGEST * count
    return found
