"""Stage `tune-rung`: the settings of a rung, the best of the one before it.

All files of a tuning have one identity, for which settings a rung holds is known only when its jobs
run. So what is made of a slot says which it is, and its readers compare that with the rung.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import artifacts
from ..base.errors import UserError
from ..base.shapes import misfit

SLOT = {"rung": int, "slot": int, "trial": int, "point": dict}
# What a score of the first rung has beside it.
_JUDGED = ("modes_hit?", "agreement?", "log_probability?")


def read_score(path: str | Path, points: int, rung: int | None = None) -> dict[str, Any]:
    """A judged set: the keys of `SLOT`, and `score`, by which it is ranked, more is better: the
    proxy, or the validation accuracy.

    Args:
        points: the settings that are tried.
        rung: the number of the one in which it was judged.

    Raises:
        UserError: it is no such file, or of a trial that is none of them, or of another rung.
    """
    record = artifacts.load_json(path, {**SLOT, **dict.fromkeys(_JUDGED, float)})
    if "score" not in record:
        shape = {"trial": int, "accuracy": {"last": float}}
        record = {**record, "score": artifacts.load_json(path, shape)["accuracy"]["last"]}
    clause = misfit(record["score"], float, "score")
    if not 0 <= record["trial"] < points:
        clause = "its trial is none of the grid"
    if rung not in (None, record["rung"]):
        clause = f"it is of rung {record['rung']}, not {rung}"
    if clause:
        raise UserError(
            f"{path} is no score of this tuning: {clause}", "delete the folder and run again"
        )
    return record


def choose(
    points: Sequence[Mapping[str, Any]],
    keep: int,
    scores: Sequence[Path],
    output: Path,
    before: Path | None = None,
) -> None:
    """Write a rung: JSON `rung`, its number, and `settings`, best first, each `trial`, `point`,
    `score`.

    Args:
        points: every setting of the tuning; its number is the `trial`.
        keep: how many the rung takes.
        scores: what was judged in the rung before, one file a setting and generation seed; none
            for the first rung, which takes all. A setting's score is the mean over its sets, and
            of equal ones the first of the grid wins.
        before: the rung that the scores are of; the first rung has none.

    Raises:
        UserError: the files are not of as many settings and sets as they should be, or not of
            `before`.
    """
    if bool(scores) != (before is not None):
        raise UserError("scores are of a rung, which is given beside them", "give both, or none")
    number = 0 if before is None else _read(before)["rung"] + 1
    held: dict[int, list[float]] = {}
    for path in scores:
        record = read_score(path, len(points))
        if not 0 <= record["slot"] < len(_read(before)["settings"]):
            raise UserError(
                f"{path} is of slot {record['slot']}, which {before} has not",
                "delete the folder and run again",
            )
        require_slot(path, record, before, record["slot"])
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
    artifacts.save_json(output, {"rung": number, "settings": kept})


def setting_of(rung: Path, slot: int) -> dict[str, Any]:
    """The entry of a rung's file that a slot has."""
    settings = _read(rung)["settings"]
    if slot >= len(settings):
        raise UserError(f"{rung} has {len(settings)} slots", f"give one below {len(settings)}")
    return settings[slot]


def slot_of(rung: Path, slot: int) -> dict[str, Any]:
    """What is made of a slot says it is: the keys of `SLOT`. Raises UserError as `setting_of`."""
    setting = setting_of(rung, slot)
    number = _read(rung)["rung"]
    return {"rung": number, "slot": slot, "trial": setting["trial"], "point": setting["point"]}


def require_slot(path: str | Path, says: Mapping[str, Any], rung: Path, slot: int) -> None:
    """Refuse what was made of another slot, or of this one when it held another setting.

    Args:
        says: what the file at `path` says it is.

    Raises:
        UserError: it is another, or the rung has no such slot.
    """
    wanted = slot_of(rung, slot)
    if other := [key for key in SLOT if says[key] != wanted[key]]:
        key = other[0]
        raise UserError(
            f"{path} is not of slot {slot} of {rung}: its {key} is {says[key]}, not {wanted[key]}",
            "delete it and run the workflow again",
        )


def _read(rung: Path) -> dict[str, Any]:
    return artifacts.load_json(rung, {"rung": int, "settings": [{"trial": int, "point": dict}]})
