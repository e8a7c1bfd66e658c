"""Registries: a package beside ours adds entries; a broken or clashing one is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mgd3
from outside import describe, install

RESOLVE = """
import json, sys
from mgd3.base.errors import UserError
from mgd3.planning.config import resolve
from mgd3.planning.owners import owner_version
run = json.loads(sys.argv[1])
try:
    config = resolve({
        "name": "x", "datasets": ["digits"], "ipc": [1], "generation_seeds": [0], "runs": [run],
        "evaluation": [{"protocol": sys.argv[2], "networks": ["convnet3"]}],
    })
    for run in config.runs:
        print(run.slug, "|", run.label, "|", json.dumps(run.settings))
    print("torch" in sys.modules)
except UserError as error:
    print(error)
"""


def said(path: Path, code: str, *arguments: str) -> str:
    """What a process prints that has a folder in its path, beside the package under test."""
    python_path = os.pathsep.join([str(Path(mgd3.__file__).parents[1]), str(path)])
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": python_path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_adds_one_of_each_without_a_fork(tmp_path):
    install(tmp_path)
    run = '{"method": "mean-image", "share": [0, 0.5]}'
    assert said(tmp_path, RESOLVE, run, "outside-hard").splitlines() == [
        'mean-image_share0 | mean images (share 0) | {"share": 0}',
        'mean-image_share0.5 | mean images (share 0.5) | {"share": 0.5}',
        "False",
    ]
    run = '{"method": "mgd3", "generator": "outside-dit", "modes": "first-rows"}'
    slug, label, _ = said(tmp_path, RESOLVE, run, "hard-small").splitlines()[0].split(" | ")
    assert slug == "mgd3_outside-dit_ddpm_first-rows_lambda0.1_stop25_cfg1.5_steps50"
    assert label == "MGD3 (first-rows modes, λ=0.1, t_SG=25, CFG 1.5)"
    code = "from mgd3.methods import METHODS; print(*map(METHODS.distribution, METHODS))"
    assert set(said(tmp_path, code).split()) == {"mgd3", "outside"}


def test_mistakes_in_what_a_package_adds_are_named_as_ours(tmp_path):
    install(tmp_path)
    cases = {
        '{"method": "mean-imag"}': "did you mean 'mean-image'?",
        '{"method": "mean-image", "share": 2}': "runs[0].share is 2",
        '{"method": "mean-image", "shar": 0}': "did you mean 'share'?",
        '{"method": "random", "share": 0}': "method 'random' takes no 'share'",
    }
    for run, wanted in cases.items():
        assert wanted in said(tmp_path, RESOLVE, run, "hard-small")


def test_the_schema_has_what_a_package_adds(tmp_path):
    install(tmp_path)
    code = "from mgd3.cli import main; main(['schema'])"
    assert {"- mean-image", "- first-rows", "- outside-hard"} <= {
        line.strip() for line in said(tmp_path, code).splitlines()
    }


@pytest.mark.parametrize(
    ("group", "name", "value", "words"),
    [
        ("mgd3.methods", "mgd3", "other:Settings", ["'mgd3'", "package other", "one of mgd3, too"]),
        ("mgd3.methods", "lost", "nowhere.there:Settings", ["'lost'", "other", "nowhere"]),
        ("mgd3.methods", "lost", "json:loads", ["other", "mgd3.methods.MethodSettings"]),
        ("mgd3.methods", "lost", "broken:Settings", ["other", "ZeroDivisionError"]),
        ("mgd3.methods", "lost", "half:Settings", ["other", "has no function distil"]),
    ],
)
def test_a_broken_or_clashing_package_is_one_sentence(group, name, value, words, tmp_path):
    describe(tmp_path, "other", {group: {name: value}})
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "half.py").write_text(
        "from mgd3.methods import MethodSettings\nclass Settings(MethodSettings): label = 'x'\n"
    )
    text = said(tmp_path, RESOLVE, f'{{"method": "{name}"}}', "hard-small")
    assert [word for word in words if word not in text] == [], text
    assert len(text.strip().splitlines()) == 2, "what, and the mend"


@pytest.mark.parametrize(
    ("group", "code", "word"),
    [
        ("mgd3.discoveries", "mgd3.discovery:DISCOVERIES['odd']", "DiscoverySettings"),
        ("mgd3.generators", "mgd3.generators.registry:GENERATORS['odd']", "GeneratorEntry"),
        ("mgd3.protocols", "mgd3.evaluation.protocols:PROTOCOLS['odd']", "Protocol"),
    ],
)
def test_an_entry_of_another_kind_is_named(group, code, word, tmp_path):
    describe(tmp_path, "other", {group: {"odd": "json:loads"}})
    module, expression = code.split(":")
    name = expression.split("[")[0]
    text = said(
        tmp_path,
        f"from {module} import {name}\nfrom mgd3.base.errors import UserError\n"
        f"try:\n    {expression}\nexcept UserError as error:\n    print(error)",
    )
    assert "'odd' of the package other cannot be loaded" in text and word in text


def test_two_packages_with_one_name_are_named(tmp_path):
    describe(tmp_path, "one", {"mgd3.methods": {"same": "one:Settings"}})
    describe(tmp_path, "two", {"mgd3.methods": {"same": "two:Settings"}})
    text = said(tmp_path, RESOLVE, '{"method": "same"}', "hard-small")
    assert "'same'" in text and "one" in text and "two" in text


def test_a_broken_package_does_not_break_what_does_not_ask_for_it(tmp_path):
    describe(tmp_path, "other", {"mgd3.methods": {"lost": "nowhere.there:Settings"}})
    text = said(tmp_path, RESOLVE, '{"method": "random"}', "hard-small")
    assert text.startswith("random | random real images")
