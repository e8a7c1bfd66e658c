"""Times of files agree with the records, whatever a copy did to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgd3.base.artifacts import save_json, sha256_of
from mgd3.base.records import record_of
from mgd3.planning.config import resolve
from mgd3.planning.layout import Layout
from mgd3.planning.times import put_right
from mgd3.stages import VERSIONS
from workplace import MGD3_RUN, ROOT, tiny

OLD = 1_000_000_000 * 10**9


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Layout, list[Path]]:
    """A generator's file, a block sampled from it, its set, its score: each read the one before."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(resolve(tiny()), ROOT, VERSIONS)
    run = layout.config.runs[MGD3_RUN].slug
    of = ("digits", run, 2, 0)
    files = [
        Path(layout.generator_folder("digits", "tiny-dit"), "config.json"),
        Path(layout.blocks(*of)[0]),
        Path(layout.distilled(*of, "images.safetensors")),
        Path(layout.score(*of, "hard-small", "convnet3", 0)),
        Path(layout.report("tables/results.csv")),
    ]
    for k, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"bytes {k}")
        read = files[k - 1 : k] if k else []
        write_record(file, read)
        set_time(file, k)
    return layout, files


def write_record(file: Path, read: list[Path], **others: str) -> None:
    """Args:
    others: hashes of what was read, by name, that are not those of the files as they are.
    """
    hashes = {f: others.get(f.name, sha256_of(f)) for f in read}
    inputs = {os.path.relpath(f, file.parent): digest for f, digest in hashes.items()}
    made = {"files": {file.name: sha256_of(file)}, "inputs": inputs}
    save_json(record_of(file), made)


def set_time(file: Path, second: int) -> None:
    os.utime(file, ns=(OLD, OLD + second * 10**9))


def times(files: list[Path]) -> list[int]:
    return [(file.stat().st_mtime_ns - OLD) // 10**9 for file in files]


def test_times_that_agree_stay(chain):
    layout, files = chain
    assert put_right(layout) == []
    assert times(files) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("copied", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3), (1, 1, 0, 1, 0)])
def test_nothing_is_newer_than_what_was_made_from_it(chain, copied):
    layout, files = chain
    for file, second in zip(files, copied, strict=True):
        set_time(file, second)
    (note,) = put_right(layout)
    assert "are put right by their records" in note
    assert times(files) == sorted(times(files))
    assert put_right(layout) == []


def test_what_was_made_from_other_bytes_is_older(chain):
    """Also where the copy gave it a later time; and what is below it stays as it is."""
    layout, files = chain
    write_record(files[1], files[:1], **{"config.json": 64 * "0"})
    assert put_right(layout) != []
    first, second, *rest = times(files)
    assert second < first and rest == [2, 3, 4]


def test_a_record_that_is_damaged_or_away_proves_nothing(chain):
    layout, files = chain
    for file, second in zip(files, (4, 3, 2, 1, 0), strict=True):
        set_time(file, second)
    for file in files[:3]:
        record_of(file).write_text("{")
    record_of(files[3]).unlink()
    assert put_right(layout) == []
    assert times(files) == [4, 3, 2, 1, 0]


def test_a_benchmark_is_no_older_than_what_its_job_read(chain):
    """Snakemake takes it for one of the job's files."""
    layout, files = chain
    digits = files[1].stem.rpartition("~")[2]
    benchmark = Path(f"results/benchmarks/digits/x/sample_ipc2_gen0_block0~{digits}.tsv")
    benchmark.parent.mkdir(parents=True)
    benchmark.touch()
    set_time(benchmark, 1)
    assert put_right(layout) == [] and times([benchmark]) == [1]
    set_time(benchmark, -5)
    assert put_right(layout) != []
    assert times([benchmark])[0] >= times(files)[0]


def test_another_place_is_the_same_artefact(chain):
    """A cache that lies elsewhere: the place of a file is the one within its artefact."""
    layout, files = chain
    record = record_of(files[1])
    elsewhere = f"/elsewhere/{files[0].parent.name}/config.json"
    made = {"files": {files[1].name: sha256_of(files[1])}}
    save_json(record, {**made, "inputs": {elsewhere: sha256_of(files[0])}})
    set_time(files[0], 9)
    assert put_right(layout) != []
    assert times(files) == [1, 1, 2, 3, 4]
