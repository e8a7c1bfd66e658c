"""Registries that other packages add to: names and what they stand for, loaded when asked for.

A package installed beside this one adds an entry by an entry point of the registry's group. Its
entries are looked for only where no entry of our own has the name, or all names are wanted.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

from .errors import UserError, did_you_mean
from .settings import short

T = TypeVar("T")


@functools.cache
def _entry_points() -> EntryPoints:
    """Of all packages: each one's file is read."""
    return entry_points()


class Registry(MutableMapping[str, T], Generic[T]):
    """Entries by name.

    Args:
        group: of the entry points that add to it.
        what: an entry, for messages: "method".
        own: our names, each with what loads its entry.
        check: raises UserError, TypeError or ValueError for what an entry point must not give.
    """

    def __init__(
        self,
        group: str,
        what: str,
        own: Callable[[], dict[str, Callable[[], T]]],
        check: Callable[[str, Any], T],
    ) -> None:
        self.group, self.what = group, what
        self._find_own, self._check = own, check
        self._loaded: dict[str, T] = {}

    @functools.cached_property
    def _own(self) -> dict[str, Callable[[], T]]:
        return self._find_own()

    @functools.cached_property
    def _added(self) -> dict[str, EntryPoint]:
        """The entry points of other packages, by name.

        Raises:
            UserError: two have one name, or one has a name of ours.
        """
        found: dict[str, EntryPoint] = {}
        for point in _entry_points().select(group=self.group):
            other = "mgd3" if point.name in self._own else None
            if point.name in found and found[point.name] != point:
                other = distribution_of(found[point.name])
            if other is not None:
                raise UserError(
                    f"the {self.what} {point.name!r} of the package {distribution_of(point)} is "
                    f"one of {other}, too",
                    f"rename the entry point in {self.group}, or uninstall the package",
                )
            found[point.name] = point
        return found

    def require_no_clash(self) -> None:
        """Raise UserError for two entries of one name."""
        _ = self._added

    def distribution(self, name: str) -> str:
        """The package that an entry comes from."""
        return distribution_of(self._added[name]) if name not in self._own else "mgd3"

    def get_or_raise(self, name: str) -> T:
        """Raises UserError for a name that is not in the registry."""
        if name not in self:
            raise UserError(f"unknown {self.what} {short(name)}", did_you_mean(name, self))
        return self[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            if name in self._own:
                self._loaded[name] = self._own[name]()
            elif isinstance(name, str) and name in self._added:
                self._loaded[name] = self._load(self._added[name])
            else:
                raise KeyError(name)
        return self._loaded[name]

    def _load(self, point: EntryPoint) -> T:
        try:
            return self._check(point.name, point.load())
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else ""
            raise UserError(
                f"the {self.what} {point.name!r} of the package {distribution_of(point)} cannot be "
                f"loaded: {type(error).__name__}: {reason}",
                f"mend its entry point {point.value!r}, or uninstall the package",
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._loaded or name in self._own or name in self._added

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._added, *self._loaded]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __setitem__(self, name: str, entry: T) -> None:
        self._loaded[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]


def distribution_of(point: EntryPoint) -> str:
    """The name of the package that an entry point stands in."""
    return point.dist.name if point.dist is not None else "of an unknown name"


def modules_of(package: str, folder: str, besides: tuple[str, ...] = ()) -> dict[str, str]:
    """name -> module, of the modules of a package that are entries: all but its packages and those
    named. A `_` in a module's name is a `-` in the entry's."""
    import pkgutil

    return {
        found.name.replace("_", "-"): f"{package}.{found.name}"
        for found in pkgutil.iter_modules([folder])
        if not found.ispkg and found.name not in besides
    }


def settings_in(module: str) -> Callable[[], Any]:
    """What loads the class `Settings` of a module."""
    return lambda: importlib.import_module(module).Settings


def own_entries(entries: Mapping[str, T]) -> dict[str, Callable[[], T]]:
    """Entries that are there already, as a registry takes its own."""
    return {name: functools.partial(entries.__getitem__, name) for name in entries}
