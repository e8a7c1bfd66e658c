"""Whatever a configuration or a damaged file holds, the answer is a result or one clear error.

Both are fuzzed: configurations made from the schema and mutated, files truncated and with bytes
changed. Any exception but UserError fails, and so does an example of more than a few seconds.
"""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mgd3.base import artifacts
from mgd3.base.errors import UserError
from mgd3.data.imagefolder import ImageFolder
from mgd3.data.images import read_images
from mgd3.planning.config import preflight, resolve, schema
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS

ROOT = Path(__file__).parents[3]
FUZZ = settings(
    max_examples=150,
    deadline=5000,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SHIPPED = [
    yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (ROOT / "config.yaml", *sorted((ROOT / "workflow/presets").glob("*.yaml")))
]

HOSTILE_TEXT = st.sampled_from(
    [
        "", " ", "..", ".", "/", "../../etc", "a/../../b", "mnist\n", "x; touch HIT",
        "$(touch HIT)", "`touch HIT`", "it's", '"', "a\0b/", "\ud800/", "é" * 3, "x" * 300,
        "x/" * 3000, "-rf", "{dataset}", "{", "}", "~", "%s", "|", "cpu\n", "/proc/self/mem",
        "/nowhere/x/", "dit:../..",
    ]
)  # fmt: skip
JUNK = st.one_of(
    HOSTILE_TEXT,
    st.text(max_size=12),
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([10**30, -(10**30), 10**400, 0.1, -1.0, 1e300, 5.0, 32.0]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.lists(st.one_of(st.integers(-1, 9), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), st.integers(), max_size=3),
    st.dates(),
    st.binary(max_size=4),
)


def values_of(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows, mostly, and some at its edges."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if "const" in node:
        return st.just(node["const"])
    if "else" in node:
        both = {k: v for k, v in node.items() if k not in ("if", "then", "else")}
        return st.one_of(*(values_of({**both, **node.get(k, {})}) for k in ("then", "else")))
    kind = node.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        given_keys = node.get("properties", {})
        needed = {k: values_of(v) for k, v in given_keys.items() if k in node.get("required", ())}
        rest = {k: values_of(v) for k, v in given_keys.items() if k not in needed}
        return st.fixed_dictionaries(needed, optional=rest)
    if kind == "array":
        return st.lists(values_of(node.get("items", {})), max_size=3)
    if kind == "integer":
        least = node.get("minimum", 0)
        return st.integers(least - 1, min(node.get("maximum", least + 60), least + 60) + 1)
    if kind == "number":
        return st.floats(-1, 20) | st.sampled_from([float("nan"), float("inf"), 1])
    if kind == "boolean":
        return st.booleans()
    return HOSTILE_TEXT | st.sampled_from(["a", "mnist", "tiny-dit", "small-dit", "results/x"])


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [path, *(p for key, value in items for p in places(value, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A shipped configuration with some parts replaced, removed, added or doubled."""
    config = copy.deepcopy(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(1, 3))):
        if not (found := [path for path in places(config) if path]):
            break
        path = draw(st.sampled_from(found))
        parent = config
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "remove", "add", "double"]))
        if action == "replace":
            parent[path[-1]] = draw(JUNK)
        elif action == "remove":
            del parent[path[-1]]
        elif action == "double" and isinstance(parent, list):
            parent.append(parent[path[-1]])
        elif isinstance(parent, dict):
            parent[draw(st.one_of(st.text(max_size=4), st.integers(), st.none()))] = draw(JUNK)
    return config


def outcome(config: Any, place: Path) -> None:
    """What a run does with a configuration before its first job."""
    try:
        resolved = resolve(config)
        preflight(resolved)
        layout = Layout(resolved, ROOT, VERSIONS)
        paths = [
            *layout.scores(),
            *layout.grids(),
            *(
                layout.distilled(dataset, run.slug, 1, 0, "x")
                for dataset in layout.datasets
                for run in layout.runs.values()
            ),
        ]
    except UserError as error:
        assert str(error).isprintable() or "\n" in str(error)
        assert len(str(error)) < 3000
        return
    for path in paths:
        assert Path(path).parts[0] == "results" and ".." not in Path(path).parts
        assert not set(path) & set("\0\n\"'`$;|&<>*?{} \\"), path
        assert all(len(part) < 200 for part in Path(path).parts), path


@FUZZ
@given(config=mutated())
@example(config={**SHIPPED[0], "name": "demo\n"})
@example(config={**SHIPPED[0], "ipc": [10.0]})
@example(config={**SHIPPED[0], "generation_seeds": list(range(10**4)), "ipc": [*range(1, 300)]})
@example(config={**SHIPPED[0], "cache_dir": "results/{x}"})
@example(config={**SHIPPED[0], "resources": {"device": "cpu\n"}})
@example(config=None)
@example(config={1: 2, "a": 3, **SHIPPED[0]})
def test_a_mutated_configuration_is_resolved_or_refused(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome(config, tmp_path)


@FUZZ
@given(config=values_of(schema()))
def test_a_configuration_made_from_the_schema_is_resolved_or_refused(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome(config, tmp_path)


def test_a_configuration_that_holds_itself_is_refused():
    config = copy.deepcopy(SHIPPED[0])
    config["runs"].append(config["runs"])
    with pytest.raises(UserError):
        resolve(config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small file of every kind that is read."""
    folder = tmp_path_factory.mktemp("whole")
    tensors = {"mean/a": torch.arange(24.0).reshape(2, 3, 4), "labels": torch.arange(5)}
    artifacts.save_tensors(folder / "tensors", tensors, {"classes": ["a", "é"]})
    table = pd.DataFrame({"class": ["a", "b"] * 40, "k": range(80)})
    artifacts.save_table(folder / "table", table, {"classes": ["a", "b"]})
    artifacts.save_json(folder / "json", {"é": [1, 2.5, None], "b": {"c": "d"}})
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for kind in ("png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm"):
        Image.fromarray(pixels).save(folder / kind, format=kind)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Truncate, or change some bytes (most formats keep their structure near the ends)."""
    cut = draw(st.one_of(st.none(), st.floats(0, 1)))
    flips = draw(
        st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 255)), max_size=6)
    )

    def apply(held: bytes) -> bytes:
        changed = bytearray(held if cut is None else held[: int(cut * len(held))])
        for share, near_start, value in flips:
            if changed:
                reach = min(len(changed), 100)
                at = int(share * (reach - 1))
                changed[at if near_start else int(share * (len(changed) - 1))] = value
        return bytes(changed)

    return apply


READERS: dict[str, list[Callable[[Path], Any]]] = {
    "tensors": [artifacts.load_tensors, artifacts.tensor_metadata],
    "table": [artifacts.load_table, artifacts.table_metadata],
    "json": [artifacts.load_json],
}


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(change=damage())
def test_a_damaged_artefact_is_read_or_named(kind, change, whole, tmp_path):
    path = tmp_path / "damaged-one"
    path.write_bytes(change(whole[kind]))
    for read in READERS[kind]:
        try:
            read(path)
        except UserError as error:
            assert "damaged-one" in str(error)


@FUZZ
@given(held=st.binary(max_size=200))
@example(held=b"[" * 100_000)
@example(held=struct.pack("<Q", 2**63) + b"{}")
@example(held=struct.pack("<Q", 2) + b"{}" + b"x")
def test_any_bytes_are_read_or_named(held, tmp_path):
    path = tmp_path / "damaged-one"
    path.write_bytes(held)
    for readers in READERS.values():
        for read in readers:
            try:
                read(path)
            except UserError as error:
                assert "damaged-one" in str(error)


def look(root: Path) -> None:
    source = ImageFolder(root)
    try:
        table = source.table()
        read_images(source, table["image"].tolist(), 16)
    except UserError as error:
        assert "one.png" in str(error)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm"])
@settings(FUZZ, max_examples=80)
@given(change=damage())
def test_a_damaged_picture_is_read_or_named(kind, change, whole, tmp_path):
    path = tmp_path / "train" / "a" / "one.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(change(whole[kind]))
    look(tmp_path)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1)])
def test_a_strip_is_no_picture_to_crop_a_square_of(size, tmp_path):
    path = tmp_path / "train" / "a" / "one.png"
    path.parent.mkdir(parents=True)
    held = io.BytesIO()
    Image.new("RGB", size).save(held, format="PNG")
    path.write_bytes(held.getvalue())
    look(tmp_path)
