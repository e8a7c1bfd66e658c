"""The verdicts for people, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..statistics import LEVEL
from .ledger import Claim
from .verdicts import HERE, NOT_REPRODUCED, NOT_RUN, OTHERWISE, PAPER, REPRODUCED, UNITS

ABSENT = "–"
_NOTES = (
    "* In the paper's place: the published data set, images per class, protocol, network and "
    "settings. Here: any other place where both rows were run, each pair of them.",
    f"* reproduced: the paired difference has the claimed direction and its {LEVEL:.0%} interval "
    "(bootstrap over seeds and test images; of diversity over seeds and classes) excludes 0. "
    "Accuracies are of the last evaluation; the difference of the best ones, which the paper "
    "prints, is in the CSV. Times are compared without a test.",
    f"* {OTHERWISE}: at this place the paper's own table has the opposite of what its text "
    "claims in general; what was measured is beside it.",
    "* n: pairs of seeds. With one, the interval is of the test images (of diversity: of the "
    "classes) only, and says nothing of other seeds.",
    "* not reproduced: anything else, also where the interval holds 0 because seeds are few.",
    "* Intervals are not corrected for their number: of twenty comparisons of equals, one excludes "
    "0.",
)


def markdown(table: pd.DataFrame, claims: Sequence[Claim], title: str) -> str:
    """Each claim with its counts, then every comparison that was made.

    Args:
        table: rows of `verdicts.COLUMNS`.
        claims: those to list, in this order.
    """
    out = [f"# The paper's claims: {_plain(title)}", ""]
    out += ["| claim | printed | in the paper's places | here |", "|---|--:|---|---|"]
    notes = []
    for claim in claims:
        own = table[table.claim == claim.name]
        mark = ""
        if claim.note:
            notes.append(f"{len(notes) + 1}. {claim.note[0].upper()}{claim.note[1:]}.")
            mark = f" ({len(notes)})"
        out.append(
            f"| {claim.says}{mark} | {_printed(claim)} "
            f"| {ABSENT if claim.shown else _counts(own[own['where'] == PAPER])} "
            f"| {_counts(own[own['where'] == HERE])} |"
        )
    out += ["", *notes, ""] if notes else [""]
    compared = table[table.verdict != NOT_RUN]
    if compared.empty:
        return "\n".join([*out, "No two rows of a claim were run.", "", *_NOTES, ""])
    out += ["## Compared", ""]
    out += ["| verdict | claim | place | row | over | claimed | measured | n | |"]
    out += ["|---|---|---|---|---|--:|---|--:|---|"]
    for row in compared.itertuples():
        place = [row.dataset, f"{row.ipc} per class", row.protocol, row.network]
        if row.where == PAPER:
            place.append(f"Table {row.table}")
        out.append(
            f"| {row.verdict} | {row.claim} | {_plain(', '.join(str(p) for p in place if p))} "
            f"| {_plain(row.run)} | {_plain(row.over)} | {_figure(row.claimed, row.unit)} "
            f"| {_figure(row.measured, row.unit)}{_interval(row)} | {row.n:.0f} | {row.why} |"
        )
    return "\n".join([*out, "", *_NOTES, ""])


def _printed(claim: Claim) -> str:
    """How often and by how much the paper's own tables say so, or what shows it without figures."""
    if claim.shown:
        return claim.shown
    sizes = [place.claimed for place in claim.places]
    so = sum(not place.otherwise for place in claim.places)
    mean = sum(sizes) / len(sizes)
    return f"{so} of {len(sizes)}, mean {_figure(mean, UNITS[claim.measure])}"


def _figure(value: float | None, unit: str) -> str:
    if value is None or pd.isna(value):
        return ABSENT
    match unit:
        case "times as fast":
            return f"{value:.3g}×"
        case "of the range":
            return f"{value:+.2f}"
    return f"{value:+.1f}"


def _interval(row) -> str:
    if row.low is None or pd.isna(row.low):
        return ""
    return f" [{_figure(row.low, row.unit)}, {_figure(row.high, row.unit)}]"


def _counts(own: pd.DataFrame) -> str:
    parts = [
        f"{count} {verdict}"
        for verdict in (REPRODUCED, NOT_REPRODUCED, OTHERWISE, NOT_RUN)
        if (count := int((own.verdict == verdict).sum()))
    ]
    return ", ".join(parts) or NOT_RUN


def _plain(text: str) -> str:
    """Without what Markdown would take for its own."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", " ")
