"""The fingerprints of what a configuration's users own: images, generators, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..base.identity import bundle
from ..data.fingerprint import KEPT, of_classes, of_file
from ..data.registry import Dataset


class UserFiles:
    """Reads what is asked for once; see `mgd3.data.fingerprint`.

    Args:
        kept: the folder of lists.
    """

    def __init__(self, kept: Path = KEPT) -> None:
        self._kept = kept
        self._classes: dict[str, dict[str, str]] = {}
        self._files: dict[Path, str] = {}

    def classes(self, dataset: Dataset, names: Sequence[str]) -> Mapping[str, str]:
        """Of the images of some classes, by class.

        Raises:
            UserError: a file cannot be read.
        """
        known = self._classes.setdefault(dataset.origin, {})
        if not known.keys() >= {*dataset.source.classes()}:
            known |= of_classes(dataset.source, self._kept)
        return {name: known[name] for name in names}

    def files(self, files: Mapping[str, Path]) -> str:
        """Of files by the names that they are read under.

        Raises:
            UserError: one cannot be read.
        """
        for path in files.values():
            if path not in self._files:
                self._files[path] = of_file(path, self._kept)
        return bundle({name: self._files[path] for name, path in files.items()})
