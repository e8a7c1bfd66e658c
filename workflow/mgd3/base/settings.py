"""Settings as typed classes: each owner (a method, the configuration, ...) declares its own.

A class derives from `Settings`; a field is a type with its bounds and one `Setting` that says what
it is. From these come checks with one sentence for a mistake (`read`), the schema of the
configuration (`schema_of`), slugs and labels of runs, the table in the docs (`wanted`), and the
form that enters identities (`Settings.canonical`). Typing is strict: text is no number, a bool no
integer, and NaN, infinities and -0.0 are no values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from .errors import UserError, did_you_mean, is_text

T = TypeVar("T")
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_UNSET: Any = object()
# The default of a setting that need not be given and has none of its own.
ABSENT: Any = object()


class _Swept:
    """Marks a setting of which a list makes one run for each value."""


class _Unique:
    """Marks a list that holds no value twice."""


Sweep = Annotated[T, _Swept()]
# Of any number without a bound of its own; said only where it is passed.
LARGEST = 10**9
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
ListOf = Annotated[list[T], Field(min_length=1)]
UniqueListOf = Annotated[list[T], Field(min_length=1), _Unique()]


@dataclass(frozen=True)
class Setting:
    """What a field is, beside its type.

    Attributes:
        doc: one sentence.
        place: among the settings of its owner, where it stands in slugs and labels, rising.
        slug: what is written before a swept value in the slug; None: the setting's name.
        label: how a label says it: a format of the value, or a function; None: not at all.
        always: its label is also said at its default.
        neutral: the value under which its owner does what it did before there was this setting.
            It is then left out of `canonical`, so that adding a setting changes no identity.
    """

    doc: str
    place: int = 1000
    slug: str | None = None
    label: str | Callable[[Any], str] | None = None
    always: bool = False
    neutral: Any = _UNSET


@dataclass(frozen=True)
class OneOf:
    """Text that is one of some names, which are looked up when they are needed.

    Attributes:
        mends: what to do about other text, where more can be told than which name is near.
    """

    names: Callable[[], Iterable[str]]
    mends: Callable[[], Mapping[str, str]] = dict

    def _check(self, value: str) -> str:
        if value not in self.names():
            if (mend := self.mends().get(value)) is not None:
                raise PydanticCustomError("form", "{mend}", {"mend": mend})
            raise PydanticCustomError("name", "unknown name")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        return {"enum": list(self.names())}


@dataclass(frozen=True, eq=False)
class Matches:
    """Text of a form that a function knows.

    Attributes:
        check: None for text that is right, else what to do about it.
        schema: the same for editors, as JSON schema.
        words: for people.
    """

    check: Callable[[str], str | None]
    schema: Mapping[str, Any]
    words: str

    def _check(self, value: str) -> str:
        if (mend := self.check(value)) is not None:
            raise PydanticCustomError("form", "{mend}", {"mend": mend})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)


class Settings(BaseModel):
    """Base class of typed settings. A name that is a word of Python ends in `_`: `lambda_`.

    Attributes:
        version: to be raised when the owner's results change.
    """

    model_config = ConfigDict(
        _STRICT,
        extra="forbid",
        frozen=True,
        defer_build=True,
        alias_generator=lambda name: name.rstrip("_"),
    )
    version: ClassVar[int] = 1

    @classmethod
    def fields(cls) -> dict[str, SettingField]:
        """By name as users write it, in the order of the class."""
        return _fields(cls)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Of the settings that have one."""
        return {
            key: field.default
            for key, field in cls.fields().items()
            if not field.required and field.default is not ABSENT
        }

    @classmethod
    def read(
        cls,
        values: Any,
        where: str = "",
        *,
        sweeps: bool = False,
        beside: Mapping[str, SettingField] = types.MappingProxyType({}),
    ) -> dict[str, Any]:
        """Check settings as they are written.

        Args:
            where: what holds them, for the message.
            beside: what may stand among them, and is none of them.
            sweeps: whether a list may stand for the values of a setting that sweeps.

        Returns:
            What is given, typed, nested ones with their defaults.

        Raises:
            UserError: one sentence that names the key, its value, and what is allowed.
        """
        place = where or "the config"
        if not isinstance(values, Mapping):
            raise UserError(f"{place} is {short(values)}", "write keys and values")
        known = {**beside, **cls.fields()}
        for key in sorted(map(str, values)):
            if key not in known:
                raise UserError(*cls.unknown(key, where, known))
        for key, field in known.items():
            if field.required and key not in values:
                raise UserError(f"{place} lacks the key {key!r}", "add it; see config.yaml")
        found = {}
        for key, value in values.items():
            field, at = known[key], f"{where}.{key}" if where else key
            if sweeps and field.sweeps and isinstance(value, list):
                found[key] = read(ListOf[field.kind], value, at)
            else:
                found[key] = read(field.kind, value, at)
        return found

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """The JSON schema, for editors and other readers of a configuration."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [key for key, field in cls.fields().items() if field.required],
            "properties": {key: schema_of_field(field) for key, field in cls.fields().items()},
        }

    @classmethod
    def unknown(cls, key: str, where: str, known: Iterable[str]) -> tuple[str, str]:
        """The error and the mend of a key that the class does not have."""
        return f"unknown key {short(key)} in {where or 'the config'}", did_you_mean(key, known)

    @classmethod
    def canonical(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """One form for all spellings of the same settings, as JSON values, for identities.

        Typed, defaults filled in, sorted; settings at their neutral value are left out.

        Raises:
            UserError: a value that is not allowed.
        """
        whole = cls.read({**cls.defaults(), **values})
        return {
            key: whole[key]
            for key in sorted(whole)
            if cls.fields()[key].setting.neutral != whole[key]
        }


class SettingField(NamedTuple):
    """A field of a class of settings.

    Attributes:
        key: its name as users write it.
        kind: its type with its bounds.
        setting: what it is.
    """

    key: str
    kind: Any
    setting: Setting
    sweeps: bool
    required: bool
    default: Any


@functools.cache
def _fields(owner: type[Settings]) -> dict[str, SettingField]:
    found = {}
    for attribute, info in owner.model_fields.items():
        key = info.alias or attribute
        found[key] = SettingField(
            key=key,
            kind=_kind(info),
            setting=next((m for m in info.metadata if isinstance(m, Setting)), Setting("")),
            sweeps=any(isinstance(m, _Swept) for m in info.metadata),
            required=info.is_required(),
            default=None if info.is_required() else info.default,
        )
    return found


def _kind(info: FieldInfo) -> Any:
    bounds = [m for m in info.metadata if not isinstance(m, Setting | _Swept)]
    return Annotated[info.annotation, *bounds] if bounds else info.annotation


def read(kind: Any, value: Any, where: str) -> Any:
    """A value as a type has it: see `Settings.read`."""
    plain, marks = _split(kind)
    if isinstance(plain, type) and issubclass(plain, Settings):
        found = plain.read(value, where)
        return {**plain.defaults(), **found}
    if _is_union(plain) and isinstance(value, Mapping) and (nested := _nested(plain)):
        return read(nested, value, where)
    if get_origin(plain) is list:
        if not isinstance(value, list):
            raise UserError(f"{where} is {short(value)}", f"give {wanted(kind)}")
        if not value and any(isinstance(m, MinLen) for m in marks):
            raise UserError(f"{where} is an empty list", f"give {wanted(kind)}")
        (item,) = get_args(plain)
        held = [read(item, one, f"{where}[{place}]") for place, one in enumerate(value)]
        if any(isinstance(m, _Unique) for m in marks):
            seen = set()
            for one in held:
                if one in seen:
                    raise UserError(
                        f"{where} has non-unique elements: {short(one)} is listed twice",
                        "remove one of them",
                    )
                seen.add(one)
        return held
    if isinstance(value, str):
        _require_text(value, where)
    if isinstance(value, float) and value == 0 and math.copysign(1, value) < 0:
        raise UserError(f"{where} is -0.0", "write 0")
    if _is_union(plain) and (nested := _nested(plain)):
        (kind,) = (member for member in get_args(plain) if member is not nested)
    try:
        return adapter(kind).validate_python(value)
    except ValidationError as error:
        # Of a union each member has its own complaint: one sentence says what all of them take.
        kinds = [one for one in error.errors(include_url=False) if one["type"] == "form"]
        mend = kinds[0]["ctx"]["mend"] if kinds and isinstance(value, str) else ""
        if not mend and isinstance(value, str) and (names := _names(kind)):
            mend = did_you_mean(value, names)
        if isinstance(value, int | float) and value > LARGEST:
            mend = f"give {wanted(kind)}, up to {LARGEST:,}"
        raise UserError(f"{where} is {short(value)}", mend or f"give {wanted(kind)}") from None


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Checks values of a type, strictly."""
    return TypeAdapter(kind, config=_STRICT)


def _split(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without what is annotated, and that, bounds one by one."""
    if get_origin(kind) is not Annotated:
        return kind, ()
    plain, *marks = get_args(kind)
    if get_origin(plain) is Annotated:
        inner, more = _split(plain)
        return inner, (*more, *marks)
    flat: list[Any] = []
    for mark in marks:
        flat += mark.metadata if isinstance(mark, FieldInfo) else [mark]
    return plain, tuple(flat)


def _is_union(plain: Any) -> bool:
    return get_origin(plain) in (Union, types.UnionType)


def _nested(plain: Any) -> type[Settings] | None:
    """The class of settings that is a member of a union, the other one of which is text."""
    members = [m for m in get_args(plain) if isinstance(m, type) and issubclass(m, Settings)]
    return members[0] if members else None


def _names(kind: Any) -> list[str]:
    """The names that text of a type may be, if there are any."""
    plain, marks = _split(kind)
    found = [name for mark in marks if isinstance(mark, OneOf) for name in mark.names()]
    if get_origin(plain) is Literal:
        found += [name for name in get_args(plain) if isinstance(name, str)]
    if _is_union(plain):
        found += [name for member in get_args(plain) for name in _names(member)]
    return found


def wanted(kind: Any) -> str:
    """What a type takes, in words."""
    plain, marks = _split(kind)
    if _is_union(plain):
        *first, last = sorted(get_args(plain), key=lambda member: member is type(None))
        return f"{', '.join(map(wanted, first))} or {wanted(last)}"
    for mark in marks:
        if isinstance(mark, Matches):
            return mark.words
    if names := _names(kind):
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if plain is type(None):
        return "null"
    if get_origin(plain) is list:
        return f"a list of {wanted(get_args(plain)[0])}"
    if isinstance(plain, type) and issubclass(plain, Settings):
        return "keys and values"
    word = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[plain]
    bounds = [text for mark in marks if (text := _bound(mark))]
    return f"{word} {' and '.join(bounds)}" if bounds else word


def _bound(mark: Any) -> str:
    match mark:
        case Ge(ge=low):
            return f"of at least {low:,}"
        case Gt(gt=low):
            return f"above {low:,}"
        case Le(le=high) if high != LARGEST:
            return f"of at most {high:,}"
        case Lt(lt=high):
            return f"below {high:,}"
        case MultipleOf(multiple_of=factor):
            return f"divisible by {factor}"
        case MinLen():
            return "that is not empty"
    return ""


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type."""
    plain, marks = _split(kind)
    if isinstance(plain, type) and issubclass(plain, Settings):
        return plain.schema()
    if get_origin(plain) is list:
        unique = {"uniqueItems": True} if any(isinstance(m, _Unique) for m in marks) else {}
        least = {"minItems": 1} if any(isinstance(m, MinLen) for m in marks) else {}
        return {"type": "array", "items": schema_of(get_args(plain)[0]), **least, **unique}
    if _is_union(plain) and (nested := _nested(plain)):
        (rest,) = (member for member in get_args(plain) if member is not nested)
        return {"if": {"type": "string"}, "then": schema_of(rest), "else": nested.schema()}
    return _compact(adapter(kind).json_schema())


def schema_of_field(field: SettingField) -> dict[str, Any]:
    """Of a setting with its description and default, a list of its values if it sweeps."""
    held = schema_of(field.kind)
    if field.sweeps:
        array = {"type": "array", "items": held, "minItems": 1}
        held = {"if": {"type": "array"}, "then": array, "else": held}
    doc = {"description": field.setting.doc} if field.setting.doc else {}
    given = {} if field.required or field.default is ABSENT else {"default": field.default}
    return {**doc, **held, **given}


def _compact(held: dict[str, Any]) -> dict[str, Any]:
    """A type or null is one type of two."""
    options = held.get("anyOf", [])
    rest = [option for option in options if option != {"type": "null"}]
    if len(rest) != 1:
        return held
    (one,) = rest
    if "enum" in one:
        return {"enum": [None, *one["enum"]]}
    return {**one, "type": [one["type"], "null"]}


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 78
_SHORT.maxlevel = 3


def short(value: Any) -> str:
    """A value for a message, of at most 80 characters: of a large one only a part is looked at."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _require_text(value: str, where: str) -> None:
    """Raises UserError for text that cannot be part of a path, a command line and a log."""
    if not is_text(value) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise UserError(
            f"{where} is {short(value)}",
            "remove the line feeds, control characters and broken letters",
        )


def require_typed(entry: Any) -> None:
    """Raise ValueError for an entry of a registry, a dataclass, whose fields are not of their types
    (strictly: text is no number, a bool no integer)."""
    kinds = get_type_hints(type(entry), include_extras=True)
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        try:
            TypeAdapter(kinds[field.name]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise ValueError(f"its {field.name} is {short(value)}: {reason}") from None
