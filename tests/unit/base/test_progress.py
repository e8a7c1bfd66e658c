"""A log tells how far a job is, at what rate, and how long it will take; a terminal shows a bar."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from mgd3.base import progress
from mgd3.base.progress import Progress, clock

LINE = re.compile(r"^(.+): ([\d,]+)/([\d,]+) (\w+) \((\d+) %\), ([\d.,]+) \4/s, (\d+:\d\d:\d\d) ")


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(5000, "Encoding", "images") as counted:
        for _ in range(50):
            now[0] += 1
            counted.update(100)
            counted.note(loss="0.5")
    lines = [LINE.match(line) for line in capsys.readouterr().err.splitlines()]
    assert [line[2] for line in lines] == ["1,000", "2,000", "3,000", "4,000", "5,000"]
    assert {line[6] for line in lines} == {"100"}
    assert [line[7] for line in lines] == ["0:00:40", "0:00:30", "0:00:20", "0:00:10", "0:00:50"]


def test_what_an_earlier_attempt_did_is_no_speed(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(100, "Training", "steps", done=80) as counted:
        now[0] = 20
        counted.update(10)
    (line,) = capsys.readouterr().err.splitlines()
    assert "90/100 steps (90 %), 0.5 steps/s, 0:00:20 left" in line


def test_parts_of_one_add_up(capsys):
    with Progress(4, "Sampling", "images") as counted:
        for _ in range(40):
            counted.update(0.1)
        counted.reach(4)
    assert ": 4/4 images (100 %)" in capsys.readouterr().err


def test_an_error_is_not_followed_by_a_line(capsys):
    with pytest.raises(ValueError), Progress(4, "Sampling", "images") as counted:
        counted.update()
        raise ValueError
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar():
    program = """
from mgd3.base.progress import Progress
with Progress(30, "Sampling", "images") as counted:
    for _ in range(30):
        counted.update()
"""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux tells so that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"Sampling: 100%" in shown and b"30/30" in shown


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]
