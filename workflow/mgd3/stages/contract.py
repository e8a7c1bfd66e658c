"""A job is declared once: a class whose annotated fields are its arguments.

    class Modes(Job, version=3):
        \"\"\"Find k = IPC modes per class.\"\"\"

        latents: Reads
        ipc: Count
        pca: Count | None = None
        output: Tensors

        def run(self) -> None: ...

From the fields come the command line and its help, the checking of every value, the record beside
what the job writes, whether it claims a device. A field's kind (`mgd3.stages.fields`) is the
metadata of its `Annotated` type; a text beside the kind is its help.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from ..base.errors import UserError, is_text
from ..base.identity import Identity
from ..base.shapes import shortened

# Every contract by the name that the command line has for it, in the order of their files.
CONTRACTS: dict[str, type[Contract]] = {}


class Wrong(ValueError):
    """A value that a field does not take: what is wrong with it, and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what, self.mend = what, mend


class Kind:
    """What a field holds.

    Attributes:
        setting: whether the value is a setting of the job, which its record tells.
        many: whether it takes several texts.
        long: whether a text may be long.
        flag: whether it takes none: it is there or not.
        shows: what `--help` shows for the value.
    """

    setting = True
    many = False
    long = False
    flag = False
    shows = "TEXT"

    def read(self, text: str) -> Any:
        """The value of a text. Raises Wrong."""
        return text

    def choices(self) -> Sequence[str]:
        """The values there are, where they can be counted."""
        return ()

    def check(self, value: Any) -> None:
        """Look at what the value names, before the job begins. Raises UserError."""

    def inputs(self, value: Any, job: Contract) -> Iterator[Path]:
        """The files that the job reads because of this value."""
        return iter(())

    def outputs(self, value: Any) -> Iterator[Path]:
        """The files, or folders of them, that the job writes because of this value."""
        return iter(())

    def record(self, value: Any) -> Path | None:
        """Where the record of what is written lies."""
        return None


@dataclass(frozen=True)
class Positional:
    """Marks a field that the command line takes without its name."""


@dataclass(frozen=True)
class Field:
    """An argument of a contract."""

    name: str
    kind: Kind
    help: str
    required: bool
    default: Any
    positional: bool

    @property
    def flag(self) -> str:
        return self.name if self.positional else f"--{self.name.replace('_', '-')}"

    def read(self, given: str | Sequence[str] | bool) -> Any:
        """The value of what the command line gives. Raises UserError naming the argument."""
        if self.kind.flag:
            return given
        texts = [given] if isinstance(given, str) else list(given)  # type: ignore[arg-type]
        texts = [part for text in texts for part in self._written_out(text)]
        values = []
        for text in texts:
            try:
                if not is_text(text) or "\0" in text:
                    raise Wrong("is no UTF-8 text", "name it in UTF-8")
                values.append(self.kind.read(text))
            except Wrong as error:
                what = f"argument {self.flag}: {shortened(text)} {error.what}"
                raise UserError(what, error.mend) from error
        return values if self.kind.many else values[0]

    def _written_out(self, text: str) -> list[str]:
        """`@FILE` stands for what a file holds, as a command line ends at 2 MB: of a list its
        values, with a zero byte behind each."""
        if not text.startswith("@") or not (self.kind.many or self.kind.long):
            return [text]
        try:
            held = Path(text[1:]).read_bytes().decode()
        except (OSError, ValueError) as error:
            what = f"argument {self.flag}: cannot read {shortened(text[1:])}: {error}"
            raise UserError(what, "name a file, or write the value out") from error
        return [part for part in held.split("\0") if part] if self.kind.many else [held]

    def check(self, value: Any) -> None:
        for one in value if self.kind.many else [value]:
            try:
                self.kind.check(one)
            except UserError as error:
                raise UserError(f"argument {self.flag}: {error.what}", error.mend) from error


class Contract:
    """What `mgd3 NAME` takes and does: a job, or a command."""

    stage: ClassVar[str] = ""
    doc: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "run" not in vars(cls):
            return
        cls.stage = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()
        cls.doc = (cls.__doc__ or "").strip().splitlines()[0].removesuffix(".")
        if cls.stage in CONTRACTS:
            raise TypeError(f"two contracts are called {cls.stage}")
        CONTRACTS[cls.stage] = cls

    def __init__(self, **values: Any) -> None:
        for field in self.fields():
            if field.required and field.name not in values:
                raise UserError(
                    f"mgd3 {self.stage} needs {field.flag}", f"see `mgd3 {self.stage} --help`"
                )
            setattr(self, field.name, values.get(field.name, field.default))

    @classmethod
    def fields(cls) -> list[Field]:
        """The arguments, in the order of their declaration."""
        hints = get_type_hints(cls, include_extras=True)
        order: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            for name in inspect.get_annotations(base):
                order.pop(name, None)  # declared anew, it has its place anew
                order[name] = None
        found = ((name, _annotated(hints[name])) for name in order)
        return [_field(cls, name, known) for name, known in found if known is not None]

    def values(self) -> Iterator[tuple[Field, Any]]:
        """Of each field that has one."""
        for field in self.fields():
            if (value := getattr(self, field.name)) is not None:
                yield field, value

    def check(self) -> None:
        """Look at every file and folder that is named, before the work.

        Raises:
            UserError: one is missing, of another kind, or not ours to replace; or a file would be
                written over one that is read, or over another that is written.
        """
        for field, value in self.values():
            field.check(value)

    def run(self) -> int | None:
        """Do it. A number is the exit status."""
        raise NotImplementedError

    @classmethod
    def device_field(cls) -> str | None:
        """The field that says on which device the work is done."""
        return next((f.name for f in cls.fields() if f.kind.shows == "DEVICE"), None)


class Described(Kind):
    """An identity as its description, which `mgd3.base.identity` reads back."""

    setting, long, shows = False, True, "JSON"

    def read(self, text: str) -> Identity:
        try:
            return Identity(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise Wrong(f"is not JSON ({error})", "give the description of an identity") from error


class Command(Contract):
    """Shows or checks something: without record, version or rule."""


class Job(Contract):
    """Makes files, with a record beside them.

    Attributes:
        version: to raise when its results change: it is a parameter of rules, so that raising it
            reruns the stage and what lies below. Code itself is no input: a changed docstring must
            not encode ImageNet again.
        keeps_freed_memory: see `mgd3.base.device.keep_freed_memory`; for jobs that train or sample.
        online: it fetches.
        reads_images: it reads images of the data set, which must be those of its plan.
        identity: what it makes, as the planner says; it stands in the headers of what is written.
        made: while it runs, what is known beforehand of its record.
    """

    version: ClassVar[int] = 0
    keeps_freed_memory: ClassVar[bool] = False
    online: ClassVar[bool] = False
    reads_images: ClassVar[bool] = False
    identity: Annotated[Identity | None, Described()] = None
    made: Mapping[str, Any]

    def __init_subclass__(
        cls,
        version: int | None = None,
        keeps_freed_memory: bool = False,
        online: bool = False,
        reads_images: bool = False,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if version is None and "run" in vars(cls):
            raise TypeError(f"{cls.__name__} has no version")
        if version is not None:
            cls.version = version
        cls.keeps_freed_memory, cls.online = keeps_freed_memory, online
        cls.reads_images = reads_images

    def files_read(self) -> list[Path]:
        """The files it reads."""
        return [path for f, v in self.values() for path in _all(f, f.kind.inputs, v, self)]

    def files_written(self) -> list[Path]:
        """The files, or folders of them, that it writes."""
        return [path for f, v in self.values() for path in _all(f, f.kind.outputs, v)]

    def record_path(self) -> Path | None:
        """Where its record lies, beside the first thing it writes; None of a job without one."""
        found = (f.kind.record(v) for f, v in self.values() if not f.kind.many)
        return next((path for path in found if path is not None), None)

    def recorded_settings(self) -> dict[str, Any]:
        """What it is asked to do, for the record: every field that names no file."""
        return {f.name: getattr(self, f.name) for f in self.fields() if f.kind.setting}

    def headed_folder(self) -> Path | None:
        """The folder it writes whose files only work together, under one header."""
        found = (v for f, v in self.values() if getattr(f.kind, "headed", False))
        return next(found, None)

    def more(self) -> Mapping[str, Any] | None:
        """Further entries of its record."""
        return None

    def check(self) -> None:
        super().check()
        read = {path.absolute() for path in self.files_read()}
        written: set[Path] = set()
        record = self.record_path()
        for path in (*self.files_written(), *([record] if record else [])):
            where = path.absolute()
            if where in read or where in written:
                says = "read, too" if where in read else "written twice"
                raise UserError(f"{path} would be {says}", "give each output a path of its own")
            written.add(where)


def _all(field: Field, of: Any, value: Any, *more: Any) -> Iterator[Path]:
    for one in value if field.kind.many else [value]:
        yield from of(one, *more)


def _annotated(hint: Any) -> Any:
    """The `Annotated` of a field's type, also where it may be None; None of no field."""
    if get_origin(hint) is Annotated:
        return hint if any(isinstance(m, Kind) for m in hint.__metadata__) else None
    return next(filter(None, map(_annotated, get_args(hint))), None)


def _field(cls: type[Contract], name: str, hint: Any) -> Field:
    about = hint.__metadata__
    texts = [m for m in about if isinstance(m, str)]
    return Field(
        name=name,
        kind=[m for m in about if isinstance(m, Kind)][-1],
        help=texts[-1] if texts else "",
        required=not hasattr(cls, name),
        default=getattr(cls, name, None),
        positional=any(isinstance(m, Positional) for m in about),
    )
