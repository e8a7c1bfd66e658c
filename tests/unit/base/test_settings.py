"""Typed settings: strict, one sentence for a mistake, one form for all spellings of the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import pytest

from mgd3.base.errors import UserError
from mgd3.base.settings import (
    LARGEST,
    Count,
    ListOf,
    NonNegative,
    OneOf,
    Positive,
    Setting,
    Settings,
    Sweep,
    UniqueListOf,
    require_typed,
    schema_of,
    wanted,
)
from mgd3.discovery import DISCOVERIES
from mgd3.evaluation.protocols import PROTOCOLS
from mgd3.generators.registry import GENERATORS
from mgd3.methods import METHODS
from mgd3.planning.owners import OWNERS, owner_version, version_of
from mgd3.teachers import TEACHERS


class Inner(Settings):
    """A part."""

    size: Annotated[Count, Setting("pixels")] = 8


class Example(Settings):
    """Settings of every kind."""

    version: ClassVar = 3
    lambda_: Annotated[Sweep[NonNegative], Setting("a scale")] = 0.5
    name: Annotated[Annotated[str, OneOf(lambda: ["one", "other"])], Setting("a name")] = "one"
    kind: Annotated[Literal["all"] | Count, Setting("all, or how many")] = "all"
    bound: Annotated[Positive | None, Setting("a bound", neutral=None)] = None
    flag: Annotated[bool, Setting("a flag", neutral=False)] = False
    seeds: Annotated[UniqueListOf[Count], Setting("some")] = [1]  # noqa: RUF012
    inner: Annotated[Inner, Setting("a part")] = {"size": 8}  # noqa: RUF012
    parts: Annotated[ListOf[Inner], Setting("several")] = [{"size": 8}]  # noqa: RUF012


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lambda": "0.5"}, ["lambda is '0.5'", "a number of at least 0"]),
        ({"lambda": True}, ["lambda is True", "a number of at least 0"]),
        ({"lambda": float("nan")}, ["lambda is nan"]),
        ({"lambda": float("inf")}, ["lambda is inf"]),
        ({"lambda": -0.0}, ["lambda is -0.0", "write 0"]),
        ({"lambda": 10**300}, ["lambda is 1000", "up to 1,000,000,000"]),
        ({"lambda": 1e300}, ["lambda is 1e+300", "up to 1,000,000,000"]),
        ({"lambda": [1]}, ["lambda is [1]"]),
        ({"lambda_": 1}, ["unknown key 'lambda_'", "did you mean 'lambda'?"]),
        ({"name": "othr"}, ["name is 'othr'", "did you mean 'other'?"]),
        ({"name": 1}, ["name is 1", "one of one, other"]),
        ({"name": "one\n"}, ["line feeds"]),
        # A union is one sentence that says all that it takes.
        ({"kind": 0}, ["kind is 0", "give all or a whole number of at least 1"]),
        ({"kind": 2.0}, ["kind is 2.0", "give all or a whole number of at least 1"]),
        ({"kind": True}, ["kind is True"]),
        ({"kind": None}, ["kind is None"]),
        ({"kind": "al"}, ["kind is 'al'", "did you mean 'all'?"]),
        ({"bound": 0}, ["bound is 0", "give a number above 0 or null"]),
        ({"bound": {}}, ["bound is {}", "give a number above 0 or null"]),
        ({"flag": 1}, ["flag is 1", "true or false"]),
        ({"flag": "yes"}, ["flag is 'yes'"]),
        ({"seeds": []}, ["seeds is an empty list"]),
        ({"seeds": 1}, ["seeds is 1", "a list of a whole number of at least 1"]),
        ({"seeds": [1, 0]}, ["seeds[1] is 0"]),
        ({"seeds": [1, True]}, ["seeds[1] is True"]),
        ({"seeds": [2, 2]}, ["seeds", "2 is listed twice"]),
        ({"inner": 3}, ["inner is 3", "keys and values"]),
        ({"inner": {"sice": 3}}, ["unknown key 'sice' in inner", "did you mean 'size'?"]),
        ({"parts": [{}, {"size": None}]}, ["parts[1].size is None"]),
        ({1: 2}, ["unknown key '1'"]),
        ({None: 2}, ["unknown key 'None'"]),
        ([], ["the config is []"]),
        ({"kind": 10**6000}, ["thousands of digits", "up to 1,000,000,000"]),
        ({"kind": "x" * 5000}, ["kind is 'xxx"]),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(values, words):
    with pytest.raises(UserError) as caught:
        Example.read(values)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    assert len(text) < 300 and len(text.splitlines()) == 2


def test_a_list_sweeps_where_a_setting_does():
    assert Example.read({"lambda": [0, 1.5]}, sweeps=True) == {"lambda": [0, 1.5]}
    with pytest.raises(UserError, match=r"runs\[0\].lambda\[1\] is 'x'"):
        Example.read({"lambda": [0, "x"]}, "runs[0]", sweeps=True)
    with pytest.raises(UserError, match="lambda is an empty list"):
        Example.read({"lambda": []}, sweeps=True)


def test_all_spellings_of_the_same_have_one_canonical_form():
    whole = Example.canonical({})
    assert list(whole) == sorted(whole) and whole["lambda"] == 0.5
    for values in ({"lambda": 0.5}, {"name": "one"}, {"flag": False}, {"parts": [{}]}):
        assert json.dumps(Example.canonical(values)) == json.dumps(whole)
    one, other = Example.canonical({"lambda": 1}), Example.canonical({"lambda": 1.0})
    assert json.dumps(one) == json.dumps(other)
    assert Example.canonical({"lambda": 2}) != one


def test_a_setting_at_its_neutral_value_is_left_out():
    assert not {"flag", "bound"} & Example.canonical({"flag": False, "bound": None}).keys()
    assert Example.canonical({"flag": True})["flag"] is True
    assert Example.canonical({"bound": 2})["bound"] == 2.0


def test_the_schema_says_what_is_read():
    schema = schema_of(Example)
    assert schema["additionalProperties"] is False and schema["required"] == []
    properties = schema["properties"]
    number = {"minimum": 0, "maximum": LARGEST, "type": "number"}
    assert properties["lambda"]["else"] == number
    assert properties["name"]["enum"] == ["one", "other"]
    assert properties["bound"]["type"] == ["number", "null"]
    assert properties["parts"]["items"]["properties"]["size"]["default"] == 8
    assert wanted(Example.fields()["kind"].kind) == "all or a whole number of at least 1"


def test_every_default_of_every_owner_is_a_value_that_it_takes():
    for method in METHODS.values():
        needed = {key: "x" for key, field in method.fields().items() if field.required}
        method.canonical(needed)
        for objective in method.by_objective:
            method.canonical(needed | method.defaults_of({"objective": objective}))
        assert all(field.setting.doc for field in method.fields().values())
    for entry in (*PROTOCOLS.values(), *GENERATORS.values(), *TEACHERS.values()):
        require_typed(entry)


def test_entries_are_strictly_typed():
    with pytest.raises(ValueError, match="its size is '224'"):
        require_typed(replace(PROTOCOLS["hard"], size="224"))
    with pytest.raises(ValueError, match="its steps is True"):
        require_typed(replace(TEACHERS["resnet18"], steps=True))


def test_every_owner_has_a_version_and_the_first_changes_no_plan(monkeypatch):
    for kind, names in OWNERS.items():
        assert all(owner_version(kind, name) >= 1 for name in names)
    with pytest.raises(UserError, match="did you mean 'mgd3'"):
        owner_version("method", "mgd")
    owners = ("method", "mgd3"), ("discovery", "gmm")
    monkeypatch.setattr(METHODS["mgd3"], "version", 1)
    monkeypatch.setattr(DISCOVERIES["gmm"], "version", 1)
    assert version_of(3, *owners) == 3
    monkeypatch.setattr(METHODS["mgd3"], "version", 2)
    assert version_of(3, *owners) == "3, method 2"
    monkeypatch.setattr(DISCOVERIES["gmm"], "version", 5)
    assert version_of(3, *owners) == "3, method 2, discovery 5"
