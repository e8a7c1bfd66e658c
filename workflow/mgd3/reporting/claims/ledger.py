"""The claims of the paper, as comparisons of rows, and where its tables make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ...base.errors import UserError
from ...base.shapes import misfit
from ..tables import load_paper
from ..tables.paper import FINETUNED, GENERATORS
from ..tables.results import ALL_CROSS_DATASETS

MEASURES = ("accuracy", "diversity", "hours")
_REQUIRED = {"name", "says", "run", "over", "paper"}
_OPTIONAL = {"same", "measure", "note"}
# Of each claim, where it has the key; which keys it must have, `_claim` says by its name.
_ENTRY = {
    "name?": str, "says?": str, "run?": dict, "over?": dict, "measure?": str, "note?": str,
    "same?": (str, [str]),
    "paper?": ({"run": [str], "over": [str], "tables": [object]}, {"shown": str}),
}  # fmt: skip
_MEND = "restore workflow/mgd3/resources/claims.yaml"


@dataclass(frozen=True)
class Place:
    """A cell of a table in which the paper makes a claim.

    Attributes:
        ipc: as the table has it; protocols are as our registry names them, "" where none applies.
        generator, sampler: of the row that is said to be better; sampler "" where not stated.
        claimed: by how much it is better there: points, or how many times as fast.
        otherwise: whether the paper's own figures say the opposite of the claim there.
    """

    table: str
    dataset: str
    ipc: str
    protocol: str
    over_protocol: str
    network: str
    generator: str
    sampler: str
    claimed: float
    otherwise: bool


@dataclass(frozen=True)
class Claim:
    """One claim; see the head of claims.yaml for what its parts mean.

    Attributes:
        run, over: selectors of our runs.
        same: settings that both must share; None for all that neither selector names.
        run_key, over_key: (method, variant) in paper_results.csv.
        shown: what of the paper shows it without printing figures, such as a plot.
        places: where the paper's tables print both rows; none where it is `shown`.
    """

    name: str
    says: str
    run: Mapping[str, Any]
    over: Mapping[str, Any]
    same: tuple[str, ...] | None
    measure: str
    run_key: tuple[str, str]
    over_key: tuple[str, str]
    note: str = ""
    shown: str = ""
    places: tuple[Place, ...] = field(default=(), compare=False)


def load_claims(ledger: Path, paper: Path) -> list[Claim]:
    """The claims of a ledger, with their places in the published results.

    Raises:
        UserError: a file is missing, the ledger has unknown or missing keys, or a claim that is
            not `shown` has no place, so that it would claim nothing.
    """
    if not Path(ledger).is_file():
        raise UserError(f"ledger of claims not found: {ledger}", _MEND)
    try:
        entries = yaml.safe_load(Path(ledger).read_text(encoding="utf-8"))["claims"]
    except (yaml.YAMLError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{ledger} is not a ledger of claims ({error})", _MEND) from error
    if clause := misfit(entries, [_ENTRY], "claims"):
        raise UserError(f"{ledger} is not a ledger of claims: {clause}", _MEND)
    tables = {measure: load_paper(paper, measure) for measure in MEASURES}
    return [_claim(entry, tables, ledger) for entry in entries]


def _claim(entry: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], ledger: Path) -> Claim:
    name = entry.get("name", "a claim without a name")
    missing, unknown = _REQUIRED - set(entry), set(entry) - _REQUIRED - _OPTIONAL
    if missing or unknown:
        wrong = f"lacks {min(missing)!r}" if missing else f"has an unknown key {min(unknown)!r}"
        raise UserError(f"{ledger}: {name} {wrong}", _MEND)
    measure, same = entry.get("measure", "accuracy"), entry.get("same", ["generator"])
    if measure not in MEASURES:
        raise UserError(f"{ledger}: {name}: unknown measure {measure!r}", _MEND)
    selected = entry["run"], entry["over"]
    same = None if same == "all" else tuple(same)
    if shown := entry["paper"].get("shown", ""):
        nothing = ("", "")
        return Claim(
            name, entry["says"], *selected, same, measure, nothing, nothing,
            entry.get("note", ""), shown,
        )  # fmt: skip
    run_key, over_key = tuple(entry["paper"]["run"]), tuple(entry["paper"]["over"])
    labels = (entry["run"].get("labels"), entry["over"].get("labels"))
    places = _places(tables[measure], run_key, over_key, entry["paper"]["tables"], labels, measure)
    if not places:
        raise UserError(f"{ledger}: {name}: no table of the paper prints both rows", _MEND)
    return Claim(
        name, entry["says"], *selected, same, measure, run_key, over_key,
        entry.get("note", ""), places=places,
    )  # fmt: skip


def _places(
    paper: pd.DataFrame,
    run: tuple[str, str],
    over: tuple[str, str],
    tables: list[str],
    labels: tuple[str | None, str | None],
    measure: str,
) -> tuple[Place, ...]:
    """Cells of `tables` that print both rows; of several tables with one cell the first counts."""
    # The mean over five data sets has no test images to pair; the five have their own rows.
    paper = paper[paper.table.isin(tables) & (paper.dataset != ALL_CROSS_DATASETS)]
    better, worse = (
        paper[(paper.method == method) & (paper.variant == variant)]
        for method, variant in (run, over)
    )
    cell = ["dataset", "ipc", "network"]
    both = better.merge(worse, on=cell, suffixes=("", "_over"))
    if labels == (None, None):
        both = both[both.protocol == both.protocol_over]
    else:
        both = both[(both.protocol == labels[0]) & (both.protocol_over == labels[1])]
    # Rows of generators compare with rows of the same one, fine-tuned or not; LD3M's has no other.
    base = both[["generator", "generator_over"]].replace(FINETUNED, "dit")
    shared = (base.generator == base.generator_over) | (both.method_over == "ld3m")
    shared |= ~base.generator_over.isin(GENERATORS.values())
    unlike = (both.sampler != both.sampler_over) & (both.sampler != "") & (both.sampler_over != "")
    both = both[shared & ~unlike]
    both = both.drop_duplicates([*cell, "protocol", "generator", "sampler"])
    return tuple(
        Place(
            row.table, row.dataset, row.ipc, row.protocol, row.protocol_over, row.network,
            row.generator, row.sampler,
            row.mean_over / row.mean if measure == "hours" else round(row.mean - row.mean_over, 6),
            otherwise=row.mean > row.mean_over if measure == "hours" else row.mean < row.mean_over,
        )
        for row in both.itertuples()
    )  # fmt: skip
