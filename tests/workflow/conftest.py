"""A small workflow, run once, and copies of it to change and run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from workplace import Workplace, tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The small workflow, trained briefly, run to its end. Only for dry runs: `again` runs more."""
    place = Workplace.make(tmp_path_factory.mktemp("workflow") / "finished")
    place.shorten()
    place.run(tiny())
    return place


@pytest.fixture
def again(finished: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the finished workflow to run more in."""
    return finished.copy(tmp_path / "again")


@pytest.fixture
def fresh(tmp_path: Path) -> Workplace:
    """The workflow with nothing run yet, and short trainings."""
    place = Workplace.make(tmp_path / "fresh")
    place.shorten()
    return place
