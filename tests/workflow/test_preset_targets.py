"""`snakemake ablation_ipc`: a preset as a target, of which jobs elsewhere are told."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from workplace import ROOT, Workplace, parse_jobs

pytestmark = pytest.mark.slow

PRESET = "workflow/presets/ablation-ipc.yaml"


def test_a_preset_is_a_target(fresh: Workplace) -> None:
    # What Snakemake gives to a job that it starts elsewhere, where its command line has no target.
    (fresh.path / "Snakefile").write_text(
        (fresh.path / "Snakefile").read_text()
        + "\nprint('GIVEN', workflow.spawned_job_args_factory.get_configfiles_arg())\n"
    )
    status, output = fresh.snakemake({}, "--dry-run", "ablation_ipc")
    assert status == 0, output
    jobs = parse_jobs(output)
    config = yaml.safe_load((ROOT / PRESET).read_text())
    assert jobs["evaluate"] >= len(config["ipc"]) * len(config["generation_seeds"])
    # The same jobs as with --configfile, and one that only holds them together.
    expected = fresh.planned(config)
    assert (jobs.pop("ablation_ipc"), expected.pop("all")) == (1, 1)
    assert jobs == expected
    given = shlex.split(re.search("GIVEN (.+)", output)[1])
    assert [file.rpartition("/")[2] for file in given[1:]] == ["ablation-ipc.yaml", "tiny.yaml"]


def test_an_overlay_wins_over_the_preset(fresh: Workplace) -> None:
    status, output = fresh.snakemake({"ipc": [3], "name": "mine"}, "--dry-run", "ablation_ipc")
    assert status == 0, output
    assert "results/reports/mine/" in output and "results/reports/ablation-ipc/" not in output
    assert "ipc3" in output and "ipc10" not in output
