"""The surface that a tuning saw, as a heat map: made to be read in grey."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.errors import UserError
from ..base.tables import read_csv
from ..reporting.drawing import MUTED, figure

NAMES = {
    "lambda": "guidance scale λ",
    "t_sg": "stop step t_SG",
    "cfg": "CFG",
    "steps": "sampling steps",
    "strength": "strength",
}


def load(path: Path) -> pd.DataFrame:
    """A tuning.csv, as `mgd3 tune-report` writes it. Raises UserError as `read_csv`."""
    return read_csv(
        path,
        text=["tuning", "method", "dataset", "run"],
        numbers=["ipc", "trial", "proxy"],
        mend="give the tuning.csv that `mgd3 tune-report` wrote",
    )


def surface(table: pd.DataFrame, tuning: str, output: Path) -> None:
    """Draw what each rung of a tuning found at each of its settings.

    One row of panels a rung; the first two settings that vary are the axes, a column of panels
    for each combination of the rest. A cell without a number was dropped in the rung before.

    Args:
        table: a tuning.csv.
        tuning: the one to draw.

    Raises:
        UserError: the table does not have it.
    """
    held = table[table["tuning"] == tuning]
    if held.empty:
        raise UserError(f"the table has no tuning {tuning!r}", "delete it and run again")
    rungs = [c for c in held if re.fullmatch(r"proxy|validation_\d+", c) and held[c].notna().any()]
    keys = [k for k in NAMES if k in held and held[k].nunique() > 1]
    y_key, x_key, *rest = keys if len(keys) > 1 else [None, *keys]
    columns = [({}, held)]
    if rest:
        columns = [
            (dict(zip(rest, values, strict=True)), part) for values, part in held.groupby(rest)
        ]
    xs = sorted(held[x_key].unique())
    ys = sorted(held[y_key].unique()) if y_key else [None]
    width = max(2.6, 0.62 * len(xs) + 1.1) * len(columns)
    height = (0.34 * len(ys) + 0.85) * len(rungs) + 0.5
    with figure(output, max(width, 4.2), height, "constrained") as plot:
        grid = plot.subplots(len(rungs), len(columns), squeeze=False)
        for row, column in zip(grid, rungs, strict=True):
            low, high = held[column].min(), held[column].max()
            for axes, (fixed, part) in zip(row, columns, strict=True):
                cells = np.full((len(ys), len(xs)), np.nan)
                for record in part.to_dict("records"):
                    y = ys.index(record[y_key]) if y_key else 0
                    cells[y, xs.index(record[x_key])] = record[column]
                    if record["chosen"]:
                        _box(axes, xs.index(record[x_key]), y)
                _cells(axes, cells, low, high, "{:.2f}" if column == "proxy" else "{:.1f}")
                title = _title(column, held)
                if fixed:
                    title += ", " + ", ".join(f"{NAMES[k]} {v:g}" for k, v in fixed.items())
                axes.set_title(title, loc="left", fontsize=8.5, fontweight="bold")
                axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
                axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys] if y_key else [""])
            row[0].set_ylabel(NAMES[y_key] if y_key else "")
        for axes in grid[-1]:
            axes.set_xlabel(NAMES[x_key])
        first = held.iloc[0]
        note = f"{first['dataset']}, {first['ipc']} per class; boxed: chosen, empty: dropped before"
        plot.supxlabel(note, fontsize=8, color=MUTED)


def _title(column: str, held: pd.DataFrame) -> str:
    if column == "proxy":
        return "proxy (no training)"
    n = held[f"{column}_n"].max()
    return f"rung {column[11:]}: validation accuracy (%), n = {n:.0f}"


def _cells(axes: Any, cells: np.ndarray, low: float, high: float, form: str) -> None:
    """Light for low, dark for high, with the number in each cell."""
    # The darkest grey leaves a white number readable, the lightest a cell.
    span = (high - low) or 1.0
    shade = 0.08 + 0.67 * (cells - low) / span
    axes.imshow(shade, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(cells):
        if np.isfinite(value):
            colour = "white" if shade[y, x] > 0.5 else "black"
            axes.text(x, y, form.format(value), ha="center", va="center", color=colour, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _box(axes: Any, x: int, y: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, lw=2, zorder=3))
