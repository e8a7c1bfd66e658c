"""Reading what the evaluation wrote: one JSON per training, predictions beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ...base.artifacts import load_arrays, load_json
from ...base.errors import UserError
from ...base.shapes import misfit

FIGURES = ("best", "last", "selected")
KEY = ["dataset", "ipc", "run", "protocol", "network"]
PAIR = ["generation_seed", "training_seed"]
_REQUIRED = [*KEY, *PAIR, "method", "accuracy", "n_test"]
_FIGURES = dict.fromkeys((f"{figure}?" for figure in FIGURES), (float, None))
_SHAPE = {
    **dict.fromkeys(("dataset", "run", "protocol", "network", "method"), str),
    **dict.fromkeys(("ipc", *PAIR, "n_test"), int),
    "accuracy": _FIGURES, "validation_accuracy?": (_FIGURES, None), "run_settings?": (dict, None),
    "generator?": (str, None), "family?": (str, None), "deterministic?": bool,
    **dict.fromkeys(("num_classes?", "n_train?", "n_validation?", "peak_memory_bytes?",
                     "label_bytes?"), (int, None)),
    "seconds?": (float, None), "device?": (str, None),
}  # fmt: skip
_OPTIONAL = {
    "generator": None,
    "family": None,
    "deterministic": False,
    "num_classes": None,
    "n_train": None,
    "n_validation": None,
    "seconds": None,
    "peak_memory_bytes": None,
    "label_bytes": None,
    "device": "",
}


def load_scores(paths: Iterable[Path]) -> pd.DataFrame:
    """One row per score file.

    Columns: those of the file, with `accuracy` spread over `best`, `last`, `selected` and
    `validation_accuracy` over `validation_best`, ... (per cent, None where not measured),
    `run_settings` as a dict, and `path`.

    Raises:
        UserError: a file is missing, not a score, or two hold the same score.
    """
    table = pd.DataFrame([_load_score(Path(path)) for path in paths])
    if table.empty:
        raise UserError("no score files to tabulate", "run the evaluation first")
    twice = table[table.duplicated([*KEY, *PAIR], keep=False)]
    if not twice.empty:
        raise UserError(
            f"{twice.path.iloc[0]} and {twice.path.iloc[1]} hold the same score",
            "name each score file once, and delete files left over from a renamed run",
        )
    return table


def _load_score(path: Path) -> dict:
    score = load_json(path)
    if clause := misfit(score, _SHAPE):
        raise UserError(f"{path} is not a score: it {clause}", "delete it, run again")
    row = {k: score[k] for k in _REQUIRED if k != "accuracy"}
    row |= {k: score.get(k, default) for k, default in _OPTIONAL.items()}
    validation = score.get("validation_accuracy") or {}
    for figure in FIGURES:
        row[figure] = score["accuracy"].get(figure)
        row[f"validation_{figure}"] = validation.get(figure)
    return row | {"run_settings": score.get("run_settings") or {}, "path": path}


class Predictions:
    """Per-image correctness, read once per score file.

    Holds one bool per test image, figure and training: 50,000 images x 9 trainings are 0.5 MB.
    """

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, np.ndarray]] = {}

    def correct(self, scores: Iterable[Path], figure: str) -> tuple[np.ndarray, np.ndarray]:
        """Correctness, bool [n, n_test], of the trainings at `scores`, and the labels [n_test].

        Raises:
            UserError: a file is missing or damaged, or the test images differ between files.
        """
        paths = list(scores)
        held = [self._load(path) for path in paths]
        for path, tensors in zip(paths, held, strict=True):
            if not np.array_equal(tensors["labels"], held[0]["labels"]):
                raise UserError(
                    f"{path} and {paths[0]} were scored on different test images",
                    "the data set has changed: delete the older scores and run again",
                )
        labels = held[0]["labels"]
        return np.stack([tensors[figure] == labels for tensors in held]), labels

    def _load(self, path: Path) -> dict[str, np.ndarray]:
        if path not in self._read:
            names = ["best", "last", "labels"]
            self._read[path] = load_arrays(path.with_suffix(".safetensors"), names)
        return self._read[path]
