"""What a command line says of a configuration."""

from __future__ import annotations

import pytest

from mgd3.base.errors import UserError
from mgd3.planning.config import resolve
from mgd3.planning.overrides import applied, preset_file, reread
from workplace import ROOT, tiny

PRESETS = ROOT / "workflow" / "presets"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"ipc": ["1", "10"]}, {"ipc": [1, 10]}),
        ({"set": {"lambda": ["0.1", "3e-1"]}}, {"set": {"lambda": [0.1, "3e-1"]}}),
        ({"ipc": "[1]"}, {"ipc": [1]}),
        ({"resources": {"compile": "true"}}, {"resources": {"compile": True, "device": "cpu"}}),
        ({"name": "2026-01-02"}, {"name": "2026-01-02"}),
        ({"name": "a: b: c"}, {"name": "a: b: c"}),
        ({"cache_dir": "null"}, {"cache_dir": None}),
    ],
)
def test_text_of_the_command_line_is_read_as_yaml(given, read):
    config = {"resources": {"device": "cpu"}, **given}
    if "resources" in given:
        config["resources"] = {"device": "cpu", **given["resources"]}
    assert reread(config, given) == {"resources": {"device": "cpu"}, **read}


def test_a_scalar_stands_for_a_list_of_one():
    config = tiny(ipc=2, generation_seeds=0, datasets="digits", runs={"method": "random"})
    config["evaluation"] = {"protocol": "hard-small", "networks": "convnet3"}
    resolved = resolve(config)
    assert (resolved.ipc, resolved.generation_seeds) == ([2], [0])
    assert [run.method for run in resolved.runs] == ["random"]
    assert resolved.evaluation[0]["networks"] == ["convnet3"]


def test_set_is_for_every_run_that_takes_the_setting():
    runs = resolve(tiny(set={"lambda": [0.1, 0.3], "t_sg": 5, "cfg": 2})).runs
    guided = [run for run in runs if run.method == "mgd3"]
    assert [run.settings["lambda"] for run in guided] == [0.1, 0.3]
    assert {run.settings["t_sg"] for run in guided} == {5}
    assert [run.settings["cfg"] for run in runs if "cfg" in run.settings] == [2, 2, 2]
    assert [run.slug for run in runs][:2] == [run.slug for run in resolve(tiny()).runs][:2]


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"lamda": 1}, "no run takes 'lamda'(.|\n)*did you mean 'lambda'"),
        ({"method": "random"}, "no run takes 'method'"),
        (3, "set is 3"),
    ],
)
def test_set_of_what_no_run_takes_is_refused(chosen, named):
    with pytest.raises(UserError, match=named):
        applied(tiny(set=chosen))


def test_a_preset_is_a_file(tmp_path):
    beside = tmp_path / "mine.yaml"
    beside.write_text("ipc: [3]\n")
    assert preset_file(PRESETS, "ablation-stop", [beside]) == PRESETS / "ablation-stop.yaml"
    with pytest.raises(UserError, match=r"no preset 'ablation-stp'(.|\n)*ablation-stop"):
        preset_file(PRESETS, "ablation-stp", [])


@pytest.mark.parametrize("key", ["name: mine", "runs: [{method: random}]"])
def test_a_preset_beside_a_configuration_of_its_own_is_refused(tmp_path, key):
    beside = tmp_path / "mine.yaml"
    beside.write_text(f"{key}\n")
    with pytest.raises(UserError, match="are two configurations"):
        preset_file(PRESETS, "ablation-stop", [beside])
