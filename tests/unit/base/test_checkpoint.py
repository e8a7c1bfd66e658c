"""Unfinished work is gone on with where there is no doubt, and else begun anew in one line."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch

import mgd3
from mgd3.base import artifacts, checkpoint
from mgd3.base.checkpoint import Checkpoint, Unfinished
from mgd3.base.identity import identity

JOB = {"version": 2, "settings": {"rate": 0.1, "channels": (8, 16)}, "index": "0" * 64}


def network(width: int = 3) -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer]:
    torch.manual_seed(width)
    model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width))
    average = copy.deepcopy(model)
    return {"model": model, "average": average}, torch.optim.AdamW(model.parameters(), 0.1)


def train(modules, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        modules["model"](torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(modules):
    return [t.clone() for module in modules.values() for t in module.state_dict().values()]


@pytest.fixture
def kept(tmp_path):
    """A checkpoint after three steps."""
    modules, optimizer = network()
    train(modules, optimizer, range(3))
    kept = Checkpoint(tmp_path / ".x.safetensors", JOB, every=0)
    kept.save_if_due(3, modules, optimizer)
    return kept


def is_begun_anew(path, job, capsys, modules=None, optimizer=None) -> str:
    """That nothing is restored; what is said."""
    if modules is None:
        modules, optimizer = network()
    before = weights(modules)
    assert Checkpoint(path, job).restore(modules, optimizer) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(modules), strict=True))
    assert not optimizer.state_dict()["state"]
    said = capsys.readouterr().err
    assert said.startswith("begins anew, not from its checkpoint: ") and said.count("\n") == 1
    return said


def test_it_goes_on_to_the_same_weights(kept, capsys):
    whole, optimizer = network()
    train(whole, optimizer, range(6))
    modules, optimizer = network()
    again = {**JOB, "settings": {"channels": [8, 16], "rate": 0.1}}
    assert Checkpoint(kept.path, again).restore(modules, optimizer) == 3
    train(modules, optimizer, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(modules), strict=True))
    assert capsys.readouterr().err == ""
    kept.remove()
    assert Checkpoint(kept.path, JOB).restore(modules, optimizer) == 0
    assert capsys.readouterr().err == "", "no checkpoint is no doubt"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 3}, "version 2 -> 3"),
        ({"version": "2"}, 'version 2 -> "2"'),
        ({"index": "1" * 64}, "index "),
        ({"settings": {"rate": 0.2, "channels": [8, 16]}}, "settings "),
        ({"new": None}, "new (left at its neutral value) -> null"),
    ],
)
def test_that_of_another_job_is_not_taken(kept, capsys, change, told):
    assert told in is_begun_anew(kept.path, JOB | change, capsys)


@pytest.mark.parametrize("what", ["__version__", "torch.__version__", "_VERSION"])
def test_that_of_another_version_is_not_taken(kept, capsys, monkeypatch, what):
    owner, name = (torch, "__version__") if what.startswith("torch") else (checkpoint, what)
    monkeypatch.setattr(owner, name, 99 if name == "_VERSION" else "99.0")
    assert "99" in is_begun_anew(kept.path, JOB, capsys)


def test_no_flipped_bit_is_restored(kept, capsys):
    whole = kept.path.read_bytes()
    for at in [*range(0, len(whole), 37), len(whole) - 1]:
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        kept.path.write_bytes(changed)
        is_begun_anew(kept.path, JOB, capsys)
    for short in (0, 5, 200, len(whole) - 1):
        kept.path.write_bytes(whole[:short])
        is_begun_anew(kept.path, JOB, capsys)


def test_one_without_metadata_is_not_taken(kept, capsys):
    from safetensors.torch import save_file

    tensors = artifacts.load_tensors(kept.path)
    save_file(tensors, kept.path)
    assert "does not say what it is" in is_begun_anew(kept.path, JOB, capsys)
    artifacts.save_tensors(kept.path, tensors, {"identity": JOB, "step": 3})
    assert "does not say what it is" in is_begun_anew(kept.path, JOB, capsys)
    artifacts.save_tensors(kept.path, tensors, {}, identity("modes", 1))
    assert "is modes " in is_begun_anew(kept.path, JOB, capsys)


def test_one_that_does_not_fit_changes_nothing(kept, capsys):
    modules, optimizer = network(width=5)
    assert "holds another model" in is_begun_anew(kept.path, JOB, capsys, modules, optimizer)
    modules, optimizer = network()
    modules["average"] = torch.nn.Linear(4, 3)
    assert "holds another average" in is_begun_anew(kept.path, JOB, capsys, modules, optimizer)
    modules, _ = network()
    fewer = torch.optim.AdamW(list(modules["model"].parameters())[:1], 0.1)
    assert "more parameters" in is_begun_anew(kept.path, JOB, capsys, modules, fewer)


def test_other_state_is_kept_the_same_way(tmp_path, capsys):
    path, shared = tmp_path / ".x", torch.ones(2)
    Unfinished(path, JOB).save({"a": shared, "b": shared}, {"stages": 2})
    state = Unfinished(path, JOB).load()
    assert state.note == {"stages": 2} and torch.equal(state.tensors["b"], shared)
    assert Unfinished(path, {**JOB, "version": 4}).load() is None
    assert "version 2 -> 4" in capsys.readouterr().err
    assert not Unfinished(path, JOB).is_due() and Unfinished(path, JOB, every=0).is_due()


def test_there_is_no_other_way_to_keep_unfinished_work():
    """Whoever restored an optimiser of his own would do so without these checks."""
    package = Path(mgd3.__file__).parent
    restoring = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"optimi[sz]er\.load_state_dict\(", file.read_text(encoding="utf-8"))
    ]
    assert restoring == ["base/checkpoint.py"]


def test_that_of_a_job_by_raised_code_is_not_taken(kept, capsys):
    """The running job's identity holds the versions of its stage and of what it calls."""
    with artifacts.making(None, "train-vae, version 2"):
        is_begun_anew(kept.path, JOB, capsys)
        Checkpoint(kept.path, JOB).save({}, {"step": 3})
        assert Unfinished(kept.path, JOB).load().note == {"step": 3}
    with artifacts.making(None, "train-vae, version 3"):
        is_begun_anew(kept.path, JOB, capsys)
