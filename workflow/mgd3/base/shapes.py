"""The shape that JSON must have, and what of a value departs from it. Strict: text is no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false",
          dict: "an object", list: "a list", None: "null"}  # fmt: skip


def misfit(value: Any, shape: Any, place: str = "") -> str | None:
    """A clause that says where a value departs from a shape, or None where it has it.

    Args:
        value: what was read from JSON.
        shape: a type (`str`, `int`, `float`, which takes whole numbers, too, `bool`, `dict`,
            `list`, `object` for anything); None for null; a tuple for one of several; `[shape]` for
            a list of it; a dict for an object with these keys, of which one that ends in `?` may
            be left out, and with any others.
        place: of the value, for the clause.
    """
    if isinstance(shape, tuple):
        found = [misfit(value, one, place) for one in shape]
        return None if None in found else _says(place, value, " or ".join(map(_name, shape)))
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _says(place, value, "a list")
        found = (misfit(v, shape[0], f"{place}[{k}]") for k, v in enumerate(value))
        return next(filter(None, found), None)
    if isinstance(shape, Mapping):
        return _misfit_object(value, shape, place)
    if shape is object or (shape is None and value is None):
        return None
    kinds = (int, float) if shape is float else shape
    fits = shape is not None and isinstance(value, kinds)
    if fits and isinstance(value, bool) and shape is not bool:
        fits = False
    # NaN and infinities are Python's own addition to JSON.
    if fits and shape is float and not -1e308 < value < 1e308:
        fits = False
    return None if fits else _says(place, value, _name(shape))


def _misfit_object(value: Any, shape: Mapping[str, Any], place: str) -> str | None:
    if not isinstance(value, dict):
        return _says(place, value, "an object")
    for key, of in shape.items():
        name = key.removesuffix("?")
        inner = f"{place}.{name}" if place else name
        if name not in value:
            if name == key:
                return f"{place + ' ' if place else ''}has no {name!r}"
        elif clause := misfit(value[name], of, inner):
            return clause
    return None


def _name(shape: Any) -> str:
    if isinstance(shape, Mapping):
        return "an object"
    return "a list" if isinstance(shape, list) else _NAMES.get(shape, "any value")


def _says(place: str, value: Any, wanted: str) -> str:
    return f"{place + ' ' if place else ''}is {shortened(value)}, not {wanted}"


def shortened(value: Any) -> str:
    """A value for a message: at most 60 signs."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
