"""What a plan finds in users' files, and keeps for its jobs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mgd3.base.artifacts import load_json
from mgd3.planning.user_files import UserFiles


def found(tmp_path: Path, text: str) -> UserFiles:
    file = tmp_path / "table.tsv"
    file.write_text(text)
    files = UserFiles(kept=tmp_path / "kept")
    files.files({"table": file})
    return files


def test_a_job_looks_at_nothing_that_its_plan_knew(tmp_path):
    planned = found(tmp_path, "one")
    plan = planned.save(tmp_path / "plans")
    file = tmp_path / "table.tsv"
    before = planned.files({"table": file})
    file.unlink()
    assert UserFiles(tmp_path / "kept", plan).files({"table": file}) == before


def test_plans_that_nobody_uses_go(tmp_path):
    """One that is used stays, however old it is; so does what the user put there."""
    plans, month = tmp_path / "plans", 31 * 24 * 3600
    unused, used = (found(tmp_path, text).save(plans) for text in ("one", "two"))
    (plans / "mine.txt").touch()
    for path in plans.iterdir():
        os.utime(path, (time.time() - month,) * 2)
    assert found(tmp_path, "two").save(plans) == used
    assert sorted(path.name for path in plans.iterdir()) == sorted([used.name, "mine.txt"])
    assert not unused.exists()
    assert load_json(used)["files"]
