"""Times of files put right by their records.

What is trained again has other bytes at the same path, so below trainings Snakemake goes by times,
and `cp -r` gives each file the time of its copying. But each record holds the hashes of what was
read: what was made from the bytes that are there is at least as new as they are, and what was made
from others is older.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..base.artifacts import load_json
from ..base.errors import UserError
from ..base.headers import FOLDER_HEADER
from ..base.identity import SHORT
from ..base.records import SUFFIX, record_of
from .layout import Layout

# A file where it lies in its artefact: the same in another clone, or another cache.
_OWN = re.compile(rf"[^/]*~[0-9a-f]{{{SHORT}}}[./].*")
_DIGITS = re.compile(rf"~([0-9a-f]{{{SHORT}}})[._/]")
_OLDER_NS = 1_000_000_000
# Snakemake counts a job's benchmark among what it made.
_BENCHMARKS = Path("results/benchmarks")


@dataclass(eq=False)
class _Job:
    """What a record says, and what it became.

    Attributes:
        made, read: hashes of files by their place in an artefact.
        files: those of `made` that are there, and their times of modification, ns.
        current, stale: jobs that read its files as they are, and as they were.
        sources: jobs whose files it read.
    """

    made: Mapping[str, str]
    read: Mapping[str, str]
    files: dict[Path, int]
    current: list[_Job] = field(default_factory=list)
    stale: list[_Job] = field(default_factory=list)
    sources: list[_Job] = field(default_factory=list)
    settled: bool = False

    @property
    def oldest(self) -> int:
        return min(self.files.values())

    @property
    def newest(self) -> int:
        return max(self.files.values())

    @property
    def newest_read(self) -> int:
        return max((source.newest for source in self.sources), default=0)

    def at_most(self, time_ns: int) -> None:
        self.files = {file: min(found, time_ns) for file, found in self.files.items()}

    def settle(self) -> None:
        """No file newer than what was made from it."""
        if not self.settled:
            self.settled = True
            for reader in self.current:
                reader.settle()
                self.at_most(reader.oldest)


def put_right(layout: Layout) -> list[str]:
    """Give files below trainings of a configuration times that agree with their records.

    A tree whose times were kept is left alone: they agree. Files of others stay as they are, which
    costs at most a job that was not needed.

    Returns:
        A sentence, where a file got another time.
    """
    jobs = [job for record in _records(layout) if (job := _read(record))]
    maker = {file: job for job in jobs for file in job.made}
    before = [dict(job.files) for job in jobs]
    for job in jobs:
        sources: dict[_Job, bool] = {}
        for file, digest in job.read.items():
            if (source := maker.get(file)) and source is not job:
                sources[source] = sources.get(source, True) and source.made[file] == digest
        job.sources = [*sources]
        for source, same in sources.items():
            (source.current if same else source.stale).append(job)
    for job in jobs:
        job.settle()
    for job in jobs:
        for reader in job.stale:
            reader.at_most(job.newest - _OLDER_NS)
    changed = sum(_set(old, job.files) for old, job in zip(before, jobs, strict=True))
    changed += _raise_benchmarks(jobs)
    lost = f"times of {changed} files are put right by their records, as a copy had lost them"
    return [lost] if changed else []


def _records(layout: Layout) -> Iterator[Path]:
    """Of what is trained, or comes of it, and of the reports."""
    folders = [Path(layout.report(""))]
    for path in [*layout.artefacts()]:
        if not layout.keeps_time(path):
            continue
        if (record := record_of(Path(path))).is_file():
            yield record
        elif Path(path).is_dir():
            folders.append(Path(path))
    for folder in folders:
        yield from folder.rglob(f"*{SUFFIX}")


def _read(record: Path) -> _Job | None:
    """None for one that is damaged, or whose files are gone: it proves nothing."""
    try:
        found = load_json(record, {"inputs": dict, "files": dict})
    except UserError:
        return None
    files = [record.parent / FOLDER_HEADER, *(record.parent / name for name in found["files"])]
    times = {}
    for file in files:
        with suppress(OSError):
            times[file] = file.stat().st_mtime_ns
    made, read = (_placed(record, found[key]) for key in ("files", "inputs"))
    return _Job(made, read, times) if times else None


def _placed(record: Path, hashes: Mapping[str, str]) -> dict[str, str]:
    paths = {os.path.normpath(record.parent / name): digest for name, digest in hashes.items()}
    return {place[0]: digest for path, digest in paths.items() if (place := _OWN.search(path))}


def _raise_benchmarks(jobs: Iterable[_Job]) -> int:
    """None older than what its job read, where the job's files are not."""
    by_digits: dict[str, list[_Job]] = {}
    for job in jobs:
        for digits in {found[1] for place in job.made if (found := _DIGITS.search(place))}:
            by_digits.setdefault(digits, []).append(job)
    changed = 0
    for file in _BENCHMARKS.rglob("*~*.tsv"):
        found = _DIGITS.search(file.name)
        before = {file: file.stat().st_mtime_ns}
        least = [
            job.oldest
            for job in by_digits.get(found[1] if found else "", ())
            if before[file] < job.newest_read <= job.oldest
        ]
        changed += _set(before, {file: max([before[file], *least])})
    return changed


def _set(before: Mapping[Path, int], after: Mapping[Path, int]) -> int:
    changed = 0
    for file, time_ns in after.items():
        if time_ns != before[file]:
            with suppress(OSError):
                os.utime(file, ns=(time_ns, time_ns))
                changed += 1
    return changed
