"""Packages beside mgd3, as an installer leaves them in a folder of Python's path."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).with_name("outside_package")


def install(folder: Path) -> Path:
    """Install the package of a researcher; the folder is for `PYTHONPATH`."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copytree(PACKAGE / "outside", folder / "outside")
    describe(folder, project["name"], project["entry-points"])
    return folder


def describe(folder: Path, name: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write what an installer writes of a package: its name and its entry points."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, points in entry_points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in points.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
