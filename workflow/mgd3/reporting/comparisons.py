"""Curves over what all runs share: images per class, and the kind of labels.

Made to be read in grey, as those of `plots`: runs differ by marker and dash.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.errors import UserError
from ..data.splits import WHOLE_SPLIT
from ..evaluation.protocols import SoftProtocol, get_protocol
from .drawing import figure, trainings

_MARKERS = "o^sDvPX*<>ph"
_DASHES = ("-", "--", "-.", ":")
KINDS = ("hard labels", "soft labels")


def kind_of(protocol: str) -> str:
    """The kind of labels that a protocol trains with: one of `KINDS`."""
    return KINDS[isinstance(get_protocol(protocol), SoftProtocol)]


def accuracy_over_ipc(results: pd.DataFrame, output: Path) -> None:
    """Accuracy over images per class, a curve a run, a panel a data set, protocol and network.

    Bars are standard deviations over all trainings; the whole train split is a level.

    Args:
        results: a results.csv.

    Raises:
        UserError: fewer than two numbers of images per class.
    """
    if results.loc[results.ipc != WHOLE_SPLIT, "ipc"].nunique() < 2:
        raise UserError("all runs have the same images per class", "give several: `ipc: [...]`")
    panels = list(results.groupby(["dataset", "protocol", "network"], sort=False))
    with figure(output, 6.2, 3.4 * len(panels) + 0.15 * _runs(results), "constrained") as plot:
        grid = np.ravel(plot.subplots(len(panels), 1, squeeze=False))
        for axes, ((dataset, protocol, network), here) in zip(grid, panels, strict=True):
            distilled = here[here.ipc != WHOLE_SPLIT]
            for style, (_, own) in zip(_styles(), distilled.groupby("run", sort=False)):  # noqa: B905
                own = own.sort_values("ipc")
                _line(axes, own.ipc, own, style)
            for row in here[here.ipc == WHOLE_SPLIT].itertuples():
                axes.axhline(row.last_mean, color="black", lw=0.9, ls="--", label=row.label)
            ticks = sorted(distilled.ipc.unique())
            axes.set_xscale("log")
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("images per class")
            axes.set_ylabel("test accuracy, last (%)")
            _title(axes, f"{dataset}, {protocol}, {network}", trainings(distilled.n))
        _legend(plot, grid)


def accuracy_over_labels(results: pd.DataFrame, output: Path) -> None:
    """What each run gives under hard and under soft labels, a panel a data set and IPC (Table 10).

    Runs that lie close together on the right and apart on the left differ less once a teacher that
    has seen all real images labels them.

    Args:
        results: a results.csv.

    Raises:
        UserError: all protocols have the same kind of labels.
    """
    results = results[results.ipc != WHOLE_SPLIT]
    places = list(dict.fromkeys(zip(results.protocol, results.network, strict=True)))
    places.sort(key=lambda place: KINDS.index(kind_of(place[0])))
    if len({kind_of(protocol) for protocol, _ in places}) < 2:
        raise UserError(
            "all protocols have the same kind of labels",
            "list one with hard and one with soft labels in `evaluation`",
        )
    at = {place: x for x, place in enumerate(places)}
    panels = list(results.groupby(["dataset", "ipc"], sort=False))
    width = max(3.4, 1.5 * len(places)) * min(2, len(panels))
    rows = -(-len(panels) // 2)
    with figure(output, width, 3.3 * rows + 0.15 * _runs(results), "constrained") as plot:
        grid = np.ravel(plot.subplots(rows, min(2, len(panels)), squeeze=False))
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, ((dataset, ipc), here) in zip(grid, panels, strict=False):
            runs = here.groupby("run", sort=False)
            for number, (style, (_, own)) in enumerate(zip(_styles(), runs)):  # noqa: B905
                # Side by side, or bars of runs that hardly differ would hide each other.
                shift = 0.05 * (number - (len(runs) - 1) / 2)
                x = [at[place] for place in zip(own.protocol, own.network, strict=True)]
                order = np.argsort(x)
                _line(axes, np.array(x)[order] + shift, own.iloc[order], style)
            axes.set_xticks(
                range(len(places)), [f"{kind_of(p)}\n{p}\n{network}" for p, network in places]
            )
            axes.set_xlim(-0.4, len(places) - 0.6)
            axes.set_ylabel("test accuracy, last (%)")
            _title(axes, dataset, f"{ipc} per class, {trainings(here.n)}")
        _legend(plot, grid[: len(panels)])


def _runs(results: pd.DataFrame) -> int:
    return results.run.nunique()


def _styles() -> list[tuple[str, str]]:
    """(marker, dash): more than a picture can hold apart."""
    return [(marker, dash) for dash in _DASHES for marker in _MARKERS]


def _line(axes: Any, x: Any, own: pd.DataFrame, style: tuple[str, str]) -> None:
    marker, dash = style
    axes.errorbar(
        x, own.last_mean, own.last_std.fillna(0), marker=marker, ls=dash, ms=5, lw=1.1,
        capsize=2, mfc="white", color="black", label=own.label.iloc[0],
    )  # fmt: skip


def _title(axes: Any, place: str, note: str) -> None:
    # A panel of two protocols holds so many letters.
    title = f"{textwrap.fill(place, 34)}\n{note}"
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")


def _legend(plot: Any, grid: Any) -> None:
    """One for all panels, below them: each run once."""
    held: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            held.setdefault(label, handle)
    plot.legend([*held.values()], [*held], loc="outside lower left", fontsize=7.5, frameon=False)
