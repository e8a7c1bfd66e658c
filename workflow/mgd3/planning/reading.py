"""Configuration files, read strictly: what PyYAML takes and nobody means is one sentence.

YAML 1.1 has `010` for 8, `1:30` for 90 and `on` for true, keeps the last of two equal keys, and
unfolds a kilobyte of aliases to more than a memory holds. Snakemake parses files before our code
sees them, so the rules hand their names over, and they are read once more (`require_strict`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..base.errors import UserError

# A file of a megabyte, or one whose aliases stand for so many values, is no configuration.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 200_000
_DEEPEST = 50
# Of YAML 1.1, numbers of other bases, of base 60 and with underscores: what is meant is unclear.
_ODD_NUMBER = re.compile(
    r"""[-+]?(
        0[0-9_]+ | 0[bx][0-9a-fA-F_]+ | [0-9_]*_[0-9_.]*
        | [0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?
    )""",
    re.VERBOSE,
)
_ODD_TRUTH = re.compile(r"yes|no|on|off|y|n", re.IGNORECASE)


class _Loader(yaml.SafeLoader):
    """Stops at what is nested too deeply, on which the parser would spend seconds."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth == _DEEPEST:
            raise ValueError(f"values are nested more than {_DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_configs(paths: Sequence[Path]) -> dict[str, Any]:
    """YAML files merged as Snakemake merges them: mappings by key, of all else the last wins.

    Raises:
        UserError: a file is missing, or is not YAML with keys and values; see `read_yaml`.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merged(merged, read_yaml(path))
    return merged


def require_strict(paths: Iterable[str | Path]) -> None:
    """Read files that Snakemake has parsed. Raises UserError as `read_yaml`."""
    for path in dict.fromkeys(map(str, paths)):
        read_yaml(path)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: it cannot be read; it holds no keys, a key twice, an alias of itself or more
            aliases than anyone writes, or a scalar that YAML 1.1 reads otherwise than people do.
    """
    try:
        data = Path(path).read_bytes()
        if len(data) > _MOST_BYTES:
            raise UserError(f"{path} has {len(data):,} bytes", "give a configuration")
        root = yaml.compose(data.decode("utf-8"), Loader=_Loader)
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{path} holds no keys", "write keys and values; see config.yaml")
        _require_plain(root, str(path))
        return yaml.SafeLoader("").construct_document(root)
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}", "give a YAML file") from error


def _require_plain(root: yaml.Node, path: str) -> None:
    """Raise UserError for what a configuration does not hold; see `read_yaml`."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def visit(node: yaml.Node) -> int:
        """How many values a node stands for, aliases unfolded."""
        at = f"{path}, line {node.start_mark.line + 1}"
        if id(node) in above:
            raise UserError(f"{at}: an alias holds itself", "write the values out")
        if id(node) in sizes:
            return sizes[id(node)]
        above.add(id(node))
        size = 1
        if isinstance(node, yaml.ScalarNode):
            _require_clear(node, at)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(visit(held) for held in node.value)
        else:
            _require_keys(node, path)
            size += sum(visit(held) for pair in node.value for held in pair)
        if size > _MOST_VALUES:
            raise UserError(
                f"{at}: aliases stand for more than {_MOST_VALUES:,} values", "write the values out"
            )
        above.discard(id(node))
        sizes[id(node)] = size
        return size

    visit(root)


def _require_keys(node: yaml.MappingNode, path: str) -> None:
    seen: set[Hashable] = set()
    for key, _ in node.value:
        at = f"{path}, line {key.start_mark.line + 1}"
        if key.tag == "tag:yaml.org,2002:merge":
            raise UserError(f"{at}: '<<' merges keys", "write the keys out")
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{at}: a key is no text", "write a name before the colon")
        if key.value in seen:
            raise UserError(f"{at}: the key {key.value[:60]!r} stands here twice", "remove one")
        seen.add(key.value)


def _require_clear(node: yaml.ScalarNode, at: str) -> None:
    if node.style is not None:  # in quotes
        return
    text = node.value[:60]
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind in ("int", "float") and _ODD_NUMBER.fullmatch(node.value):
        meant = yaml.SafeLoader("").construct_object(node)
        raise UserError(
            f"{at}: YAML reads {text} as {meant}", f"write {meant}, or {text!r} in quotes for text"
        )
    if kind == "bool" and _ODD_TRUTH.fullmatch(node.value):
        raise UserError(
            f"{at}: YAML reads {text} as a truth value",
            f"write true or false, or {text!r} in quotes for text",
        )
    if kind not in ("int", "float", "bool", "str", "null"):
        raise UserError(
            f"{at}: YAML reads {text} as a {kind}", f"write it in quotes for text: {text!r}"
        )


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **over, **both}
