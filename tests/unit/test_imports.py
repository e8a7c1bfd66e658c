"""What plans, joins and draws starts in a moment: it loads none of the large packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

LARGE = ("torch", "torchvision", "diffusers", "transformers", "sklearn", "timm", "faiss")

# What the Snakefile and the command line import, for each job and each dry run.
PLANNING = (
    "mgd3.cli",
    "mgd3.stages",
    "mgd3.planning.config",
    "mgd3.planning.layout",
    "mgd3.planning.plan",
    "mgd3.planning.tuning",
    "mgd3.methods",
    "mgd3.discovery",
    "mgd3.evaluation.protocols",
    "mgd3.generators.registry",
    "mgd3.teachers",
    "mgd3.networks.names",
)
# Stages that join or draw files.
JOINING = (
    "mgd3.data.index",
    "mgd3.methods.blocks",
    "mgd3.reporting.tables",
    "mgd3.reporting.cost",
    "mgd3.reporting.claims",
    "mgd3.reporting.settings_table",
    "mgd3.reporting.tables_page",
    "mgd3.reporting.figures",
    "mgd3.reporting.plots",
    "mgd3.reporting.export",
    "mgd3.reporting.gallery.page",
    "mgd3.metrics.summary",
    "mgd3.tuning.rungs",
    "mgd3.tuning.report",
)


def loaded(module: str, *packages: str) -> list[str]:
    """Which of some packages a process has loaded that has imported a module."""
    program = f"import sys, {module}; print(*[n for n in {packages!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", [*PLANNING, *JOINING])
def test_it_loads_no_large_package(module):
    assert loaded(module, *LARGE) == []


@pytest.mark.parametrize("module", PLANNING)
def test_planning_loads_no_tables(module):
    assert loaded(module, "pandas", "pyarrow", "matplotlib", "scipy") == []


def test_what_is_loaded_would_be_seen():
    assert loaded("mgd3.networks.augment", "torch", "diffusers") == ["torch"]
