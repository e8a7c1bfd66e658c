"""A command's process ends at once, and nothing that it owes is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = """
from mgd3.base.process import run

def main():
{body}

run(main)
print("never reached")
"""


def program(body: str) -> list[str]:
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return [sys.executable, "-c", LIBRARY.format(body=indented)]


def called(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(body), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("status", [0, 2])
def test_the_status_is_what_main_returns_and_the_streams_are_whole(status):
    done = called(f"""
import sys
print("x" * 100_000, end="")
print("told", end="", file=sys.stderr)
return {status}
""")
    assert (done.returncode, done.stderr) == (status, "told")
    assert done.stdout == "x" * 100_000


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("raise ValueError('wrong')", 1, "ValueError: wrong"),
        ("raise SystemExit('mistake')", 1, "mistake"),
        ("import sys; sys.exit(3)", 3, ""),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt"),
    ],
)
def test_what_main_raises_ends_the_process_as_ever(how, status, says):
    done = called(how)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stdout == ""


def test_threads_children_and_what_is_registered_are_waited_for(tmp_path):
    done = called(f"""
import atexit, logging.handlers, multiprocessing, pathlib, tempfile, threading, time

def later():
    time.sleep(0.3)
    print("thread", flush=True)

def child():
    time.sleep(0.3)
    pathlib.Path({str(tmp_path / "child")!r}).touch()

threading.Thread(target=later).start()
multiprocessing.get_context("fork").Process(target=child).start()
held = tempfile.TemporaryDirectory(dir={str(tmp_path)!r}, prefix="held")
globals()["held"] = held
atexit.register(print, "registered")
log = logging.handlers.MemoryHandler(10, target=logging.FileHandler({str(tmp_path / "log")!r}))
logging.getLogger().addHandler(log)
logging.warning("logged")
return 0
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "thread\nregistered\n", "")
    assert (tmp_path / "log").read_text() == "logged\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["child", "log"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_written_is_no_success():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = program("print('result')\nreturn 0")
        # Buffered, as it is wherever it is no terminal: the flush at the end is what fails.
        env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=env, timeout=120)
    assert done.returncode == 120


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_seen_enough_is_no_bug(lines):
    ours, theirs = os.pipe()
    os.close(ours)
    command = program(f"for _ in range({lines}): print('line')\nreturn 0")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=env, timeout=120)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


def test_imports_are_frozen_and_garbage_is_still_collected():
    done = called("""
import gc, weakref
import pandas  # many collections' worth of objects

class Ring:
    def __init__(self):
        self.me = self

walked = []
gc.callbacks.append(lambda phase, info: walked.append(len(gc.get_objects())))
gc.collect()
frozen = gc.get_freeze_count()
left = [weakref.ref(Ring()) for _ in range(3)]
gc.collect()
print(frozen > 50_000, max(walked) < frozen, [ring() for ring in left])
return 0
""")
    assert done.stdout == "True True [None, None, None]\n", done.stderr


def test_a_stage_that_is_called_leaves_its_caller_alone():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import gc\nfrom mgd3.cli import main\nbefore = list(gc.callbacks)\n"
            "assert main(['show', 'missing.csv']) == 2\n"
            "print(gc.callbacks == before, gc.get_freeze_count())",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True 0\n", done.stderr
