"""`snakemake --config preset=ablation-ipc`: a preset by its name."""

from __future__ import annotations

import shutil

import pytest
import yaml

from workplace import ROOT, Workplace, parse_jobs

PRESET = ROOT / "workflow/presets/ablation-ipc.yaml"


@pytest.mark.slow
def test_a_preset_is_the_same_as_its_file(fresh: Workplace) -> None:
    status, output = fresh.snakemake({}, "--dry-run", "--config", "preset=ablation-ipc")
    assert status == 0, output
    assert parse_jobs(output) == fresh.planned(yaml.safe_load(PRESET.read_text()))


def test_a_file_beside_a_preset_wins_over_it(fresh: Workplace) -> None:
    status, output = fresh.snakemake({"ipc": [3]}, "--dry-run", "--config", "preset=ablation-ipc")
    assert status == 0, output
    assert "results/reports/ablation-ipc/" in output
    assert "ipc3" in output and "ipc10" not in output


def test_a_configuration_beside_a_preset_is_refused(fresh: Workplace) -> None:
    status, output = fresh.snakemake(
        {"name": "mine"}, "--dry-run", "--config", "preset=ablation-ipc"
    )
    assert status != 0
    assert "are two configurations" in output and "Traceback" not in output


def test_no_word_of_the_command_line_is_a_preset(fresh: Workplace) -> None:
    """Nor is a folder that is called like one."""
    shutil.copytree(ROOT / "tests/data", fresh.path / "analysis")
    status, output = fresh.snakemake({}, "--dry-run", "ablation_ipc")
    assert status != 0
    assert "ablation_ipc" in output and "results/reports/ablation-ipc/" not in output
