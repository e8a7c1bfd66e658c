"""What lies in a folder of images and is not taken: nothing is left out without a word."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"),
    *(".avif", ".jp2"),
)
# What systems put beside images; nobody means it for one. So do names that begin with a dot.
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")


def is_hidden(name: str) -> bool:
    return name[0] == "." or name.lower() in _LITTER


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file is taken for an image, by its ending; its content is read later."""
    return not is_hidden(entry.name) and entry.name.lower().endswith(SUFFIXES) and _is_file(entry)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one; of links in a circle the system raises an error."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """As `_is_file`."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Leftovers:
    """Counts what is not taken from the folders of a data set, by kind, with an example of each.

    Args:
        root: of the data set; examples are told relative to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._endings: Counter[str] = Counter()
        self._found: dict[str, list[str]] = {"ending": [], "folder": [], "link": [], "beside": []}

    def look(self, folder: str) -> None:
        """At a class's folder, by its path relative to the root."""
        with os.scandir(self.root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if is_hidden(entry.name) or is_image(entry):
                    continue
                if _is_dir(entry):
                    self._found["folder"].append(f"{folder}/{entry.name}")
                elif not _is_file(entry):
                    self._found["link"].append(f"{folder}/{entry.name}")
                else:
                    self._endings[Path(entry.name).suffix.lower() or "none"] += 1
                    self._found["ending"].append(f"{folder}/{entry.name}")

    def look_beside(self, folder: str) -> None:
        """At the files that lie beside the class folders of a split."""
        with os.scandir(self.root / folder) as entries:
            names = sorted(e.name for e in entries if not is_hidden(e.name) and not _is_dir(e))
        self._found["beside"] += [f"{folder}/{name}" for name in names]

    def notes(self) -> list[str]:
        """A sentence a kind."""
        endings = ", ".join(f"{ending}: {n}" for ending, n in self._endings.most_common(5))
        words = {
            "ending": ("file", f"not known as images by their endings ({endings})"),
            "folder": ("sub-folder", "inside class folders, with all they hold"),
            "link": ("link", "leading nowhere"),
            "beside": ("file", "beside the class folders"),
        }
        return [
            f"left out: {plural(len(found), words[kind][0])} {words[kind][1]}: {example(found)}"
            for kind, found in self._found.items()
            if found
        ]


def example(names: Sequence[str]) -> str:
    """One of several names as it can be printed: a name in the file system may be no text."""
    first = os.fsencode(names[0]).decode(errors="replace")
    return first if len(names) == 1 else f"for example {first}"


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, but the hidden ones; none where it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not is_hidden(e.name) and _is_dir(e))
    except (FileNotFoundError, NotADirectoryError):
        return []


def holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_image(entry) for entry in entries)


def shown(names: Iterable[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
