"""From scores to figures: means, spreads, gains, variance components, published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...base.errors import UserError
from ...data.splits import WHOLE_SPLIT
from ...evaluation.protocols import PROTOCOLS
from ...generators.registry import GENERATORS
from ...networks.names import NETWORKS
from ..knowledge import knows
from ..statistics import DDOF, LEVEL, REPLICATES, Gain, holm, summarise, variance_components
from .pairing import gain_between, pairs_of, settings_of
from .paper import ON_ANOTHER, PaperFigure, PaperKey, paper_key, published
from .scores import FIGURES, KEY, PAIR, Predictions

GAIN_FIGURES = ("last", "best")
# The method over which gains are paired.
REFERENCE = "unguided"
# The gain over real images drawn at random, whatever the reference.
CONTROL = "random"
# A row that no single training gives: the mean over GLaD's networks, and then over its data sets.
CROSS_MEAN = "cross_mean"
CROSS_FAMILY = "glad"
CROSS_DATASETS = tuple(f"imagenet-{letter}" for letter in "abcde")
ALL_CROSS_DATASETS = "imagenet-a-e"


def make_tables(
    scores: pd.DataFrame,
    rows: Sequence[Mapping[str, Any]],
    paper: pd.DataFrame,
    reported: pd.DataFrame | None = None,
    sizes: Mapping[str, int] | None = None,
    *,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """One row per data set, IPC, run, protocol and network: every figure the tables print.

    Args:
        scores: from `load_scores`; scores of runs that `rows` does not list are left out.
        rows: the runs in the order of the table: `run` (slug), `label`, `method`, `generator`.
        paper: from `load_paper`.
        reported: independent reruns, from `load_paper`.
        sizes: side of the images of each data set, pixels, where it is to be told.
        replicates: of the bootstrap.

    Returns:
        Accuracies in per cent, gains in percentage points, variances in squared percentage points.
        Missing figures are None. `reference` is the listed run of `REFERENCE` with the same
        generator, on the same data set, IPC, protocol and network; where several are listed, the
        first with the same sampler, CFG and steps, else the first. A method without a generator is
        compared with the first listed of all. It is the run's own slug where that is the reference.
        `gain_last` and `gain_best` are over it; `gain_random` is of the last evaluation, over the
        first listed run of `random`. A `_p` is not adjusted, a `_holm` is, for all rows of a
        protocol and network with the same reference. `like_highest`: the row's last accuracy is the
        highest of its place, or cannot be told from that.

    Raises:
        UserError: no listed run has scores, or predictions are missing or do not fit.
    """
    listed = [row["run"] for row in rows]
    scores = scores[scores.run.isin(listed)]
    if scores.empty:
        raise UserError("none of the listed runs has scores", "run the evaluation first")
    cells = {key: cell.sort_values(PAIR) for key, cell in scores.groupby(KEY, sort=False)}
    predictions = Predictions()
    table = []
    for dataset, ipc, protocol, network in _places(scores):
        here = [row for row in rows if (dataset, ipc, row["run"], protocol, network) in cells]
        place = {row["run"]: cells[dataset, ipc, row["run"], protocol, network] for row in here}
        for row in here:
            cell = place[row["run"]]
            record = _identity(cell, row) | _measured(cell)
            record["image_size"] = (sizes or {}).get(dataset)
            rival = _reference(row, here, place)
            record["reference"] = rival
            settings = settings_of(cell)
            record["knows"] = knows(
                row["method"], row.get("generator"), settings, protocol, dataset
            )
            if rival not in (None, row["run"]):
                for figure in GAIN_FIGURES:
                    gain = gain_between(figure, cell, place[rival], predictions, replicates)
                    record |= _gain_columns(figure, gain)
            control = _control(here)
            if control not in (None, row["run"]):
                gain = gain_between("last", cell, place[control], predictions, replicates)
                record |= _gain_columns(CONTROL, gain)
            key = paper_key(row["method"], row["run"], row.get("generator"), settings)
            record |= _printed(record, paper, reported, key)
            table.append(record)
        _mark_highest(table[len(table) - len(here) :], place, predictions, replicates)
    _adjust(table)
    frame = pd.DataFrame([dict.fromkeys(COLUMNS) | record for record in table], columns=COLUMNS)
    return _with_cross_means(frame, paper, reported, scores)


def _columns() -> list[str]:
    spread = [f"{f}_{s}" for f in FIGURES for s in ("mean", "std", "n")]
    checked = [f"validation_{c}" for c in spread]
    of_gain = ("", "_low", "_high", "_n", "_p", "_holm", "_of")
    gains = [f"gain_{f}{s}" for f in (*GAIN_FIGURES, CONTROL) for s in of_gain]
    parts = ("generation", "training", "clipped")
    variances = [f"variance_{f}_{p}" for f in GAIN_FIGURES for p in parts]
    return [
        *("dataset", "ipc", "run", "label", "method", "generator", "knows", "trials"),
        *("protocol", "network"),
        *("n", "n_generations", "n_trainings", "deterministic", "ddof"),
        *("num_classes", "n_train", "n_test", "n_validation", "image_size"),
        *spread,
        *checked,
        *("reference", *gains, "like_highest"),
        *variances,
        *("paper_mean", "paper_std", "paper_table", "paper_printed", "paper_note"),
        *(f"reported_{c}" for c in ("mean", "std", "source", "printed", "note")),
        "difference_paper",
        *("seconds_mean", "peak_memory_bytes_max", "label_bytes", "device"),
        *("pairs", "last_values", "best_values"),
    ]


COLUMNS = _columns()


def _places(scores: pd.DataFrame) -> list[tuple]:
    """(dataset, ipc, protocol, network), data sets as they come, IPC ascending within, all last."""

    def order(column: str) -> dict:
        return {value: i for i, value in enumerate(scores[column].unique())}

    datasets, protocols, networks = order("dataset"), order("protocol"), order("network")
    places = scores[["dataset", "ipc", "protocol", "network"]].drop_duplicates()
    return sorted(
        places.itertuples(index=False, name=None),
        key=lambda p: (datasets[p[0]], p[1] == WHOLE_SPLIT, p[1], protocols[p[2]], networks[p[3]]),
    )


def _identity(cell: pd.DataFrame, row: Mapping[str, Any]) -> dict[str, Any]:
    first = cell.iloc[0]
    deterministic = bool(cell.deterministic.all())
    # A deterministic method has one set, whatever generation seed its trainings are filed under.
    generations = 1 if deterministic else cell.generation_seed.nunique()
    return {
        **{k: first[k] for k in ("dataset", "ipc", "run", "protocol", "network")},
        "label": row["label"],
        "method": row["method"],
        "generator": row.get("generator"),
        "trials": row.get("trials"),
        "n": len(cell),
        "n_generations": generations,
        "n_trainings": len(cell) // generations if len(cell) % generations == 0 else None,
        "deterministic": deterministic,
        "ddof": DDOF,
        **{k: _constant(cell, k) for k in ("num_classes", "n_train", "n_test", "n_validation")},
    }


def _constant(cell: pd.DataFrame, column: str) -> int | None:
    values = cell[column].dropna().unique()
    if len(values) > 1:
        raise UserError(
            f"{cell.path.iloc[0]}: trainings of one row differ in {column}: {sorted(values)}",
            "the data set has changed: delete the older scores and run again",
        )
    return int(values[0]) if len(values) else None


def _measured(cell: pd.DataFrame) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name in [*FIGURES, *(f"validation_{f}" for f in FIGURES)]:
        summary = summarise(cell[name])
        record |= {f"{name}_mean": summary.mean, f"{name}_std": summary.std, f"{name}_n": summary.n}
    deterministic = bool(cell.deterministic.all())
    generations = [0] * len(cell) if deterministic else list(cell.generation_seed)
    for figure in GAIN_FIGURES:
        parts = variance_components(list(cell[figure]), generations)
        record |= {
            f"variance_{figure}_generation": parts.generation,
            f"variance_{figure}_training": parts.training,
            f"variance_{figure}_clipped": None if parts.generation is None else parts.clipped,
        }
    memory = cell.peak_memory_bytes.dropna()
    return record | {
        "seconds_mean": summarise(cell.seconds).mean,
        "peak_memory_bytes_max": int(memory.max()) if len(memory) else None,
        "label_bytes": _constant(cell, "label_bytes"),
        "device": ", ".join(sorted({str(d) for d in cell.device if d})),
        # Space-separated, in the same order: one training each, for plots.
        "pairs": " ".join(f"{g}:{t}" for g, t in pairs_of(cell)),
        **{f"{f}_values": " ".join(f"{v:.6g}" for v in cell[f]) for f in GAIN_FIGURES},
    }


def _reference(
    row: Mapping[str, Any],
    here: Sequence[Mapping[str, Any]],
    place: Mapping[str, pd.DataFrame],
) -> str | None:
    """The slug of the run that `row` is compared with, among those scored at this place."""
    generator, itself = row.get("generator"), row["method"] == REFERENCE
    entry = GENERATORS.get(generator)
    if itself and entry is not None and entry.method:
        # A fine-tuning method's own rows are compared with the generator that it started from.
        generator, itself = entry.finetune.base, False
    rivals = [r for r in here if r["method"] == REFERENCE]
    if generator is not None:
        rivals = [r for r in rivals if r.get("generator") == generator]
    if not rivals:
        return None
    rival = rivals[0]
    if generator is not None and not itself:

        def sampling(run: str) -> tuple:
            settings = settings_of(place[run])
            return tuple(settings.get(k) for k in ("variant", "cfg", "steps"))

        own = sampling(row["run"])
        rival = next((r for r in rivals if sampling(r["run"]) == own), rival)
    return rival["run"]


def _control(here: Sequence[Mapping[str, Any]]) -> str | None:
    """The slug of the first listed run of `random`."""
    return next((row["run"] for row in here if row["method"] == CONTROL), None)


def _gain_columns(name: str, gain: Gain | None) -> dict[str, Any]:
    return {
        f"gain_{name}": gain.mean if gain else None,
        f"gain_{name}_low": gain.low if gain else None,
        f"gain_{name}_high": gain.high if gain else None,
        f"gain_{name}_n": gain.n if gain else 0,
        f"gain_{name}_p": gain.p if gain else None,
    }


def _adjust(table: Sequence[dict[str, Any]]) -> None:
    """Holm's adjustment of the gains of a table: over rows with the same reference."""
    for figure in (*GAIN_FIGURES, CONTROL):
        families: dict[tuple, list[dict[str, Any]]] = {}
        for record in table:
            if record.get(f"gain_{figure}_p") is not None:
                rival = CONTROL if figure == CONTROL else record["reference"]
                key = (record["protocol"], record["network"], rival)
                families.setdefault(key, []).append(record)
        for rows in families.values():
            adjusted = holm([row[f"gain_{figure}_p"] for row in rows])
            for row, p in zip(rows, adjusted, strict=True):
                row[f"gain_{figure}_holm"], row[f"gain_{figure}_of"] = p, len(rows)


def _mark_highest(
    rows: Sequence[dict[str, Any]],
    place: Mapping[str, pd.DataFrame],
    predictions: Predictions,
    replicates: int,
) -> None:
    """Set `like_highest` of the rows of one place."""
    highest = max(rows, key=lambda row: row["last_mean"])
    others = [row for row in rows if row is not highest]
    gains = [
        gain_between("last", place[row["run"]], place[highest["run"]], predictions, replicates)
        for row in others
    ]
    told = holm([gain.p if gain else None for gain in gains])
    highest["like_highest"] = True
    for row, p in zip(others, told, strict=True):
        row["like_highest"] = p is None or p >= 1 - LEVEL


def _printed(
    record: Mapping[str, Any],
    paper: pd.DataFrame,
    reported: pd.DataFrame | None,
    key: PaperKey | None,
) -> dict[str, Any]:
    """What others print for the cell of `record`, and how far its `best` is from the paper's."""
    cell = [record[k] for k in ("dataset", "ipc", "protocol", "network")]
    added = _figures(published(paper, *cell, key), "paper", "table")
    if reported is not None:
        reruns = published(reported, *cell, key, any_sampler=True)
        added |= _figures(reruns, "reported", "source")
    if key is not None and key.on_another and added:
        added["paper_printed"] += f" {ON_ANOTHER}"
    elif added.get("paper_mean") is not None and record["best_mean"] is not None:
        added["difference_paper"] = record["best_mean"] - added["paper_mean"]
    return added


def _figures(figures: Sequence[PaperFigure], name: str, origin: str) -> dict[str, Any]:
    if not figures:
        return {}

    def text(f: PaperFigure) -> str:
        return f"{f.mean:.1f}" if f.std is None else f"{f.mean:.1f} ± {f.std:.1f}"

    # Where two figures are printed for one setting, both are shown; the first is the main one.
    return {
        f"{name}_mean": figures[0].mean,
        f"{name}_std": figures[0].std,
        f"{name}_{origin}": "; ".join(f.table for f in figures),
        f"{name}_printed": " / ".join(text(f) for f in figures),
        f"{name}_note": "; ".join(f.note for f in figures),
    }


def _with_cross_means(
    frame: pd.DataFrame,
    paper: pd.DataFrame,
    reported: pd.DataFrame | None,
    scores: pd.DataFrame,
) -> pd.DataFrame:
    """Append the mean over the cross-architecture networks after each complete group of them.

    As GLaD prints it (Avg_Cross): mean of the means, and mean of the stds. Where the five data sets
    A to E are complete, their mean follows (All). No gain: see the networks' own rows.
    """
    settings = {row.run: row.run_settings for row in scores.itertuples()}
    networks = set(NETWORKS[CROSS_FAMILY])
    crossed = [
        name
        for name in frame.protocol.unique()
        if name in PROTOCOLS and PROTOCOLS[name].networks == CROSS_FAMILY
    ]
    held = frame[frame.protocol.isin(crossed) & frame.network.isin(networks)]
    extra = [
        _mean_row(group, {"network": CROSS_MEAN})
        for _, group in held.groupby(["dataset", "ipc", "run", "protocol"], sort=False)
        if set(group.network) == networks
    ]
    if not extra:
        return frame
    means = pd.DataFrame(extra, columns=COLUMNS)
    of_five = means[means.dataset.isin(CROSS_DATASETS)]
    extra += [
        _mean_row(group, {"dataset": ALL_CROSS_DATASETS})
        for _, group in of_five.groupby(["ipc", "run", "protocol"], sort=False)
        if set(group.dataset) == set(CROSS_DATASETS)
    ]
    for record in extra:
        key = paper_key(
            record["method"], record["run"], _none(record["generator"]), settings[record["run"]]
        )
        record |= _printed(record, paper, reported, key)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return pd.DataFrame(records + extra, columns=COLUMNS)


def _mean_row(group: pd.DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    """One row for several: mean of the means, mean of the stds; what they share stays."""
    first = group.iloc[0]
    record = dict.fromkeys(COLUMNS)
    shared = ("dataset", "ipc", "run", "protocol", "network", "label", "method", "generator",
              "knows", "trials", "n", "n_generations", "n_trainings", "ddof", "deterministic",
              "num_classes", "n_train", "n_test", "n_validation")  # fmt: skip
    record |= {k: first[k] for k in shared if group[k].nunique(dropna=False) == 1} | names
    for figure in FIGURES:
        means, stds = group[f"{figure}_mean"].dropna(), group[f"{figure}_std"].dropna()
        complete = len(means) == len(group)
        record[f"{figure}_mean"] = float(means.mean()) if complete else None
        record[f"{figure}_std"] = float(stds.mean()) if len(stds) == len(group) else None
        record[f"{figure}_n"] = first[f"{figure}_n"] if complete else 0
    return record


def _none(value: Any) -> Any:
    return None if pd.isna(value) else value
