"""Stage `tune-rung`: the settings of a rung, the best of the one before it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import artifacts
from ..base.errors import UserError
from ..base.shapes import misfit


def read_score(path: str | Path, points: int) -> dict[str, Any]:
    """A judged set: `trial`, and `score`, by which it is ranked, more is better: the proxy, or the
    validation accuracy.

    Args:
        points: the settings that are tried.

    Raises:
        UserError: it is no such file, or of a trial that is none of them.
    """
    record = artifacts.load_json(path, {"trial": int, "coverage?": float, "agreement?": float})
    if "score" not in record:
        shape = {"trial": int, "accuracy": {"last": float}}
        record = {**record, "score": artifacts.load_json(path, shape)["accuracy"]["last"]}
    if (clause := misfit(record["score"], float, "score")) or not 0 <= record["trial"] < points:
        raise UserError(
            f"{path} is no score of this tuning: {clause or 'its trial is none of the grid'}",
            "delete the folder and run again",
        )
    return record


def choose(
    points: Sequence[Mapping[str, Any]], keep: int, scores: Sequence[Path], output: Path
) -> None:
    """Write the settings of a rung, best first: JSON `settings`, each `trial`, `point`, `score`.

    Args:
        points: every setting of the tuning; its number is the `trial`.
        keep: how many the rung takes.
        scores: what was judged in the rung before, one file a setting and generation seed; none
            for the first rung, which takes all. A setting's score is the mean over its sets, and
            of equal ones the first of the grid wins.

    Raises:
        UserError: the files are not of as many settings and sets as they should be.
    """
    held: dict[int, list[float]] = {}
    for record in (read_score(path, len(points)) for path in scores):
        held.setdefault(record["trial"], []).append(record["score"])
    if len({len(values) for values in held.values()}) > 1 or 0 < len(held) < keep:
        raise UserError(
            f"the scores beside {scores[0]} are of unequal numbers of sets",
            "delete the folder and run again",
        )
    means = {trial: sum(values) / len(values) for trial, values in held.items()}
    order = sorted(means, key=lambda trial: (-means[trial], trial)) or range(len(points))
    kept = [
        {"trial": trial, "point": dict(points[trial]), "score": means.get(trial)}
        for trial in order[:keep]
    ]
    for setting in kept:
        print(setting["point"], setting["score"], file=sys.stderr)
    artifacts.save_json(output, {"settings": kept})


def setting_of(rung: Path, slot: int) -> dict[str, Any]:
    """The entry of a rung's file that a slot has."""
    settings = artifacts.load_json(rung, {"settings": [{"trial": int, "point": dict}]})["settings"]
    if slot >= len(settings):
        raise UserError(f"{rung} has {len(settings)} slots", f"give one below {len(settings)}")
    return settings[slot]
