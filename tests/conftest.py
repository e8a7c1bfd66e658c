"""Fixtures shared by all tests. Being here, it also puts `tests/` on the import path (`twins`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mgd3.cli import main
from serving import Served, serving
from twins import make_dit_folder, make_ldm_checkpoint, make_sd_folder

# The twins are so small that threads only wait for one another, and tests run side by side.
torch.set_num_threads(1)
_ENVIRONMENT = dict(os.environ)
# Modules whose tests compare what floating-point arithmetic gives: marked `numeric`, they run
# with other instructions, too (`make test-processors`). A sample that takes minutes: protocols
# with soft labels train in the loop that `test_training` tries.
_NUMERIC = frozenset(
    f"test_{name}.py"
    for name in (
        "augment", "d4m", "dc", "dsa", "evaluate_stage", "finetuning", "generator_training",
        "generators", "golden", "guidance", "ldm", "lite0", "manifold", "matching", "minmax",
        "modes",
        "pipelines", "priors", "resampling", "sampling", "sre2l", "stable_diffusion", "synthesis",
        "teachers", "training", "trajectories",
    )
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in _NUMERIC:
            item.add_marker("numeric")


def pytest_sessionstart() -> None:
    """A module that was renamed must not drop out of `make test-processors` unseen."""
    found = {path.name for path in Path(__file__).parent.rglob("test_*.py")}
    if absent := sorted(_NUMERIC - found):
        raise pytest.UsageError(f"tests/conftest.py: no such numeric modules: {absent}")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A stage that a test calls sets variables (offline, threads) for its own process only."""
    for name in set(os.environ) - set(_ENVIRONMENT):
        if not name.startswith("PYTEST_"):
            del os.environ[name]
    yield


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of archives."""
    with serving() as state:
        yield state


@pytest.fixture(scope="session")
def dit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of a random-weight DiT: 10 classes, 32 px, latents 4 x 8 x 8."""
    return make_dit_folder(tmp_path_factory.mktemp("generator") / "dit")


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight folder like Stable Diffusion's: 32 px, latents 4 x 8 x 8."""
    return make_sd_folder(tmp_path_factory.mktemp("generator") / "sd")


@pytest.fixture(scope="session")
def ldm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight latent diffusion checkpoint, converted: 32 px, latents 3 x 8 x 8."""
    folder = tmp_path_factory.mktemp("generator") / "ldm"
    checkpoint, config = make_ldm_checkpoint(folder.with_name("original"))
    command = ["convert", "--family", "ldm", "--checkpoint", str(checkpoint)]
    assert main([*command, "--config", str(config), "--folder", str(folder)]) == 0
    return folder
