"""docs/architecture.md says what the package is like: rooms, floors, what imports what.

After a change:  python tests/unit/test_architecture.py  (writes the column `imports`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import mgd3

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = Path(mgd3.__file__).parent
# | `room` | what it holds | imports |
ROW = re.compile(r"^(\| `(\w+)` \| [^|]+ \|) ?([^|]*)\|$", re.MULTILINE)
# Imported before any job runs: they must not cost its start.
LIGHT = [
    "cli", "stages", "planning.config", "planning.layout", "planning.plan", "planning.tuning",
    "methods", "discovery", "evaluation.protocols", "generators.registry", "networks.names",
    "teachers", "data.registry", "diffusion.names",
]  # fmt: skip


def rooms() -> dict[str, str]:
    """Room -> what its row says that it imports."""
    table = PAGE.read_text().split("## The rooms", 1)[1]
    return {room: names.strip() for _, room, names in ROW.findall(table)}


def layers() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    return contract["layers"]


def imported() -> dict[str, str]:
    """Room -> the rooms that its modules import, from the top floor down."""
    graph = grimp.build_graph("mgd3", exclude_type_checking_imports=True, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules - {"mgd3"}:
        room = module.split(".")[1]
        for name in graph.find_modules_directly_imported_by(module) - {"mgd3"}:
            found.setdefault(room, set()).add(name.split(".")[1])
    floors = layers()
    return {
        room: ", ".join(sorted(names - {room}, key=floors.index)) for room, names in found.items()
    }


def test_the_page_lists_every_room_from_the_top_floor_down():
    there = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    files = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files == {"cli"}, "nothing else stands at the top of the package"
    assert set(rooms()) == there | files
    assert [*rooms()] == [*layers(), "resources"]


def test_the_page_says_what_each_room_imports():
    now = imported()
    assert rooms() == {room: now.get(room, "") for room in rooms()}


def test_files_that_the_page_names_are_there():
    named = re.findall(r"`([a-z]+/\w+\.py)`", PAGE.read_text())
    assert len(named) >= 7
    assert not [name for name in named if not (PACKAGE / name).is_file()]
    for name in re.findall(r"`(tests/[\w/.]+)`", PAGE.read_text()):
        assert (ROOT / name).exists()


def test_stages_of_the_page_are_stages():
    from mgd3.stages import VERSIONS

    table = PAGE.read_text().split("## The rooms", 1)[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(named) == 8 and set(named) <= set(VERSIONS)


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_imported_before_a_job_runs_loads_no_torch(module):
    code = f"import mgd3.{module}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_public_names_are_imported_when_they_are_asked_for():
    code = "import mgd3, sys; mgd3.UserError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert set(mgd3.__all__) <= set(dir(mgd3))
    assert all(hasattr(mgd3, name) for name in mgd3.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        mgd3.Pipeline  # noqa: B018


if __name__ == "__main__":
    now = imported()
    head, _, table = PAGE.read_text().partition("## The rooms")
    table = ROW.sub(lambda row: f"{row[1]} {now.get(row[2], '')} |", table)
    PAGE.write_text(head + "## The rooms" + table)
    print(f"wrote {PAGE.relative_to(ROOT)}")
