"""Configuration files are read strictly: what nobody means is one sentence that names the line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from mgd3.base.errors import UserError
from mgd3.planning.reading import read_configs, read_yaml, require_strict

ROOT = Path(__file__).parents[3]
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "workflow/presets").glob("*.yaml"))]
LISTS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)
MAPPINGS = "\n".join(
    ["a0: &a0 {x: 1, y: 2}"]
    + [f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}" for n in range(1, 10)]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", ["line 2", "'name'", "twice"]),
        ("runs:\n- {method: random, method: full}\n", ["line 2", "'method'", "twice"]),
        ("ipc: [010]\n", ["line 1", "YAML reads 010 as 8"]),
        ("ipc: [1:30]\n", ["YAML reads 1:30 as 90"]),
        ("ipc: [0x1F]\n", ["YAML reads 0x1F as 31"]),
        ("ipc: [1_000]\n", ["YAML reads 1_000 as 1000"]),
        ("runs: [{dsa: on}]\n", ["YAML reads on as a truth value"]),
        ("name: 2026-01-01\n", ["YAML reads 2026-01-01 as a timestamp", "quotes"]),
        ("name: !!python/object:os.system x\n", ["YAML reads x as a python/object:os.system"]),
        ("runs: &r\n- *r\n", ["holds itself"]),
        ("a: &a {b: 1}\nc: {<<: *a}\n", ["'<<'"]),
        (LISTS, ["aliases stand for more than"]),
        (MAPPINGS, ["aliases stand for more than"]),
        ("ipc: " + "[" * 5000, ["nested more than 50 deep"]),
        ("ipc: " + "[" * 200 + "]" * 200, ["nested more than 50 deep"]),
        ("- 1\n", ["holds no keys"]),
        ("", ["holds no keys"]),
        ("a: [\n", ["cannot read", "give a YAML file"]),
        ("a: \x00\n", ["cannot read"]),
        ("a: 1\n---\nb: 2\n", ["cannot read", "single document"]),
        ("[1, 2]: 3\n", ["a key is no text"]),
    ],
)  # fmt: skip
def test_what_nobody_means_is_one_sentence(text, words, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert time.monotonic() - began < 2
    assert str(path) in caught.value.what and len(str(caught.value)) < 700 + len(str(path))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_file_that_is_no_text_or_no_file_is_named(tmp_path):
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: caf\xe9\n".encode("latin-1"))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: 1\n" * 300_000)
    for path in (latin, large, tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match=path.name):
            read_yaml(path)


def test_an_alias_that_is_no_bomb_and_quotes_are_taken(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a [1, 2.5, 'on', \"010\", null, true, -3]\nb: *a\nc: ~\n")
    assert read_yaml(path) == {
        "a": [1, 2.5, "on", "010", None, True, -3],
        "b": [1, 2.5, "on", "010", None, True, -3],
        "c": None,
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_read_as_yaml_reads_them(path):
    require_strict([path])
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_files_are_merged_by_key(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("resources: {device: cpu, batch: 1}\nipc: [1, 2]\n")
    two.write_text("resources: {batch: 2}\nipc: [3]\n")
    assert read_configs([one, two]) == {"resources": {"device": "cpu", "batch": 2}, "ipc": [3]}
