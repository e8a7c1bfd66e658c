"""A package beside ours adds a method, mode discovery, a generator and a protocol: to the table."""

from __future__ import annotations

import os

import pytest

from outside import install
from workplace import Workplace, tiny


@pytest.mark.slow
def test_rows_of_a_package_stand_in_the_table(fresh: Workplace) -> None:
    folder = install(fresh.path / "site")
    fresh.env["PYTHONPATH"] = os.pathsep.join([str(fresh.path / "workflow"), str(folder)])
    sampling = {"generator": "outside-dit", "steps": 4}
    config = tiny(
        runs=[
            {"method": "mean-image", "share": [0.25]},
            {"method": "mgd3", **sampling, "modes": "first-rows", "t_sg": 2},
        ],
        evaluation=[{"protocol": "outside-hard", "networks": ["convnet3-narrow"]}],
    )
    status, output = fresh.snakemake(config)
    assert status == 0, output[-3000:]
    table = (fresh.path / "results/reports/tiny/tables/results.csv").read_text()
    assert "mean images (share 0.25)" in table
    assert "MGD3 (first-rows modes, λ=0.1, t_SG=2, CFG 1.5)" in table
    assert table.count("outside-hard") == 2
    # The package stays what it is, and so does everything that it made.
    status, output = fresh.snakemake(config, "--dry-run")
    assert status == 0 and "Nothing to be done" in output
