"""What workflow/rules/snakemake.smk takes of Snakemake beside its documented interface."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from workplace import Workplace, tiny

PRINTED = """
print("PLANNING", PLANNING)
print("GIVEN", GIVEN, [str(file) for file in GIVEN_FILES])
print("READ", [str(file) for file in files_read()])
print("GPU", workflow.global_resources["gpu"])
tell_jobs("mine", "it is told")
told = workflow.spawned_job_args_factory.workflow_property_to_arg
print("JOBS", told("config_settings.config_args", flag="--config"))
"""


@pytest.fixture
def printed(fresh: Workplace) -> str:
    """What a plan says of itself."""
    snakefile = fresh.path / "Snakefile"
    snakefile.write_text(snakefile.read_text() + PRINTED)
    status, output = fresh.snakemake(
        tiny(),
        "all",
        "--dry-run",
        "--config",
        "ipc=1",
        "--resources",
        "gpu=3",
        "--forcerun",
        "index",
    )
    assert status == 0, output
    return output


def test_each_is_there(printed: str) -> None:
    assert "PLANNING True" in printed
    assert re.search(r"GIVEN {'ipc': 1} \['.*tiny.yaml'\]", printed)
    read = re.search(r"READ (.*)", printed)[1]
    assert "tiny.yaml" in read and "config.yaml" in read
    assert re.search(r"GPU .*\b3\b", printed), "the command line wins"


def test_jobs_elsewhere_are_told(printed: str) -> None:
    words = shlex.split(re.search(r"JOBS (.*)", printed)[1])
    given = words[words.index("--config") + 1 :]
    assert "ipc=1" in given and any(word.startswith("mine=") for word in given)
    (plan,) = [word for word in given if word.startswith("plan_file=")]
    assert Path(plan.partition("=")[2].strip("'")).parent == Path(".mgd3/plans")
