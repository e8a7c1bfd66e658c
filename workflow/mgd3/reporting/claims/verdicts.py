"""What a run says of each claim: reproduced, not reproduced, printed otherwise, not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ...base.seeding import Draw, seed_of
from ...data.splits import WHOLE_SPLIT
from ...generators.registry import GENERATORS
from ...networks.names import NETWORKS
from ..comparisons import kind_of
from ..cost import MADE_ANYWAY
from ..statistics import paired_difference
from ..tables.pairing import gain_between, settings_of
from ..tables.paper import PaperKey, paper_key
from ..tables.results import CROSS_FAMILY, CROSS_MEAN
from ..tables.scores import KEY, Predictions
from .ledger import Claim, Place

REPRODUCED, NOT_REPRODUCED, NOT_RUN = "reproduced", "not reproduced", "not run"
# At a place where the paper's own table has the opposite of what it claims: whatever is measured
# there, it agrees with one of the two.
OTHERWISE = "printed otherwise"
PAPER, HERE = "paper", "here"
COLUMNS = ["claim", "verdict", "where", "dataset", "ipc", "protocol", "network", "generator",
           "sampler", "table", "run", "over", "unit", "claimed", "measured", "low", "high", "n",
           "measured_best", "why"]  # fmt: skip
TRAINED_STEPS = 1000  # of the process that every family was trained with
UNITS = {"accuracy": "points", "diversity": "of the range", "hours": "times as fast"}


@dataclass(frozen=True)
class Side:
    """A run where it was evaluated: what selectors ask for, and its trainings."""

    dataset: str
    ipc: int
    protocol: str
    network: str
    run: str
    label: str
    base: str | None
    features: Mapping[str, Any]
    key: PaperKey | None
    cell: pd.DataFrame


@dataclass(frozen=True)
class Measured:
    """By how much one run is better than another, in the units of a claim; bounds where tested."""

    mean: float
    low: float | None
    high: float | None
    n: int
    best: float | None = None


def by_accuracy(
    claims: Sequence[Claim], scores: pd.DataFrame, runs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each place of each claim on accuracy, and for each pair of runs elsewhere.

    A claim is reproduced where the paired gain (`statistics.paired_gain`, last evaluation) has an
    interval above 0; not where the paper's own figures there say the opposite, which is a verdict
    of its own. In the paper's place stand runs with its settings alone; elsewhere every pair
    of listed runs that the claim fits, of a sweep each value, so that none is picked by its result.

    Args:
        scores: from `load_scores`.
        runs: the listed runs, each {"run": slug, "label", "method", "generator"}.
    """
    predictions = Predictions()

    def gain(one: Side, other: Side) -> Measured | None:
        last, best = (gain_between(f, one.cell, other.cell, predictions) for f in ("last", "best"))
        return last and Measured(last.mean, last.low, last.high, last.n, best.mean)

    return _judge(claims, "accuracy", _sides(scores, runs), gain)


def by_hours(
    claims: Sequence[Claim],
    costs: pd.DataFrame,
    scores: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The same of the time that a set takes: one timing each, and no test.

    Args:
        costs: what the stage `cost` wrote.
    """
    paid = costs[(costs.part != "evaluate") & ~costs.stage.isin(MADE_ANYWAY)]
    # What is prepared once is paid once by each set, as the paper counts MinMax's fine-tuning.
    each = paid.seconds.where(paid.part != "distil", paid.seconds / paid.sets)
    seconds = each.groupby([paid.dataset, paid.ipc, paid.run]).sum()

    def ratio(one: Side, other: Side) -> Measured | None:
        own, rival = (seconds.get((s.dataset, s.ipc, s.run)) for s in (one, other))
        return Measured(rival / own, None, None, 1) if own and rival else None

    return _judge(claims, "hours", _sets(_sides(scores, runs)), ratio)


def by_diversity(
    claims: Sequence[Claim],
    classes: pd.DataFrame,
    scores: pd.DataFrame,
    runs: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The same of the normalised diversity in the t-SNE map, paired by class and generation seed.

    Args:
        classes: a metrics_classes.csv.
    """
    keys = ["dataset", "ipc", "run", "generation_seed", "class"]
    held = classes[classes.space == "map"].set_index(keys).diversity_01.sort_index()

    def difference(one: Side, other: Side) -> Measured | None:
        try:
            own, rival = (held.loc[s.dataset, s.ipc, s.run].unstack() for s in (one, other))
        except KeyError:
            return None
        delta = (own - rival).dropna()
        if delta.empty:
            return None
        seed = seed_of(Draw.DIVERSITY, one.dataset, str(one.ipc), one.run, other.run)
        found = paired_difference(delta.to_numpy(), seed=seed)
        return Measured(found.mean, found.low, found.high, found.n)

    return _judge(claims, "diversity", _sets(_sides(scores, runs)), difference)


def _judge(
    claims: Sequence[Claim],
    measure: str,
    sides: Sequence[Side],
    compare: Callable[[Side, Side], Measured | None],
) -> list[dict[str, Any]]:
    rows = []
    for claim in (claim for claim in claims if claim.measure == measure):
        met = set()
        for one, other, place in _pairs(claim, sides):
            measured = compare(one, other)
            if measured is not None:
                met.add(place)
                rows.append(_row(claim, one, other, place, measured))
        rows += [_not_run(claim, place) for place in claim.places if place not in met]
    return rows


def _sides(scores: pd.DataFrame, runs: Sequence[Mapping[str, Any]]) -> list[Side]:
    """Every listed run wherever it was evaluated, in the order listed.

    A run with all networks of the cross-architecture mean has one side more: their trainings.
    """
    sides = []
    for row in runs:
        scored = scores[(scores.run == row["run"]) & (scores.ipc != WHOLE_SPLIT)]
        for _, cell in scored.groupby(KEY, sort=False):
            sides.append(_side(row, cell, cell.network.iloc[0]))
        for _, cells in scored.groupby([k for k in KEY if k != "network"], sort=False):
            crossed = cells[cells.network.isin(NETWORKS[CROSS_FAMILY])]
            if set(crossed.network) == set(NETWORKS[CROSS_FAMILY]):
                sides.append(_side(row, crossed, CROSS_MEAN))
    return sides


def _side(row: Mapping[str, Any], cell: pd.DataFrame, network: str) -> Side:
    first, settings = cell.iloc[0], settings_of(cell)
    entry = GENERATORS.get(row.get("generator"))
    tuned = entry.method if entry is not None else ""
    features = {
        **settings,
        "method": row["method"],
        "tuned": tuned,
        "labels": kind_of(first.protocol).split()[0],
    }
    if "t_sg" in settings:
        by_step = settings.get("stop_unit", "step") == "step"
        steps = settings["steps"] if by_step else TRAINED_STEPS
        # Without guidance it is neither stopped nor to the end.
        guided = settings["t_sg"] < steps and settings["lambda"] > 0
        features["stopped"] = settings["t_sg"] > 0 if guided else None
        features["guided"] = guided
    return Side(
        first.dataset, first.ipc, first.protocol, network, row["run"], row["label"],
        entry.finetune.base if tuned else row.get("generator"),
        features,
        paper_key(row["method"], row["run"], row.get("generator"), settings),
        cell,
    )  # fmt: skip


def _sets(sides: Sequence[Side]) -> list[Side]:
    """Each distilled set once, whatever was trained on it."""
    bare = [replace(side, protocol="", network="") for side in sides]
    return list({(side.dataset, side.ipc, side.run): side for side in bare}.values())


def _pairs(claim: Claim, sides: Sequence[Side]) -> Iterator[tuple[Side, Side, Place | None]]:
    """Pairs that a claim is about, with the paper's place where both have its settings."""
    better = [side for side in sides if _fits(claim.run, side)]
    worse = [side for side in sides if _fits(claim.over, side)]
    for one in better:
        for other in worse:
            alike = (one.dataset, one.ipc, one.network) == (other.dataset, other.ipc, other.network)
            if alike and ("labels" in claim.run or one.protocol == other.protocol):
                place = _place(claim, one, other)
                if place is not None or _share(claim, one, other):
                    yield one, other, place


def _fits(selector: Mapping[str, Any], side: Side) -> bool:
    # A fine-tuned generator that is a method of its own counts for nothing else.
    wanted = {"tuned": "", **selector}
    return all(_meets(side.features.get(name), value) for name, value in wanted.items())


def _meets(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return value == wanted
    ((relation, (low, high)),) = wanted.items()
    return value is not None and (low <= value <= high) == (relation == "between")


def _share(claim: Claim, one: Side, other: Side) -> bool:
    if claim.same is None:
        # What follows from t_SG and lambda differs with them.
        named = {*claim.run, *claim.over, "guided"}
        named |= {"t_sg"} if "stopped" in named else {"stopped"}
        names = (one.features.keys() & other.features.keys()) - named
    else:
        names = set(claim.same) - {"generator"}
    return (None in (one.base, other.base) or one.base == other.base) and all(
        one.features.get(name) == other.features.get(name) for name in names
    )


def _place(claim: Claim, one: Side, other: Side) -> Place | None:
    if None in (one.key, other.key) or other.key.on_another:
        return None
    names = [(key.method, key.variant) for key in (one.key, other.key)]
    if names != [_settings_named(claim.run_key), _settings_named(claim.over_key)]:
        return None
    for place in claim.places:
        cell = (place.dataset, place.ipc, place.network) == (one.dataset, str(one.ipc), one.network)
        protocols = (place.protocol, place.over_protocol) == (one.protocol, other.protocol)
        sampled = place.sampler in ("", one.key.sampler)
        if cell and protocols and sampled and place.generator == one.key.generator:
            return place
    return None


def _settings_named(key: tuple[str, str]) -> tuple[str, str]:
    """A table's name of a row -> that of its settings: tables also name what is the default."""
    method, variant = key
    return method, "" if variant in ("modes=kmeans", "class=average") else variant


def _row(
    claim: Claim, one: Side, other: Side, place: Place | None, measured: Measured
) -> dict[str, Any]:
    bar = 1.0 if claim.measure == "hours" else 0.0
    tested = measured.low is not None
    reproduced = (measured.low if tested else measured.mean) > bar
    verdict = REPRODUCED if reproduced else NOT_REPRODUCED
    if place is not None and place.otherwise:
        verdict = OTHERWISE
    protocol = one.protocol
    if other.protocol != protocol:
        protocol += f" over {other.protocol}"
    return {
        "claim": claim.name,
        "verdict": verdict,
        "where": PAPER if place else HERE,
        "dataset": one.dataset,
        "ipc": one.ipc,
        "protocol": protocol,
        "network": one.network,
        "generator": one.base,
        "sampler": one.features.get("variant"),
        "table": place.table if place else None,
        "run": one.label,
        "over": other.label,
        "unit": UNITS[claim.measure],
        "claimed": place.claimed if place else None,
        "measured": measured.mean,
        "low": measured.low,
        "high": measured.high,
        "n": measured.n,
        "measured_best": measured.best,
        "why": _why(measured, place, reproduced, bar),
    }


def _why(measured: Measured, place: Place | None, reproduced: bool, bar: float) -> str:
    parts = []
    if measured.low is None:
        parts.append("one timing, not tested")
    elif not reproduced:
        parts.append("the opposite" if measured.high < bar else "the interval holds 0")
    elif place is not None and place.otherwise:
        parts.append("as claimed, unlike the table")
    if place is not None and measured.low is not None:
        if place.claimed > measured.high:
            parts.append("smaller than printed")
        elif place.claimed < measured.low:
            parts.append("larger than printed")
    return "; ".join(parts)


def _not_run(claim: Claim, place: Place) -> dict[str, Any]:
    protocol = place.protocol
    if place.over_protocol != protocol:
        protocol += f" over {place.over_protocol}"
    return {
        **dict.fromkeys(COLUMNS),
        "claim": claim.name,
        "verdict": NOT_RUN,
        "where": PAPER,
        "dataset": place.dataset,
        "ipc": place.ipc,
        "protocol": protocol,
        "network": place.network,
        "generator": place.generator,
        "sampler": place.sampler,
        "table": place.table,
        "unit": UNITS[claim.measure],
        "claimed": place.claimed,
    }
