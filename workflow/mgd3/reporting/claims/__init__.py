"""Stage `claims`: of each claim of the paper whether a run reproduces it, with the paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ...base.artifacts import save_text
from ...metrics.summary import load_classes
from ..cost import load_costs
from ..tables import load_scores
from .ledger import load_claims
from .render import markdown
from .verdicts import COLUMNS, by_accuracy, by_diversity, by_hours

__all__ = ["claims", "claims_of_measures"]


def claims(
    runs: Sequence[Mapping[str, Any]],
    score_files: Sequence[Path],
    *,
    ledger: Path,
    paper: Path,
    costs: Path,
    title: str,
    output: Path,
) -> None:
    """Write the verdicts on accuracy and time as CSV to `output`, and as Markdown beside it.

    Args:
        runs: the rows in order, each {"run": slug, "label", "method", "generator"}.
        score_files: of all runs; those of other runs are left out.
        ledger: `workflow/mgd3/resources/claims.yaml`.
        paper: the published results, `workflow/mgd3/resources/paper_results.csv`.
        costs: what the stage `cost` wrote.

    Raises:
        UserError: a file is missing, or the ledger is not one.
    """
    held, scores = load_claims(ledger, paper), load_scores(score_files)
    rows = [
        *by_accuracy(held, scores, runs),
        *by_hours(held, load_costs(costs), scores, runs),
    ]
    _write(rows, [c for c in held if c.measure != "diversity"], title, output)


def claims_of_measures(
    runs: Sequence[Mapping[str, Any]],
    score_files: Sequence[Path],
    *,
    ledger: Path,
    paper: Path,
    measures: Path,
    title: str,
    output: Path,
) -> None:
    """The same of diversity, from the `metrics_classes.csv` of stage `measures-table`."""
    held, scores = load_claims(ledger, paper), load_scores(score_files)
    rows = by_diversity(held, load_classes(measures, ["diversity_01"]), scores, runs)
    _write(rows, [c for c in held if c.measure == "diversity"], title, output)


def _write(rows: Sequence[Mapping[str, Any]], held: Sequence, title: str, output: Path) -> None:
    table = pd.DataFrame(rows, columns=COLUMNS)
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    save_text(output.with_suffix(".md"), markdown(table, held, title))
    save_text(output, csv)
