"""Scores to tables: CSV for machines, Markdown and LaTeX for people, a summary for the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from ...base.artifacts import save_text
from ...base.errors import UserError
from ...base.tables import read_csv
from .paper import load_paper
from .render import latex, markdown, terminal
from .results import COLUMNS, make_tables
from .scores import load_scores

__all__ = ["load_paper", "load_results", "load_scores", "make_tables", "print_table", "tables"]

VERSION = 1
_MEND = "give a results.csv; or delete it and run the stage that makes it: mgd3 tables"


def tables(
    runs: Sequence[Mapping[str, Any]],
    score_files: Sequence[Path],
    *,
    output: Path,
    paper: Path,
    reported: Path,
    sizes: Mapping[str, int],
    title: str,
) -> None:
    """Write a results.csv to `output`, and the same as Markdown and LaTeX beside it.

    Args:
        runs: the rows in order, each {"run": slug, "label", "method", "generator"}.
        score_files: of all runs; those of other runs are left out.
        paper: the published results, `workflow/mgd3/resources/paper_results.csv`.
        reported: independent reruns, `workflow/mgd3/resources/reported_results.csv`.
        sizes: side of the images of each data set, pixels.

    Raises:
        UserError: see `load_scores`, `load_paper` and `make_tables`.
    """
    results = make_tables(
        load_scores(score_files),
        runs,
        load_paper(paper),
        load_paper(reported),
        sizes,
    )
    csv = results.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    # People and machines see the same numbers, rounded once.
    results = _parse(io.StringIO(csv))
    save_text(output.with_suffix(".md"), markdown(results, title))
    save_text(output.with_suffix(".tex"), latex(results, title))
    save_text(output, csv)


def load_results(path: Path) -> pd.DataFrame:
    """The table that `tables` wrote.

    Raises:
        UserError: it is missing, or is another file.
    """
    results = _parse(path)
    if missing := [c for c in COLUMNS if c not in results]:
        raise UserError(f"{path} has no column {missing[0]!r}", _MEND)
    return results


def _parse(source: Path | TextIO) -> pd.DataFrame:
    # Missing figures are empty; a data set may well be called `null`.
    text = ["dataset", "run", "label", "method", "protocol", "network"]
    numbers = [c for c in COLUMNS if c.endswith(("_mean", "_std", "_n", "_low", "_high"))]
    numbers += ["ipc", "image_size"]
    return read_csv(source, text=text, numbers=numbers, mend=_MEND)


def print_table(path: Path, *, file: TextIO | None = None) -> None:
    """Print the results.csv at `path` as aligned text."""
    file = file or sys.stdout
    text = terminal(load_results(path))
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding))
