"""What made a file: a record beside it, and checking a tree of results against its records.

`block0.safetensors` has `block0.provenance.json`: the SHA-256 of every file the stage wrote and
read, its settings and seeds, versions, git revision, device, seconds and peak memory. Seconds stay
out of the artefacts themselves, so that making one again gives the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from . import headers
from .artifacts import load_json, save_json, sha256_of
from .errors import UserError

SUFFIX = ".provenance.json"
_PACKAGES = ("torch", "torchvision", "diffusers", "safetensors", "faiss-cpu", "faiss-gpu-cu12",
             "numpy", "pandas", "pyarrow", "pillow")  # fmt: skip
# Folders of results/ that hold what runs say, not what they make.
_NOT_ARTEFACTS = {"logs", "benchmarks"}


def record_of(file: Path) -> Path:
    """Where the record of an artefact lies: beside it, under its stem."""
    return file.with_name(file.stem + SUFFIX)


def part_record(folder: Path) -> Path:
    """Where the record of a generator's part (`vae/`), or of a whole one, lies: beside it."""
    return folder.with_name(folder.name + SUFFIX)


def records_for(file: Path) -> Iterator[Path]:
    """The records there are that may speak of a file: its own, its folder's, its generator's."""
    file = file.absolute()  # `.` has no name
    for record in (record_of(file), *map(part_record, [*file.parents][:-1][:2])):
        if record.is_file():
            yield record


def revision() -> str:
    """The git commit of the workflow, with `-dirty` where its code differs; else `unknown`."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Installed into some other project's repository, it is not that project's revision.
        git("ls-files", "--error-unmatch", here.name)
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../..")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def versions() -> dict[str, str]:
    """Of Python, of this package, and of the packages that results depend on."""
    found = {"python": platform.python_version(), "mgd3": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _device() -> tuple[str, int]:
    """The device that was computed on, and the most memory held: of the GPU, or of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return "cpu", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _relative(file: Path, record: Path) -> str:
    return os.path.relpath(file, record.parent)


def _read(record: Path) -> dict[str, Any]:
    found = load_json(record)
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise UserError(f"{record} is no record of a stage", "delete it and run again")
    return found


def sound_hash(file: Path) -> str:
    """SHA-256 of a file that is about to be read.

    Raises:
        UserError: it is missing, or is not the file that its record speaks of.
    """
    if not file.is_file():
        raise UserError(f"file not found: {file}", "run the stage that makes it")
    headers.check_path(file)
    digest = sha256_of(file)
    for record in records_for(file):
        recorded = _read(record)["files"].get(_relative(file, record))
        if recorded not in (None, digest):
            raise UserError(
                f"{file} is damaged: it is not the file that was written (SHA-256 differs)",
                f"remake it: snakemake --cores all --forcerun {file}",
            )
    return digest


@contextmanager
def recorded(
    record: Path,
    stage: str,
    *,
    settings: Mapping[str, Any],
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    more: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run a stage inside the block; write its record when it has succeeded.

    Yields what is known beforehand: `inputs` (relative path -> SHA-256), `revision`, `versions`.

    Args:
        settings: what the stage was asked to do, as JSON.
        outputs: the files that it writes, or folders of them.
        more: further entries of the record.

    Raises:
        UserError: an input is missing or damaged.
    """
    started = time.monotonic()
    # A file without a record is unproven; one with another file's record would look damaged.
    record.unlink(missing_ok=True)
    made = {
        "stage": stage,
        "settings": settings,
        "inputs": {_relative(file, record): sound_hash(file) for file in inputs},
        "revision": revision(),
        "versions": versions(),
        **(more or {}),
    }
    yield made
    device, memory = _device()
    save_json(
        record,
        {
            **made,
            "files": {_relative(file, record): sha256_of(file) for file in _files(outputs)},
            "device": device,
            "seconds": round(time.monotonic() - started, 3),
            "peak_memory_bytes": memory,
        },
    )


def sampling_of(blocks: Sequence[Path]) -> dict[str, Any]:
    """What making all blocks of a distilled set took, for the record of the whole set."""
    records = [_read(record) for block in blocks if (record := record_of(block)).is_file()]
    if len(records) < len(blocks):
        return {}
    shared = {k: v for k, v in records[0]["settings"].items() if k != "classes"}
    return {
        "sampling": {
            **shared,
            "revisions": sorted({r["revision"] for r in records}),
            "devices": sorted({r["device"] for r in records}),
            "seconds": round(sum(r["seconds"] for r in records), 3),
            "peak_memory_bytes": max(r["peak_memory_bytes"] for r in records),
        }
    }


def lineage(record: Path, found: dict[Path, dict[str, Any]]) -> None:
    """Add to `found` a record, and those of everything it was made from that have one."""
    if record in found:
        return
    found[record] = _read(record)
    for name in found[record]["inputs"]:
        for source in records_for(_resolve(record, name)):
            lineage(source, found)


class Problem(NamedTuple):
    """Attributes:
    kind: damaged, missing, stale or unexpected.
    file: the artefact.
    why: a clause.
    """

    kind: str
    file: Path
    why: str


def verify(root: Path) -> tuple[int, list[Problem]]:
    """Check every artefact below a folder against the records.

    Returns:
        How many files were proven sound, and what is wrong with the others:
        `damaged` (other bytes than were written, or another artefact than its path says; its own
        header proves it, also without a record), `missing` (recorded, not there), `stale` (made
        from a file that is another one now), `unexpected` (no record names it, and it is no link).
        Logs, benchmarks and hidden files (unfinished work) are not looked at.

    Raises:
        UserError: `root` is no folder, or holds no record.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder", "give a folder of results")

    @cache
    def digest_of(file: Path) -> str | None:
        return sha256_of(file) if file.is_file() else None

    records, others = [], []
    for folder, folders, files in os.walk(root):
        keep = _NOT_ARTEFACTS if Path(folder) == root else set()
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in keep)
        for name in sorted(files):
            if name[0] != ".":
                (records if name.endswith(SUFFIX) else others).append(Path(folder, name))
    if not records:
        raise UserError(f"no record in {root}", f"give the folder of a run: *{SUFFIX} lie in it")
    problems, named, whole = [], set(), []
    for record in records:
        try:
            found = _read(record)
        except UserError as error:
            problems.append(Problem("damaged", record, error.what))
            continue
        wrong = []
        for name, digest in found["files"].items():
            file = _resolve(record, name)
            named.add(file)
            now = digest_of(file)
            if now is None:
                wrong.append(Problem("missing", file, f"{record.name} names it"))
            elif now != digest:
                wrong.append(Problem("damaged", file, "not the bytes that were written"))
        problems += wrong
        if not wrong:
            whole.append((record, found))
    damaged = {problem.file for problem in problems}
    for record, found in whole:
        problems += _stale(record, found, digest_of, damaged)
    problems += _unsound(others, damaged)
    # Links show the reports of one configuration, also those that are not made yet.
    unexpected = [
        f
        for f in others
        if f not in named and f.name != headers.FOLDER_HEADER and not f.is_symlink()
    ]
    problems += [Problem("unexpected", file, "no record names it") for file in unexpected]
    return len(named - {problem.file for problem in problems}), problems


def _unsound(files: Sequence[Path], known: set[Path]) -> Iterator[Problem]:
    """Artefacts that are not what their headers and paths say, whatever their records say."""
    for file in files:
        if file in known or file.suffix not in headers.SUFFIXES:
            continue
        try:
            headers.check_path(file)
        except UserError as error:
            yield Problem("damaged", file, error.what)


def _resolve(record: Path, name: str) -> Path:
    return Path(os.path.normpath(record.parent / name))


def _stale(
    record: Path, found: dict[str, Any], digest_of: Callable[[Path], str | None], damaged: set[Path]
) -> list[Problem]:
    for name, digest in found["inputs"].items():
        source = _resolve(record, name)
        # An input may be elsewhere by now, deleted to save space, or damaged since: that proves
        # nothing.
        if source not in damaged and digest_of(source) not in (None, digest):
            made = next(iter(found["files"]))
            why = f"made from another {source} than is there now"
            return [Problem("stale", _resolve(record, made), why)]
    return []


def print_verdict(root: Path) -> bool:
    """Print what `verify` finds, and how to mend it; whether all is well."""
    sound, problems = verify(root)
    for problem in problems:
        print(f"{problem.kind:<11}{problem.file}: {problem.why}")
    print(f"{sound} files are sound, {len(problems)} problems in {root}")
    remake = sorted({str(p.file) for p in problems if p.kind != "unexpected"})
    if remake:
        print("  -> remake (with your --configfile): snakemake --cores all --forcerun "
              + " ".join(remake))  # fmt: skip
    if len(remake) < len({p.file for p in problems}):
        print("  -> unexpected files are not the workflow's: move or delete them")
    return not problems
