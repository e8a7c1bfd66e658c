"""Stage `tune-report`: every setting that was tried, and the chosen ones as a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base import artifacts
from .rungs import read_score, setting_of

# Of the first rung, beside the proxy.
_JUDGED = ("modes_hit", "agreement", "log_probability")


def report(
    tunings: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    known: Sequence[str],
    name: str,
    output: Path,
    overlay: Path,
) -> None:
    """Write `tuning.csv`, beside it `tuning.md`, and the overlay.

    The table has a row for each setting that was tried, best first: of the first rung `modes_hit`,
    `agreement`, `log_probability` and `proxy`, of rung r `validation_r` (mean),
    `validation_r_std` (ddof 0) and `validation_r_n`, empty where it was dropped before; `chosen`.
    The overlay holds the runs of the configuration with the chosen ones behind those that were
    tuned, which stay to compare with, and what was tuned.

    Args:
        tunings: `id`, `label` of the run, `position` in `runs`, `dataset`, `ipc`, `points`,
            `choice` (as the configuration has it), `slugs`, `protocol`, `network`, `scores` (files
            of each rung), `chosen` (the file of what is left after the last).
        runs: the runs of the configuration as written.
        known: slugs of the runs of the configuration, sweeps unfolded.
        name: of the configuration.
    """
    tables = [_table(tuning) for tuning in tunings]
    artifacts.save_text(output, pd.concat(tables).to_csv(index=False, float_format="%.6g"))
    artifacts.save_text(output.with_suffix(".md"), _markdown(tunings, tables))
    held, chosen = {*known}, {}
    for tuning, table in zip(tunings, tables, strict=True):
        trial = int(table["trial"].iloc[0])
        if tuning["slugs"][trial] not in held:
            held.add(tuning["slugs"][trial])
            chosen.setdefault(tuning["position"], []).append(tuning["points"][trial])
    choices = [dict(tuning["choice"]) for tuning in tunings]
    artifacts.save_text(overlay, _overlay(runs, chosen, choices, name, overlay))


def _table(tuning: Mapping[str, Any]) -> pd.DataFrame:
    rows = {
        trial: {
            "tuning": tuning["id"],
            "method": tuning["label"],
            "dataset": tuning["dataset"],
            "ipc": tuning["ipc"],
            "run": slug,
            "trial": trial,
            **point,
        }
        for trial, (point, slug) in enumerate(zip(tuning["points"], tuning["slugs"], strict=True))
    }
    for rung, files in enumerate(tuning["scores"]):
        judged = [read_score(path, len(rows), rung) for path in files]
        records = pd.DataFrame([_flat(record) for record in judged])
        for trial, own in records.groupby("trial"):
            rows[trial]["rung"] = rung
            if rung == 0:
                rows[trial] |= own[list(_JUDGED)].mean().to_dict()
                rows[trial]["proxy"] = own["score"].mean()
            else:
                rows[trial][f"validation_{rung}"] = own["score"].mean()
                rows[trial][f"validation_{rung}_std"] = own["score"].std(ddof=0)
                rows[trial][f"validation_{rung}_n"] = len(own)
    chosen = setting_of(Path(tuning["chosen"]), 0)
    table = pd.DataFrame(rows.values())
    table["chosen"] = table["trial"] == chosen["trial"]
    rungs = [f"validation_{rung}" for rung in range(len(tuning["scores"]) - 1, 0, -1)]
    order = ["chosen", "rung", *rungs, "proxy"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("trial", *_JUDGED, "score")}


def _markdown(tunings: Sequence[Mapping[str, Any]], tables: Sequence[pd.DataFrame]) -> str:
    lines = ["# Tuning", ""]
    for tuning, table in zip(tunings, tables, strict=True):
        rungs = [list(map(artifacts.load_json, files)) for files in tuning["scores"]]
        trainings = sum(map(len, rungs[1:]))
        lines += [
            f"## {tuning['label']}: {tuning['dataset']}, {tuning['ipc']} per class",
            "",
            f"{len(table)} settings, {sum(map(len, rungs))} distilled sets, {trainings} trainings "
            f"({tuning['protocol']}, {tuning['network']}).",
            "",
        ]
        keys = list(tuning["points"][0])
        columns = [f"validation_{rung}" for rung in range(1, len(rungs))]
        heads = [f"rung {rung}, validation" for rung in range(1, len(rungs))]
        judged = [name.replace("_", " ") for name in (*_JUDGED, "proxy")]
        lines.append("| " + " | ".join([*keys, *judged, *heads]) + " |")
        lines.append("|" + " --: |" * (len(keys) + len(judged) + len(columns)))
        for row in table.to_dict("records"):
            cells = [f"{row[key]:g}" for key in keys]
            cells += [f"{row[c]:.2f}" for c in (*_JUDGED, "proxy")]
            cells += [_accuracy(row, column) for column in columns]
            if row["chosen"]:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        if columns and (both := table[["proxy", columns[0]]].dropna()).shape[0] > 2:
            rank = both["proxy"].rank().corr(both[columns[0]].rank())
            lines += [
                f"Rank correlation of the proxy with rung 1, over its {len(both)} settings: "
                f"{rank:.2f}.",
                "",
            ]
    return "\n".join([*lines, *_NOTES, ""])


def _accuracy(row: Mapping[str, Any], column: str) -> str:
    if pd.isna(row[column]):
        return ""
    if (n := int(row[f"{column}_n"])) < 2:
        return f"{row[column]:.1f}"
    return f"{row[column]:.1f} ± {row[f'{column}_std']:.1f} (n={n})"


_NOTES = (
    "* The chosen setting is bold. modes hit: share of the training images' k-means modes that are "
    "nearest to some image of the set; agreement: share of the images that a teacher takes for "
    "their class; log probability: its mean of that class; both rise with guidance. proxy: modes "
    "hit by the images that it takes for their class. No training yet.",
    "* validation: accuracy in per cent on held-out training images, mean ± standard deviation "
    "(ddof 0) over n generation seeds, which no other rung and no reported figure uses. It is the "
    "best of several: expect less on the test set, which tuning never reads.",
)


def _overlay(
    runs: Sequence[Mapping[str, Any]],
    chosen: Mapping[int, Sequence[Mapping[str, Any]]],
    choices: Sequence[Mapping[str, Any]],
    name: str,
    overlay: Path,
) -> str:
    import yaml

    out: list[Mapping[str, Any]] = []
    for position, run in enumerate(runs):
        single = {key: v[0] if isinstance(v, list) else v for key, v in run.items()}
        out += [run, *({**single, **point} for point in chosen.get(position, ()))]
    lines = [
        "# Chosen by `snakemake tune`; give it after the configuration that was tuned:",
        f"#   snakemake --cores 2 --configfile CONFIG {overlay}",
        "# The runs that were tuned stay beside the chosen ones. `tuning` says what was tried: a",
        "# network that chose among settings does not judge what it chose.",
    ]
    held = {"name": f"{name[:54]}-tuned", "runs": out, "tuning": [*choices]}
    return "\n".join([*lines, yaml.safe_dump(held, sort_keys=False, allow_unicode=True)])
