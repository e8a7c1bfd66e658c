"""Why an artefact is what it is, and why one is made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.planning.config import resolve
from mgd3.planning.graph import graph, of_run
from mgd3.planning.layout import Layout
from mgd3.planning.why import Artefacts, changes, compared, described
from mgd3.stages import VERSIONS
from workplace import ROOT, tiny, tiny_mgd3


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def layout(config: dict[str, Any]) -> Layout:
    return Layout(resolve(config), ROOT, VERSIONS)


def make(config: dict[str, Any]) -> dict[str, list[Path]]:
    """Artefacts that hold nothing but their headers, by stage."""
    made: dict[str, list[Path]] = {}
    for node in graph(layout(config)):
        path = Path(node.path)
        made.setdefault(node.stage, []).append(path)
        if path.suffix == ".json":
            artifacts.save_json(path, {}, node.identity)
        elif path.suffix == ".safetensors":
            artifacts.save_tensors(path, {}, {}, node.identity)
        elif node.stage == "collect":
            artifacts.save_tensors(path / "images.safetensors", {}, {}, node.identity)
        elif node.stage.startswith("train"):
            artifacts.save_json(path / "config.json", {})
            artifacts.save_folder_header(path, node.identity)
    return made


def test_an_identity_in_words():
    made = make(tiny())
    said = "\n".join(described(made["modes"][1], Artefacts(Path("results"))))
    assert said.startswith(f"modes, version {VERSIONS['modes']}")
    assert "discovery kmeans, version 1" in said
    assert "  ipc: 2" in said
    said = "\n".join(described(made["collect"][0], Artefacts(Path("results"))))
    assert said.startswith("collect, version")
    said = described(made["train_generator"][0], Artefacts(Path("results")))
    assert f"  reads vae: {made['train_vae'][0]}" in said


def test_the_difference_of_two():
    make(tiny())
    old = make(tiny())["evaluate"][-1]
    new = make(tiny_mgd3(**{"lambda": 0.3}))["evaluate"][-1]
    known = Artefacts(Path("results"))
    assert compared(old, old, known) == ["the same"]
    (clause,) = compared(old, new, known)
    assert clause.startswith("train")


def test_what_says_nothing_is_refused():
    artifacts.save_json("plain.json", {"a": 1})
    with pytest.raises(UserError, match="does not say what it is"):
        described(Path("plain.json"), Artefacts(Path("results")))


def test_a_plan_says_why_each_stage_runs(monkeypatch):
    make(tiny())
    assert changes(layout(tiny())) == []
    monkeypatch.setitem(VERSIONS, "modes", VERSIONS["modes"] + 1)
    said = changes(layout(tiny()))
    old = VERSIONS["modes"]
    assert f"modes anew: version of stage modes {old - 1} -> {old}" in said
    (sample,) = [line for line in said if line.startswith("sample anew")]
    assert f"version of stage modes {old - 1} -> {old}" in sample
    assert not [line for line in said if line.startswith(("latents", "train"))]


def test_a_name_that_another_configuration_has_is_told():
    place = layout(tiny())
    other = Path(place.view()).with_name(".shown~0123456789ab")
    other.parent.mkdir(parents=True)
    other.touch()
    (note,) = changes(place)
    assert "shows another configuration's reports, which stay in ~0123456789ab/" in note


def test_where_finds_a_run_by_slug_and_by_label():
    place = layout(tiny())
    nodes = graph(place)
    run = place.config.runs[-1]
    by_slug, by_label = of_run(place, nodes, run.slug), of_run(place, nodes, run.label)
    assert by_slug == by_label
    assert {node.stage for node in by_slug} == {"sample", "collect", "evaluate"}
    with pytest.raises(UserError, match="no run 'mgd4'"):
        of_run(place, nodes, "mgd4")


def test_the_commands_print(capsys, here: Path):
    (here / "c.yaml").write_text(yaml.safe_dump(tiny()))
    path = make(tiny())["index"][0]
    assert main(["graph", "c.yaml"]) == 0
    assert "to do" in capsys.readouterr().out
    assert main(["where", "random", "c.yaml"]) == 0
    assert "distilled/random/" in capsys.readouterr().out
    assert main(["why", str(path)]) == 2, "nothing lies there"
