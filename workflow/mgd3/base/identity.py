"""What an artefact is, as a digest: the one function that planner, writer and reader share.

Two artefacts that may differ never have one identity; two of equal identity always may stand for
each other. Nothing that changes no result enters: not the device, threads or memory, not how a
setting is spelt, not the names of functions and files.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

# Digits of a digest in paths: among a million artefacts two agree with a chance of 1 in 500.
SHORT = 12
# Bytes of a component of a path. File systems allow 255; names of temporary files, logs and records
# are longer than that of what they belong to.
LONGEST = 150
_MARK = re.compile(rf"~[0-9a-f]{{{SHORT}}}$")
# Enters every digest: another way to write the same description would have another one.
_FORMAT = "mgd3 identity 1"


@dataclass(frozen=True)
class Owner:
    """What a stage calls by name, with a version of its own.

    Attributes:
        kind: "method", "protocol", "discovery", "generator" or "teacher".
        distribution: the package that a plug-in comes from; None for one of this package.
    """

    kind: str
    name: str
    version: int
    distribution: str | None = None


Source: TypeAlias = "Identity | str"
Sources: TypeAlias = "Source | Sequence[Source] | Mapping[str, Source]"


@dataclass(frozen=True, eq=False)
class Identity:
    """An identity, equal to others of the same description. Made by `identity`.

    Attributes:
        description: what it is in words, as JSON; `digest` follows from it and nothing else.
        inputs: what the inputs' digests stand for, as far as it is known: not part of it.
    """

    description: Mapping[str, Any]
    inputs: Mapping[str, Sources] = field(default_factory=dict, repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256, 64 hexadecimal digits."""
        return _digest(self.description)

    @property
    def short(self) -> str:
        """The digits that stand in paths."""
        return self.digest[:SHORT]

    @property
    def text(self) -> str:
        """The description as JSON, which `Identity(json.loads(text))` reads back."""
        return _text(self.description)

    # Not of the descriptions: in Python 1, 1.0 and True are equal.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def identity(
    stage: str,
    version: int,
    *,
    owners: Iterable[Owner] = (),
    settings: Mapping[str, Any] | None = None,
    neutral: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Sources] | None = None,
) -> Identity:
    """The identity of what a job makes.

    Args:
        stage: its name.
        version: raised when its results change.
        owners: what it calls: each enters with its version.
        settings: those that the job reads, defaults filled in: plain JSON values. `True`, `1`,
            `1.0` and `"1"` are four values; `0.0` and `-0.0` are one, and so are lists and tuples.
        neutral: values under which the stage does what it did before the setting existed: a
            setting that has its own is left out.
        inputs: identities of artefacts and fingerprints of files, by name. A sequence or a mapping
            (by class, say) of them enters as one digest.

    Raises:
        TypeError: a value is no plain JSON: a path, for instance, which stands as the fingerprint
            of what it holds.
    """
    given, defaults = settings or {}, neutral or {}
    told = {name: plain(value, f"setting {name}") for name, value in given.items()}
    kept = {
        name: value
        for name, value in told.items()
        if name not in defaults or _text(value) != _text(plain(defaults[name], f"neutral {name}"))
    }
    description = {
        "stage": stage,
        "version": version,
        "owners": [
            {"kind": o.kind, "name": o.name, "version": o.version}
            | ({"distribution": o.distribution} if o.distribution else {})
            for o in sorted(owners, key=lambda o: (o.kind, o.name, o.distribution or ""))
        ],
        "settings": kept,
        "inputs": {name: _digest_of(of, name) for name, of in (inputs or {}).items()},
    }
    return Identity(plain(description, "identity"), dict(inputs or {}))


def plain(value: Any, where: str = "value") -> Any:
    """A JSON value in its one form: mappings sorted, tuples as lists, -0.0 as 0.0.

    Raises:
        TypeError: it, or what it holds, is of another type (also of a subclass) or not finite.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}, and JSON has only finite numbers")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if other := [key for key in value if type(key) is not str]:
            raise TypeError(f"{where} has the key {other[0]!r}, which is no text")
        return {key: plain(value[key], f"{where}.{key}") for key in sorted(value)}
    raise TypeError(f"{where} is a {kind.__name__}, not plain JSON: {value!r}")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(f"{_FORMAT}\n{_text(value)}".encode()).hexdigest()


def _digest_of(of: Sources, name: str) -> str:
    if isinstance(of, Identity):
        return of.digest
    if isinstance(of, str):
        if len(of) != 64 or set(of) - set("0123456789abcdef"):
            raise TypeError(f"input {name} is {of!r}, not a digest: a path is no identity")
        return of
    if isinstance(of, Mapping):
        return bundle({key: _digest_of(one, f"{name} {key}") for key, one in of.items()})
    return bundle([_digest_of(one, name) for one in of])


def bundle(digests: Mapping[str, str] | Sequence[str]) -> str:
    """One digest for several, by name or in order."""
    return _digest(plain(digests, "bundle"))


Find: TypeAlias = Callable[[str], "Identity | None"]


def difference(old: Identity, new: Identity, find: Find = lambda digest: None) -> list[str]:
    """How one identity differs from another, a clause each: `lambda 0.1 -> 0.2`.

    Args:
        find: the identity of a digest, where it is known (from the header of an artefact, say), so
            that the inputs that differ can be explained, too.
    """
    if old.digest == new.digest:
        return []
    one, two = old.description, new.description
    if one["stage"] != two["stage"]:
        return [f"stage {one['stage']} -> {two['stage']}"]
    told = []
    if one["version"] != two["version"]:
        told.append(f"version of stage {two['stage']} {one['version']} -> {two['version']}")
    told += _owners(one["owners"], two["owners"])
    before, after = one["settings"], two["settings"]
    told += [
        f"{name} {_shown(before, name)} -> {_shown(after, name)}"
        for name in sorted({*before, *after})
        if name not in before or name not in after or _text(before[name]) != _text(after[name])
    ]
    return told + _inputs(old, new, find)


_ABSENT = "(left at its neutral value)"


def _shown(settings: Mapping[str, Any], name: str, most: int = 60) -> str:
    if name not in settings:
        return _ABSENT
    text = json.dumps(settings[name], ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _owners(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> list[str]:
    def by_kind(owners: list[dict[str, Any]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for owner in owners:
            of = f" of {owner['distribution']}" if "distribution" in owner else ""
            text = f"{owner['name']}{of} (version {owner['version']})"
            found.setdefault(owner["kind"], []).append(text)
        return found

    before, after = by_kind(one), by_kind(two)
    return [
        f"{kind} {', '.join(before.get(kind, ['none']))} -> {', '.join(after.get(kind, ['none']))}"
        for kind in sorted({*before, *after})
        if before.get(kind) != after.get(kind)
    ]


def _inputs(old: Identity, new: Identity, find: Find) -> list[str]:
    one, two = old.description["inputs"], new.description["inputs"]
    told = [f"reads {name} no more" for name in sorted(set(one) - set(two))]
    told += [f"reads {name}, too" for name in sorted(set(two) - set(one))]
    for name in sorted(set(one) & set(two)):
        if one[name] != two[name]:
            before = old.inputs.get(name, one[name])
            told += _input(name, before, new.inputs.get(name, two[name]), find)
    return told


def _input(name: str, old: Sources, new: Sources, find: Find) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _parts(name, old, new, find)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) != len(new):
            return [f"{name}: {len(old)} -> {len(new)} of them"]
        numbered = [{f"number {i}": one for i, one in enumerate(of)} for of in (old, new)]
        return _parts(name, *numbered, find)
    before, after = (find(of) or of if isinstance(of, str) else of for of in (old, new))
    if isinstance(before, Identity) and isinstance(after, Identity):
        return [f"{name}: {clause}" for clause in difference(before, after, find)]
    return [f"{name} holds something else"]


def _parts(
    name: str, old: Mapping[str, Source], new: Mapping[str, Source], find: Find
) -> list[str]:
    """Of many parts the first are named; those that differ alike are told once."""
    told: dict[str, list[str]] = {}
    for part in sorted({*old, *new}):
        if part not in old:
            told.setdefault("added", []).append(part)
        elif part not in new:
            told.setdefault("removed", []).append(part)
        elif _digest_of(old[part], part) != _digest_of(new[part], part):
            for clause in _input("", old[part], new[part], find):
                told.setdefault(clause.removeprefix(": ").strip(), []).append(part)
    return [f"{name}, {_listed(parts)}: {clause}" for clause, parts in told.items()]


def _listed(parts: Sequence[str], most: int = 3) -> str:
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more


def leaf(slug: str, of: Identity, suffix: str = "") -> str:
    """The last component of a path: a slug to read and the identity, `mgd3-cfg4~0123456789ab`."""
    end = f"~{of.short}{suffix}"
    return _cut(slug, LONGEST - len(end.encode())) + end


def slug_in(leaf: str) -> str:
    """What is to be read in the last component of a path, without a suffix: `leaf` undone."""
    return _MARK.sub("", leaf)


def component(slug: str) -> str:
    """A component of a path without identity: itself, or cut and told apart by a hash."""
    if len(slug.encode()) <= LONGEST:
        return slug
    end = "~" + hashlib.sha256(slug.encode()).hexdigest()[:SHORT]
    return _cut(slug, LONGEST - len(end)) + end


def _cut(text: str, most: int) -> str:
    """The beginning of a text that has at most `most` bytes in UTF-8, no character halved."""
    return text.encode()[:most].decode(errors="ignore")
