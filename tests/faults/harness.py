"""Breaking a run on purpose: finding its jobs, stopping them, and comparing what came out."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from safetensors.numpy import load_file

from mgd3.base.artifacts import load_json
from mgd3.base.records import SUFFIX, record_of
from workplace import MGD3_RUN, TINY, Workplace, tiny

CONFIG = tiny(ipc=[1], runs=[TINY["runs"][MGD3_RUN]])
SEED = int(os.environ.get("FAULT_SEED", "0"))
# `make fault-test FAULT_ROUNDS=20` kills every stage 20 times, at other moments each time.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))


def also(*cases: Any) -> tuple[Any, ...]:
    """Cases that only the longer version runs, which has no ten minutes to keep to."""
    return cases if ROUNDS > 1 else ()


# What each stage writes, in the order in which the stages run.
FILES: dict[str, tuple[str, ...]] = {
    "index": ("cache/indexes/digits~*.parquet",),
    "pixels": ("cache/pixels/digits/*.safetensors",),
    "train-vae": ("cache/generators/digits/tiny-dit-vae~*/**/*",),
    "train-generator": ("cache/generators/digits/tiny-dit~*/**/*",),
    "latents": ("cache/latents/digits/*/*.safetensors",),
    "modes": ("digits/modes/*/*/*.safetensors",),
    "sample": ("digits/blocks/*/*/*/block*.safetensors",),
    "collect": (
        "digits/distilled/*/*/*/images.safetensors",
        "digits/distilled/*/*/*/manifest.parquet",
    ),
    "evaluate": ("digits/evaluated/**/*.json", "digits/evaluated/**/*.safetensors"),
    "tables": ("reports/*/~*/tables/*",),
}
# Differ between two runs that are otherwise the same.
_MEASURED = ("seconds", "peak_memory_bytes")


def make_place(path: Path) -> Workplace:
    """The workflow with nothing run yet; its generator is trained briefly: files are tested."""
    place = Workplace.make(path)
    place.shorten("workflow/mgd3/generators/registry.py")
    return place


def files_of(place: Workplace, stage: str) -> list[Path]:
    """What a stage has written, sorted."""
    results = place.path / "results"
    found = {file for pattern in FILES[stage] for file in results.glob(pattern)}
    found = {file for file in found if file.is_file() and file.name[0] != "."}
    return sorted(file for file in found if not file.name.endswith(SUFFIX))


def forget(place: Workplace, *stages: str) -> None:
    """Delete what some stages wrote."""
    for stage in stages:
        for file in files_of(place, stage):
            file.unlink(missing_ok=True)
            record_of(file).unlink(missing_ok=True)


def from_stage(stage: str) -> tuple[str, ...]:
    """A stage and all after it."""
    names = list(FILES)
    return tuple(names[names.index(stage) :])


def outcome(place: Workplace) -> dict[str, str]:
    """A hash of what every artefact says: not of seconds or memory, which no two runs share."""
    found = {}
    for stage in FILES:
        for file in files_of(place, stage):
            found[str(file.relative_to(place.path))] = _content(file)
    return found


def _content(file: Path) -> str:
    if file.suffix == ".safetensors":
        tensors = sorted(load_file(file).items())
        content = b"".join(f"{k}{v.dtype}{v.shape}".encode() + v.tobytes() for k, v in tensors)
    elif file.suffix == ".parquet":
        content = pd.read_parquet(file).to_csv().encode()
    elif file.suffix == ".json":
        value = load_json(file)
        content = repr({k: v for k, v in value.items() if k not in _MEASURED}).encode()
    elif file.suffix == ".csv":
        table = pd.read_csv(file)
        measured = [c for c in table if "second" in c or "memory" in c]
        content = table.drop(columns=measured).to_csv().encode()
    else:  # Markdown and LaTeX say what the CSV says
        content = b""
    return hashlib.sha256(content).hexdigest()


def finished_files(place: Workplace) -> dict[str, int]:
    """When each artefact was written; not the hidden files of unfinished work.

    Nor records: one stays behind when a job is killed between writing it and ending, and Snakemake
    then deletes the artefact.
    """
    times = place.times()
    return {
        file: time
        for file, time in times.items()
        if not (Path(file).name.startswith(".") or file.endswith(SUFFIX))
    }


def assert_kept(before: dict[str, int], after: dict[str, int]) -> None:
    """Nothing that was finished is gone or was made again."""
    lost = [file for file in before if after.get(file) != before[file]]
    assert not lost, lost


def jobs(driver: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """The `mgd3 STAGE` processes below a driver, with their stages."""
    try:
        children = driver.children(recursive=True)
    except psutil.Error:
        return
    for child in children:
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if len(words) > 2 and Path(words[1]).name == "mgd3":
            yield words[2], child


@dataclass
class Run:
    """A run of the workflow in the background, in a process group of its own."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, place: Workplace, *arguments: str, config: dict[str, Any] = CONFIG) -> Run:
        return cls(place.start(config, *arguments, start_new_session=True))

    @property
    def driver(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def job(self, stage: str, timeout: float = 300) -> psutil.Process | None:
        """The first job of a stage, as soon as it runs; None when the run ended without it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            for name, process in jobs(self.driver) if not ended else ():
                if name == stage:
                    return process
            if ended:
                return None
            time.sleep(0.01)
        raise AssertionError(f"no job of stage {stage} in {timeout} s")

    def kill(self, stage: str, after: float) -> bool:
        """Kill -9 a stage's job some seconds after it began; whether it was still running."""
        job = self.job(stage)
        if job is None:
            return False
        try:
            job.wait(after)
        except psutil.TimeoutExpired:
            with suppress(psutil.NoSuchProcess):
                # One that has ended and waits for its driver to notice cannot be killed any more.
                if job.status() != psutil.STATUS_ZOMBIE:
                    job.kill()
                    return True
        return False

    def group(self) -> list[psutil.Process]:
        """The processes of this run that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == self.process.pid:
                    found.append(process)
            except (ProcessLookupError, psutil.Error):
                continue
        return found

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends SIGINT to the whole group."""
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit status and everything printed."""
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output


def durations(place: Workplace) -> dict[str, float]:
    """Run the workflow to its end; how long each stage's longest job took."""
    run = Run.start(place)
    began: dict[tuple[str, int], float] = {}
    found: dict[str, float] = {}
    log = place.path / "driver.log"
    reader = subprocess.Popen(
        ["cat"], stdin=run.process.stdout, stdout=log.open("w"), start_new_session=True
    )
    while run.process.poll() is None:
        now = time.monotonic()
        for stage, process in jobs(run.driver):
            start = began.setdefault((stage, process.pid), now)
            found[stage] = max(found.get(stage, 0.0), now - start)
        time.sleep(0.1)
    reader.wait()
    assert run.process.returncode == 0, log.read_text()
    return found


def moments(stage: str, duration: float) -> Iterator[float]:
    """Random moments within a job's life, the same for the same FAULT_SEED."""
    draws = random.Random(f"{SEED} {stage}")
    while True:
        yield draws.uniform(0, duration)
        duration *= 0.8  # a job that was faster than expected is caught the next time


@contextmanager
def tmpfs(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of its own at `folder`, so small that it fills up."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"]
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        # Snakemake removes empty folders, and stumbles over one that is mounted.
        (folder / ".mounted").touch()
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder as it is, on a file system that cannot be written."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount: root can, outside the stricter containers."""
    try:
        with tmpfs(folder, 64):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
