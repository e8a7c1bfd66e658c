"""What a tuning tries, and with what budget. Importable without torch.

A first rung judges one distilled set of every setting without training; each later rung trains a
network on new sets of those that were kept, and the best of the last rung is chosen. How many
settings a rung has is known beforehand, which they are is not: a job has a slot of its rung, and
reads its setting from a file when it runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

from ..base.errors import UserError
from ..evaluation.protocols import SoftProtocol, get_protocol
from ..methods import get_method
from ..teachers import IMAGENET, TEACHERS
from .config import Config, Run, resolve_run
from .schema import tunable

_MOST_SETTINGS = 1000


@dataclass(frozen=True)
class Rung:
    """One round of a tuning.

    Attributes:
        slots: settings that it judges.
        seeds: generation seeds, one distilled set of each setting for each; no two rungs share
            one, so that a lucky set counts once.
    """

    slots: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Tuning:
    """A search for the settings of one run.

    Attributes:
        id: its name in paths; holds everything that changes what is chosen.
        dataset, ipc: what it tunes for.
        run: the run of the configuration that is tuned; its other settings stay.
        position: of that run in `runs` as written.
        points: the settings to try, as {key: value} of the searched keys.
        slugs: of each point, the run that it makes.
        rungs: the first judges without training.
        protocol, network: what the later rungs train.
        teacher, teacher_data: a network that judges the sets of the first rung, and the data set
            that it was trained on.
    """

    id: str
    dataset: str
    ipc: int
    run: Run
    position: int
    points: list[dict[str, Any]]
    slugs: list[str]
    rungs: list[Rung]
    protocol: str
    network: str
    teacher: str
    teacher_data: str

    def slots(self, rung: int) -> int:
        """Settings of a rung; behind the last one is left."""
        return self.rungs[rung].slots if rung < len(self.rungs) else 1


def tunings(config: Config) -> list[Tuning]:
    """The tunings of a configuration: of its first data set, by its first protocol.

    Raises:
        UserError: there is nothing to choose by, or the grid does not suit the run.
    """
    found = [_tuning(config, choice) for choice in config.tuning]
    if twice := [t for t in found if [other.id for other in found].count(t.id) > 1]:
        raise UserError(f"tuning lists {twice[0].run.method!r} twice", "remove one of them")
    return found


def _tuning(config: Config, choice: dict[str, Any]) -> Tuning:
    method, dataset = choice["method"], config.datasets[0]
    position = next(
        (i for i, run in enumerate(config.run_choices) if run["method"] == method), None
    )
    if position is None:
        raise UserError(
            f"tuning: no run has the method {method!r}",
            "add one to `runs`, or name another method in `tuning`",
        )
    if not dataset.validation_fraction:
        raise UserError(
            f"tuning: {dataset.name} holds out no training images by which to choose",
            f"write {{name: {dataset.name}, validation_fraction: 0.1}} in `datasets`",
        )
    entry = config.evaluation[0]
    if isinstance(get_protocol(entry["protocol"]), SoftProtocol):
        raise UserError(
            f"tuning trains with hard labels, and the first protocol is {entry['protocol']!r}",
            "put a protocol with hard labels first in `evaluation`",
        )
    swept = get_method(method).swept()
    single = {
        key: value[0] if key in swept and isinstance(value, list) else value
        for key, value in config.run_choices[position].items()
    }
    run, grid = resolve_run(single), choice["grid"]
    if unknown := [key for key in grid if key not in run.settings]:
        raise UserError(
            f"tuning: method {method!r} takes no {unknown[0]!r}",
            f"give a `grid` of {', '.join(key for key in tunable() if key in run.settings)}",
        )
    if not 2 <= (count := math.prod(map(len, grid.values()))) <= _MOST_SETTINGS:
        raise UserError(
            f"the grid of tuning has {count:,} settings", f"try 2 to {_MOST_SETTINGS:,}"
        )
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    slugs = [resolve_run({**single, **point}).slug for point in points]
    if len({*slugs}) < len(slugs):
        raise UserError("tuning: a value of the grid is listed twice", "remove one of them")
    rungs = _rungs(len(points), choice)
    _require_fresh(config, rungs)
    of_imagenet = dataset.origin == "imagenet"
    teacher = choice.get("teacher", "resnet18" if of_imagenet else "conv3-32")
    recipe = TEACHERS[teacher]
    fetched = recipe.ready or (of_imagenet and recipe.pretrained is not None)
    if fetched and not of_imagenet:
        raise UserError(
            f"tuning: the teacher {teacher!r} knows ImageNet's classes, and {dataset.name!r} is no "
            "part of it",
            "choose one that is trained on the data set itself: conv3-32",
        )
    tuned = {
        "ipc": choice.get("ipc", config.ipc[0]),
        "points": points,
        "slugs": slugs,
        "rungs": rungs,
        "protocol": entry["protocol"],
        "network": entry["networks"][0],
        "teacher": teacher,
        "teacher_data": IMAGENET if fetched else dataset.name,
    }
    digest = hashlib.sha256(json.dumps(tuned, default=vars, sort_keys=True).encode())
    return Tuning(
        id=f"{method}_{digest.hexdigest()[:8]}",
        dataset=dataset.name,
        run=run,
        position=position,
        **tuned,
    )


def _rungs(settings: int, choice: dict[str, Any]) -> list[Rung]:
    """Until one setting is left, or the rungs are used up; the proxy alone never decides."""
    keep, seed = choice["keep"], choice["first_seed"]
    rungs, slots = [Rung(settings, (seed,))], max(2, math.ceil(settings * keep))
    for sets in choice["rungs"]:
        if slots == 1:
            break
        seed = rungs[-1].seeds[-1] + 1
        rungs.append(Rung(slots, tuple(range(seed, seed + sets))))
        slots = math.ceil(slots * keep)
    return rungs


def _require_fresh(config: Config, rungs: list[Rung]) -> None:
    used = {seed for rung in rungs for seed in rung.seeds}
    if both := sorted(used & {*config.generation_seeds}):
        raise UserError(
            f"tuning would choose by generation seed {both[0]}, whose sets are reported",
            "set `first_seed` of tuning beyond `generation_seeds`",
        )
