"""What plans, joins and draws starts in a moment: it loads none of the large packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

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


PROGRAM = """
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    for package in [p for p in {packages!r} if p in sys.modules]:
        sys.exit(f"{{module}} loads {{package}}")
"""


def complaint(modules: Sequence[str], packages: Sequence[str]) -> str:
    """Which of some modules is the first, imported one after another, to load one of the packages;
    empty when none does."""
    program = PROGRAM.format(modules=modules, packages=packages)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stderr.strip()


def test_planning_loads_no_large_package():
    assert complaint(PLANNING, [*LARGE, "pandas", "pyarrow", "matplotlib", "scipy"]) == ""


def test_joining_and_drawing_loads_no_large_package():
    assert complaint(JOINING, LARGE) == ""


def test_what_is_loaded_would_be_named():
    modules = ["mgd3.methods", "mgd3.networks.augment"]
    assert complaint(modules, LARGE) == "mgd3.networks.augment loads torch"
