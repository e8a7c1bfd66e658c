"""A small run with its gallery and report, and a browser to open them in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium

from workplace import Workplace, tiny

_MNIST = {"generator": "mnist-dit", "steps": 8, "cfg": 1.5}
CONFIG = tiny(
    datasets=["mnist"],
    runs=[{"method": "random"}, {"method": "mgd3", "lambda": 1, "t_sg": 2, **_MNIST}],
    resources={"device": "cpu", "batch": "auto", "classes_per_block": "auto"},
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Real digits, sampled and trained on for seconds; `report.html` in its folder."""
    place = Workplace.make(tmp_path_factory.mktemp("browser") / "made")
    place.shorten()
    place.run(CONFIG, "all", "gallery")
    status, output = place.snakemake(CONFIG, "all", "gallery", "--report", "report.html")
    assert status == 0, output
    return place


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path / "profile")
    yield chromium
    chromium.close()
