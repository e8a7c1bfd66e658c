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
from .paper import load_paper
from .render import latex, markdown, terminal
from .results import COLUMNS, make_tables
from .scores import load_scores

__all__ = ["load_paper", "load_results", "load_scores", "make_tables", "print_table", "tables"]

VERSION = 1


def tables(
    runs: Sequence[Mapping[str, Any]],
    score_files: Sequence[Path],
    *,
    output_dir: Path,
    paper: Path,
    reported: Path,
    title: str,
) -> None:
    """Write `results.csv`, `results.md` and `results.tex` into `output_dir`.

    Args:
        runs: the rows in order, each {"run": slug, "label", "method", "generator"}.
        score_files: of all runs; those of other runs are left out.
        paper: the published results, `workflow/mgd3/resources/paper_results.csv`.
        reported: independent reruns, `workflow/mgd3/resources/reported_results.csv`.

    Raises:
        UserError: see `load_scores`, `load_paper` and `make_tables`.
    """
    output_dir = Path(output_dir)
    results = make_tables(
        load_scores(score_files),
        runs,
        load_paper(paper),
        load_paper(reported),
    )
    csv = results.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    # People and machines see the same numbers, rounded once.
    results = _parse(io.StringIO(csv))
    save_text(output_dir / "results.md", markdown(results, title))
    save_text(output_dir / "results.tex", latex(results, title))
    save_text(output_dir / "results.csv", csv)


def load_results(path: Path) -> pd.DataFrame:
    """The table that `tables` wrote.

    Raises:
        UserError: it is missing, or is another file.
    """
    if not Path(path).is_file():
        raise UserError(f"table not found: {path}", "run the stage that makes it: mgd3 tables")
    results = _parse(path)
    if missing := [c for c in COLUMNS if c not in results]:
        raise UserError(f"{path} has no column {missing[0]!r}", "delete it and run `mgd3 tables`")
    return results


def _parse(source: Path | TextIO) -> pd.DataFrame:
    # Missing figures are empty; a data set may well be called `null`.
    text = ["dataset", "run", "label", "method", "protocol", "network"]
    types = dict.fromkeys(text, str)
    return pd.read_csv(source, dtype=types, keep_default_na=False, na_values=[""])


def print_table(path: Path, *, file: TextIO | None = None) -> None:
    """Print the results.csv at `path` as aligned text."""
    file = file or sys.stdout
    text = terminal(load_results(path))
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding))
