"""The fingerprints of what a configuration's users own: images, generators, tables."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.artifacts import load_json, save_json
from ..base.identity import bundle, identity
from ..data.fingerprint import KEPT, of_classes, of_file
from ..data.registry import Dataset

# The folder of the working folder in which plans keep what they found.
PLANS = Path(".mgd3", "plans")
_KEPT_DAYS = 30


class UserFiles:
    """Reads what is asked for once; see `mgd3.data.fingerprint`.

    Args:
        kept: the folder of lists.
        plan: what a plan found (`save`), for a job of it: none of that is looked at again. Where
            the file is not there, everything is.
    """

    def __init__(self, kept: Path = KEPT, plan: str | Path | None = None) -> None:
        self._kept = kept
        there = plan is not None and Path(plan).is_file()
        found = load_json(plan, {"classes": dict, "files": dict}) if plan and there else {}
        self._classes: dict[str, dict[str, str]] = dict(found.get("classes", {}))
        self._files: dict[str, str] = dict(found.get("files", {}))

    def classes(self, dataset: Dataset, names: Sequence[str]) -> Mapping[str, str]:
        """Of the images of some classes, by class.

        Raises:
            UserError: a file cannot be read.
        """
        known = self._classes.setdefault(_key(dataset), {})
        if not known.keys() >= {*names}:
            known |= of_classes(dataset.source, self._kept)
        return {name: known[name] for name in names}

    def files(self, files: Mapping[str, Path]) -> str:
        """Of files by the names that they are read under.

        Raises:
            UserError: one cannot be read.
        """
        for path in map(str, files.values()):
            if path not in self._files:
                self._files[path] = of_file(Path(path), self._kept)
        return bundle({name: self._files[str(path)] for name, path in files.items()})

    def save(self, folder: Path = PLANS) -> Path:
        """Keep what was found so far, for jobs elsewhere; the file."""
        found: dict[str, Any] = {"classes": self._classes, "files": self._files}
        digest = identity("plan", 1, settings={"found": json.dumps(found, sort_keys=True)}).short
        path = folder / f"{digest}.json"
        if path.is_file():
            path.touch()  # it is used again
        else:
            save_json(path, found)
        _discard_unused(folder)
        return path


def _discard_unused(folder: Path) -> None:
    """Plans that no plan had use of for long; a job that still waits reads the files itself."""
    oldest = time.time() - _KEPT_DAYS * 24 * 3600
    for path in folder.glob("*.json"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except OSError:  # another plan was faster, or the folder is another user's
            continue


def _key(dataset: Dataset) -> str:
    """Data sets that share images share what is known of them."""
    return dataset.origin or dataset.name
