"""What is made from the contracts agrees with what stands beside them: rules, docs, start-up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mgd3.base.errors import UserError
from mgd3.base.shapes import misfit
from mgd3.base.tables import read_csv
from mgd3.planning.identities import OWN
from mgd3.stages import CONTRACTS, JOBS, VERSIONS
from mgd3.stages.commands import stages_table
from mgd3.stages.contract import Command

ROOT = Path(__file__).parents[3]
RULES = ROOT / "workflow" / "rules"


# Of these the path is of a folder that all configurations share, or a report's, of one identity
# for all of them: what is fetched is checked, and reports follow from what they read.
WITHOUT_IDENTITY = {name for name in JOBS if name.replace("-", "_") not in OWN}


def calls_of_rules() -> list[tuple[str, str, set[str]]]:
    """Of each rule that calls a stage: its file, the stage, the flags it names."""
    found = []
    for file in sorted(RULES.glob("*.smk")):
        for rule in re.split(r"(?m)^ *rule\b", file.read_text())[1:]:
            shell = rule.partition("shell:")[2]
            text = "".join(re.findall(r'"([^"\n]*)"', shell))
            if call := re.match(r"mgd3 ([a-z-]+) (.*)", text):
                flags = set(re.findall(r"--[a-z-]+", call[2]))
                found.append((file.name, call[1], flags))
    return found


def test_rules_name_only_fields_of_contracts():
    calls = calls_of_rules()
    assert len(calls) > 40
    for file, stage, flags in calls:
        fields = {field.flag for field in JOBS[stage].fields()}
        assert flags <= fields, f"{file}: mgd3 {stage} takes no {flags - fields}"
        told = "--identity" in flags
        assert told != (stage in WITHOUT_IDENTITY), f"{file}: {stage} --identity"


def test_options_that_rules_put_together_are_fields_of_some_contract():
    text = (ROOT / "workflow" / "mgd3" / "planning" / "wiring.py").read_text()
    known = {field.flag for job in JOBS.values() for field in job.fields()}
    assert set(re.findall(r'"(--[a-z-]+)"', text)) <= known


def test_every_job_has_a_rule_and_no_command_has_one():
    called = {stage for _, stage, _ in calls_of_rules()}
    assert called == set(JOBS)
    assert not any(issubclass(CONTRACTS[stage], Command) for stage in called)


def test_jobs_have_versions_and_records():
    assert {*VERSIONS} == {name.replace("-", "_") for name in JOBS}
    assert all(version >= 1 for version in VERSIONS.values())


def test_the_table_of_stages_in_the_docs_is_current():
    assert (ROOT / "docs" / "stages.md").read_text() == stages_table(), (
        "make it again: mgd3 stages > docs/stages.md"
    )


def test_contracts_import_nothing_heavy():
    code = (
        "import mgd3.stages, mgd3.cli, sys\n"
        "for c in mgd3.stages.CONTRACTS.values(): c.fields()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = {name.partition(".")[0] for name in done.stdout.split()}
    assert not {"torch", "numpy", "pandas", "pyarrow", "yaml", "scipy", "sklearn"} & found


@pytest.mark.parametrize(
    ("value", "shape", "says"),
    [
        ("1", int, "not a whole number"),
        (True, int, "not a whole number"),
        (1.5, int, "not a whole number"),
        (True, float, "not a number"),
        (float("inf"), float, "not a number"),
        ({"a": [1, "x"]}, {"a": [int]}, "a[1] is 'x'"),
        ({}, {"a": str}, "has no 'a'"),
        ([{"a": {"b": 1}}], [{"a": {"b": str}}], "[0].a.b is 1, not text"),
        (5, (str, None), "not text or null"),
    ],
)
def test_shapes_are_strict(value, shape, says):
    assert says in misfit(value, shape)


def test_shapes_take_what_they_say():
    assert misfit({"a": 1, "c": 2}, {"a": float, "b?": str}) is None
    assert misfit([None, "x"], [(str, None)]) is None


def test_words_for_nothing_are_names(tmp_path):
    """Classes called NA, None, null or nan are classes."""
    names = ["NA", "None", "null", "nan", "N/A", ""]
    file = tmp_path / "table.csv"
    pd.DataFrame({"class": names, "x": range(6)}).to_csv(file, index=False)
    table = read_csv(file, text=["class"], numbers=["x"])
    assert table["class"].tolist()[:5] == names[:5] and table["class"].isna().sum() == 1
    assert table["x"].tolist() == [*range(6)]


def test_a_word_for_a_number_is_named(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("class,x\na,1\nb,NA\n")
    with pytest.raises(UserError, match=r"x is 'NA', which is no number"):
        read_csv(file, text=["class"], numbers=["x"])
