"""Shipped configurations, changed by chance: each is resolved or refused in one sentence, soon.

600 changes of what a file holds (a value replaced by a hostile one, a part removed, doubled, moved
or renamed) and 200 of its text (letters, lines, tabs, brackets). An exception but UserError fails,
and so does a configuration that takes seconds.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mgd3.base.errors import UserError
from mgd3.planning.config import check, resolve, schema
from mgd3.planning.layout import Layout
from mgd3.planning.reading import read_yaml
from mgd3.stages import VERSIONS

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "config.yaml", *sorted((ROOT / "workflow/presets").glob("*.yaml"))]
STRUCTURAL, TEXTUAL = 600, 200
# A configuration is looked at in milliseconds; this machine may be busy.
MOST_SECONDS = 20.0

HOSTILE = [
    None, True, False, 0, 1, -1, -0.0, 0.5, 1.5, 1e300, 10**9, 10**30, -(10**30), 2**63,
    float("nan"), float("inf"), "", " ", "x", "1", "0.1", "true", "auto", "all", "..", "../..",
    "/", "a/b", "mgd3\n", "\0", "\ud800", "é", "x" * 5000, "$(touch HIT)", "{x}", "dit:../..",
    "cuda:99999999999", [], {}, [[]], [{}], {"": {}}, {1: 2}, [1, 1], ["x", None], b"x",
    {"method": "mgd3"}, {"method": []}, {"name": {}}, [["mgd3"]], 1 + 2j, {None: None},
]  # fmt: skip
INSERTED = [
    " ", "\t", "\n", "\n\n", ":", ": ", "-", "- ", "[", "]", "{", "}", ",", "'", '"', "#", "&a ",
    "*a", "!", "|", ">", "%", "@", "`", "?", "0", "-0.0", "010", "1:30", "1e9", "on", "~", "<<",
    "\x00", "\ufeff", "é", "---\n", "...\n", "x: y\n", "  ", "!!python/name:os.system", "\\",
]  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [path, *(p for key, value in items for p in places(value, (*path, key)))]


def mutate(config: Any, draws: random.Random) -> Any:
    config = copy.deepcopy(config)
    for _ in range(draws.choice((1, 1, 1, 2, 3))):
        found = [path for path in places(config) if path]
        if not found:
            break
        path = draws.choice(found)
        parent = config
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        action = draws.choice(("replace", "replace", "remove", "double", "move", "rename", "wrap"))
        if action == "replace":
            parent[key] = copy.deepcopy(draws.choice(HOSTILE))
        elif action == "remove":
            del parent[key]
        elif action == "double" and isinstance(parent, list):
            parent.append(parent[key])
        elif action == "move":
            other = config
            for step in draws.choice(found)[:-1]:
                other = other[step] if step in range(len(other)) or step in other else other
            if isinstance(other, dict):
                other[key if isinstance(key, str) else "moved"] = parent[key]
        elif action == "rename" and isinstance(parent, dict):
            new = draws.choice((key[:-1], key + "s", key.upper(), "", 1, None, key[::-1]))
            parent[new] = parent.pop(key)
        elif action == "wrap":
            parent[key] = draws.choice(([parent[key]], {"x": parent[key]}, [parent[key]] * 3))
    return config


def scramble(text: str, draws: random.Random) -> str:
    for _ in range(draws.choice((1, 1, 2, 4))):
        at, upto = draws.randrange(len(text)), draws.randint(1, 12)
        action = draws.choice(("insert", "insert", "cut", "swap", "line", "indent"))
        if action == "insert":
            text = text[:at] + draws.choice(INSERTED) + text[at:]
        elif action == "cut":
            text = text[:at] + text[at + upto :]
        elif action == "swap":
            text = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
        else:
            lines = text.split("\n")
            line = draws.randrange(len(lines))
            if action == "line":
                lines.insert(draws.randrange(len(lines)), lines[line])
            else:
                lines[line] = " " * draws.randint(0, 6) + lines[line].strip()
            text = "\n".join(lines)
    return text


def outcome(make: Any) -> str:
    """What a run says before its first job: "resolved" or "refused"; anything else is raised."""
    began = time.monotonic()
    try:
        layout = Layout(resolve(make()), ROOT, VERSIONS)
        assert layout.runs
        said = "resolved"
    except UserError as error:
        said = "refused"
        assert error.what and "\n" not in error.what, error.what
        assert len(str(error)) < 3000, error.what[:200]
    assert time.monotonic() - began < MOST_SECONDS
    return said


@pytest.fixture(scope="module", autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        yield


@pytest.mark.parametrize("part", range(6))
def test_what_a_configuration_holds_is_resolved_or_refused(part: int) -> None:
    seen: Counter[str] = Counter()
    shipped = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES]
    for number in range(STRUCTURAL // 6):
        draws = random.Random(f"structural {part} {number}")
        config = mutate(draws.choice(shipped), draws)
        try:
            seen[outcome(lambda config=config: config)] += 1
        except Exception as error:
            raise AssertionError(f"part {part}, number {number}: {config!r:.2000}") from error
    assert seen["refused"] > STRUCTURAL // 12 and seen["resolved"] > 2, "both are tried"


@pytest.mark.parametrize("part", range(2))
def test_the_text_of_a_configuration_is_resolved_or_refused(part: int, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    path = tmp_path / "config.yaml"
    for number in range(TEXTUAL // 2):
        draws = random.Random(f"textual {part} {number}")
        text = scramble(draws.choice(FILES).read_text(encoding="utf-8"), draws)
        path.write_text(text, encoding="utf-8")
        try:
            seen[outcome(lambda: read_yaml(path))] += 1
        except Exception as error:
            raise AssertionError(f"part {part}, number {number}: {text!r:.2000}") from error
    assert seen["refused"] > 10 and seen["resolved"] > 10, "both are tried"


def strict() -> Any:
    """A validator that is told what Python's readers of YAML tell apart: 10.0 is no integer."""
    base = jsonschema.Draft202012Validator
    whole = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return jsonschema.validators.extend(base, type_checker=whole)(schema())


def test_editors_are_told_what_is_read() -> None:
    """Whatever the reader takes, the schema takes; what that refuses, it refuses, too, but for what
    a schema cannot say (text of a file's name, more trainings than anyone waits for)."""
    validator, verdicts = strict(), Counter()
    shipped = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES]
    assert not [error for config in shipped for error in validator.iter_errors(config)]
    for number in range(150):
        draws = random.Random(f"schema {number}")
        config = mutate(draws.choice(shipped), draws)
        try:
            check(config)
            taken = True
        except UserError:
            taken = False
        said = is_json(config) and validator.is_valid(config)
        assert said or not taken, f"{number}: {config!r:.2000}"
        verdicts[said, taken] += 1
    assert verdicts[True, False] < verdicts[False, False] / 4, verdicts


def is_json(config: Any) -> bool:
    """Whether JSON has such a value: no keys but text, no bytes, nothing that holds itself."""
    try:
        return json.loads(json.dumps(config, allow_nan=False)) == config
    except (TypeError, ValueError):
        return False
