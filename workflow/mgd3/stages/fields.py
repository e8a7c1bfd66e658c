"""The kinds of fields that contracts are made of: numbers, names, JSON, files and folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError, did_you_mean, require_file
from ..base.shapes import misfit, shortened
from .contract import Contract, Kind, Wrong

# What a data set is: a registry name, or a name and settings (mgd3.data.registry.make_dataset).
_DATASET = {
    "name": str, "root?": str, "classes?": str, "size?": int, "flip?": bool,
    "validation_fraction?": float, "undecodable?": str, "incomplete?": str,
}  # fmt: skip
_LARGEST = 2**63 - 1
_MOST_THREADS = 1024
_MOST_PIXELS = 2048


class Number(Kind):
    """A whole number in decimal digits."""

    def __init__(self, least: int = 0, most: int = _LARGEST) -> None:
        self.least, self.most = least, most
        self.shows = "N"

    def read(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,25}", text):
            raise Wrong("is no whole number", f"give one of {self.least} or more, in digits")
        value = int(text)
        if value < self.least:
            raise Wrong(f"is below {self.least}", f"give {self.least} or more")
        if value > self.most:
            raise Wrong(f"is above {self.most:,}", f"give at most {self.most:,}")
        return value


class NoSetting(Number):
    """A number that changes how a job runs, not what it makes."""

    setting = False


class Text(Kind):
    """Any text."""


class Choice(Kind):
    """One of some names, which are looked up when they are needed."""

    def __init__(self, of: Callable[[], Iterable[str]], *, setting: bool = True) -> None:
        self.of, self.setting = of, setting
        self.shows = "NAME"

    def choices(self) -> Sequence[str]:
        return tuple(self.of())

    def read(self, text: str) -> str:
        if text not in (known := self.choices()):
            raise Wrong("is unknown", did_you_mean(text, known))
        return text


class Registered(Kind):
    """A name that a registry knows, or says what is wrong with it."""

    shows = "NAME"

    def __init__(self, look_up: Callable[[str], Any]) -> None:
        self.look_up = look_up

    def read(self, text: str) -> str:
        try:
            self.look_up(text)
        except UserError as error:
            raise Wrong(f"is refused: {error.what}", error.mend) from error
        return text


class Pixels(Kind):
    """A side in pixels, as text; or, where a crop may be asked for, as in `mgd3 pixels --help`."""

    def __init__(self, cropped: bool = False) -> None:
        self.cropped = cropped
        self.shows = "PIXELS"

    def read(self, text: str) -> str:
        forms = r"[0-9]+(-[0-9]+)?(-tensor(-aliased)?)?" if self.cropped else r"[0-9]+"
        more = ", or as 256-224 or 224-tensor" if self.cropped else ""
        if not re.fullmatch(forms, text):
            raise Wrong("is no size", f"give a side in pixels, as 224{more}")
        sides = [int(side) for side in re.findall(r"[0-9]+", text[:40])]
        if not all(1 <= side <= _MOST_PIXELS for side in sides):
            raise Wrong("is no size", f"give 1 to {_MOST_PIXELS} pixels")
        if sides[-1] > sides[0]:
            raise Wrong("is no size", "the part that is cut out comes second and is smaller")
        return text


class OnDevice(Kind):
    """Where the work is done."""

    setting, shows = False, "DEVICE"

    def read(self, text: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
            raise Wrong("is no device", "use auto, cpu, cuda or cuda:N")
        return text


class Inference(Kind):
    """Images computed at a time; `auto` tries."""

    setting, shows = False, "N"

    def read(self, text: str) -> str | int:
        if text == "auto":
            return text
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
            raise Wrong("is no batch", "give auto, or a whole number of 1 or more")
        return int(text)


class Present(Kind):
    """There or not."""

    flag = True


class Json(Kind):
    """JSON of a shape (see `mgd3.base.shapes`).

    Args:
        says: the shape in words.
        more: what else must hold: of a value, a clause that says what is wrong, or None.
    """

    long, shows = True, "JSON"

    def __init__(
        self, shape: Any, says: str, more: Callable[[Any], str | None] | None = None
    ) -> None:
        self.shape, self.says, self.more = shape, says, more

    def read(self, text: str) -> Any:
        try:
            value = json.loads(text, parse_constant=_refused)
            text.encode()
        except (ValueError, RecursionError) as error:
            raise Wrong(f"is not JSON ({error})", f"give {self.says}") from error
        clause = misfit(value, self.shape) or (self.more(value) if self.more else None)
        if clause:
            raise Wrong(f"is other JSON than is meant here: it {clause}", f"give {self.says}")
        return value


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number")


class Path_(Kind):
    """A path."""

    setting, shows = False, "PATH"

    def read(self, text: str) -> Any:
        if not text:
            raise Wrong("is empty", "name a file")
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
            raise Wrong("holds control characters", "choose a name without them")
        if len(text.encode()) > 4000 or any(len(p.encode()) > 255 for p in text.split("/")):
            raise Wrong("is too long for a path", "choose a shorter one")
        return Path(text)


class InFile(Path_):
    """A file that the job reads.

    Args:
        format: looks at it before the work: raises UserError where it is another.
        setting: whether the record tells the path among the settings.
    """

    shows = "FILE"

    def __init__(
        self,
        format: Callable[[Path], None] | None = None,
        *,
        many: bool = False,
        setting: bool = False,
        beside: Sequence[str] = (),
        tracked: bool = True,
    ) -> None:
        self.format, self.many, self.setting, self.beside = format, many, setting, beside
        self.tracked = tracked

    def check(self, value: Path) -> None:
        require_file(value)
        if self.format is not None:
            self.format(value)

    def inputs(self, value: Path, job: Contract) -> Iterator[Path]:
        if self.tracked:
            yield value


class InFolder(Path_):
    """A folder that the job reads.

    Args:
        files: those that it reads of the folder, relative to it.
        check: looks at the folder before the work.
    """

    shows = "FOLDER"

    def __init__(
        self,
        files: Callable[[Path, Any], Iterable[str]],
        *,
        setting: bool = True,
        required: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.files, self.setting, self.required = files, setting, required

    def check(self, value: Path) -> None:
        require_folder(value)
        for file in self.required():
            require_file(value / file, "file", "name the whole folder, or fetch it again")

    def inputs(self, value: Path, job: Contract) -> Iterator[Path]:
        for file in self.files(value, job):
            yield value / file


def require_folder(path: Path) -> None:
    """Raise UserError unless a path is a folder's."""
    try:
        if not path.is_dir():
            kind = "is no folder" if path.exists() else "is not there"
            raise UserError(f"{path} {kind}", "name a folder, or run the stage that makes it")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "mend the path") from error


class OutFile(Path_):
    """A file that the job writes.

    Args:
        suffixes: one of which its name must have.
        also: files that are written beside it: its stem and each of these.
    """

    shows = "FILE"

    def __init__(self, *suffixes: str, also: Sequence[str] = (), first: bool = True) -> None:
        self.suffixes, self.also, self.first = suffixes, also, first

    def read(self, text: str) -> Path:
        path: Path = super().read(text)
        if self.suffixes and path.suffix not in self.suffixes:
            wanted = " or ".join(self.suffixes)
            raise Wrong(f"does not end in {wanted}", f"name a file that ends in {wanted}")
        if text.endswith("/"):
            raise Wrong("is a folder", "name the file in it")
        return path

    def check(self, value: Path) -> None:
        from ..base import artifacts, records

        for path in (*self.outputs(value), records.record_of(value)):
            artifacts.require_replaceable(path)
        require_parents(value)

    def outputs(self, value: Path) -> Iterator[Path]:
        yield value
        for suffix in self.also:
            yield value.with_name(value.stem + suffix)

    def record(self, value: Path) -> Path | None:
        from ..base import records

        return records.record_of(value) if self.first else None


class OutFolder(Path_):
    """A folder that the job writes.

    Args:
        files: those that it writes, relative to the folder; none for all that it holds then.
        part: the folder inside, beside which the record lies; "" for the first file's own record,
            "." for beside the whole folder.
        reads: files of the folder that other jobs have written, and this one reads.
        headed: it gets one header for all its files.
    """

    shows = "FOLDER"

    def __init__(
        self,
        files: Callable[[], Iterable[str]] = tuple,
        *,
        part: str = "",
        reads: Callable[[], Iterable[str]] = tuple,
        recorded: bool = True,
        headed: bool = False,
    ) -> None:
        self.files, self.part, self.reads, self.recorded = files, part, reads, recorded
        self.headed = headed

    def check(self, value: Path) -> None:
        from ..base import artifacts

        require_parents(value / "file")
        for path in self.outputs(value):
            if path != value:
                artifacts.require_replaceable(path)

    def inputs(self, value: Path, job: Contract) -> Iterator[Path]:
        for file in self.reads():
            yield value / file

    def outputs(self, value: Path) -> Iterator[Path]:
        files = [value / file for file in self.files()]
        yield from files or [value]

    def record(self, value: Path) -> Path | None:
        from ..base import records

        if not self.recorded:
            return None
        if self.part:
            return records.part_record(value if self.part == "." else value / self.part)
        return records.record_of(next(self.outputs(value)))


def require_parents(path: Path) -> None:
    """Raise UserError unless the folders above a path are there, or can be made."""
    from ..base.device import require_writable

    try:
        require_writable(path.absolute().parent)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "name another folder") from error


Flag = Annotated[bool, Present()]
Count = Annotated[int, Number()]
Positive = Annotated[int, Number(1)]
Title = Annotated[str, Text()]


def _twice(names: list[str]) -> str | None:
    twice = (
        [name for name in names if names.count(name) > 1][:1] if len({*names}) < len(names) else []
    )
    return f"has {shortened(twice[0])} twice" if twice else None


Names = Annotated[list[str], Json([str], "a JSON list of names, each once", _twice)]
Classes = Annotated[
    list[str],
    Json([str], "a JSON list of one name or more, each once",
         lambda names: _twice(names) if names else "has none"),
]  # fmt: skip
Of = Annotated[
    dict[str, Any],
    Json({"dataset": str, "ipc": int, "generation_seed": int},
         'JSON: {"dataset": NAME, "ipc": N, "generation_seed": N}'),
]  # fmt: skip


def rows(**more: Any) -> Json:
    """Rows of a configuration: `run` (slug) and `label`, and what else is read of them."""
    shape = {"run": str, "label": str, **more}
    keys = ", ".join(key.removesuffix("?") for key in shape)
    return Json([shape], f"a JSON list of objects with {keys}")


def _dataset_choice(value: Any) -> str | None:
    known = {key.removesuffix("?") for key in _DATASET}
    if isinstance(value, dict):
        if unknown := [key for key in value if key not in known]:
            return f"has an unknown key {unknown[0]!r}"
        if not 16 <= value.get("size", 16) <= _MOST_PIXELS or value.get("size", 16) % 8:
            return f"has size {value['size']}, and not 16 to {_MOST_PIXELS} in steps of 8"
        if not 0 <= value.get("validation_fraction", 0) < 1:
            return "has a validation_fraction outside 0 to 1"
        for key, allowed in (("undecodable", ("fail", "skip")), ("incomplete", ("fail", "warn"))):
            if value.get(key, "fail") not in allowed:
                return f"has {key} {value[key]!r}, and not {' or '.join(allowed)}"
        for key in ("root", "classes"):
            if key in value and (not value[key] or "\0" in value[key]):
                return f"has no path in {key!r}"
    return None


Dataset = Annotated[
    Any,
    Json((str, _DATASET), "a registry name in quotes, or an object with a name", _dataset_choice),
    "JSON: a registry name in quotes, or an object with a name",
]
Device = Annotated[str, OnDevice(), "auto, cpu, cuda or cuda:N"]
Threads = Annotated[int, NoSetting(1, _MOST_THREADS), "CPU threads"]
Batch = Annotated[Any, Inference(), "images at a time, or auto"]
Side = Annotated[str, Pixels(), "side in pixels"]
