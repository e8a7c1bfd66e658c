"""What accuracy costs: every method at the seconds that its distilled sets took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.errors import UserError
from .drawing import MUTED, figure

_KEYS = ["dataset", "ipc", "run"]
_ROW = 0.17  # inches of a line of the list of methods
_LEVELS = (0, 20, 40, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99, 99.5)


def seconds_of_sets(costs: pd.DataFrame) -> pd.DataFrame:
    """Seconds by data set, IPC and run, of runs that make images.

    Args:
        costs: a cost.csv.

    Returns:
        Indexed by dataset, ipc, run: `first`, what a first distilled set takes with all that is
        prepared for it (encoding, training or fine-tuning a generator, a teacher of the method's),
        and `further`, what another generation seed takes.
    """
    parts = costs.pivot_table("seconds", _KEYS, "part", aggfunc="sum")
    parts = parts.reindex(columns=["prepare", "distil"]).fillna(0.0)
    further = parts["distil"] / costs.groupby(_KEYS)["sets"].max()
    found = pd.DataFrame({"first": parts["prepare"] + further, "further": further})
    return found[found["further"] > 0]


def accuracy_over_cost(results: pd.DataFrame, costs: pd.DataFrame, output: Path) -> None:
    """Test accuracy over the seconds of a distilled set, a number for each method.

    One panel a data set, IPC, protocol and network. A method's dot is at its first set, its ring at
    a further one; bars are standard deviations over all trainings. Training on all real images is
    a line.

    Args:
        results: a results.csv.
        costs: the cost.csv of the same runs.

    Raises:
        UserError: no run makes images.
    """
    seconds = seconds_of_sets(costs)
    panels = []
    for keys, here in results.groupby(["dataset", "ipc", "protocol", "network"], sort=False):
        here = here.join(seconds, on=_KEYS).dropna(subset="first")
        if len(here):
            panels.append((keys, here.sort_values("last_mean", ascending=False)))
    if not panels:
        raise UserError(
            "no run makes images, so there is no cost to draw", "add a method to `runs`"
        )
    most = max(len(here) for _, here in panels)
    height = max(3.4, _ROW * most + 0.9)
    with figure(output, 9.2, height * len(panels), "constrained") as plot:
        grid = plot.subplots(len(panels), 2, squeeze=False, width_ratios=[3, 2])
        for (axes, legend), (keys, here) in zip(grid, panels, strict=True):
            _draw(axes, legend, here, _title(keys, here))
            full = results[(results.method == "full") & (results.dataset == keys[0])]
            full = full[(full.protocol == keys[2]) & (full.network == keys[3])]
            if len(full):
                level = full.last_mean.iloc[0]
                axes.axhline(level, color="black", lw=0.9, ls="--")
                axes.annotate(
                    "all real images", (1, level), xycoords=("axes fraction", "data"),
                    xytext=(0, 3), textcoords="offset points", ha="right", fontsize=7.5,
                )  # fmt: skip


def _by_error(accuracy: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(100.1 - accuracy, 1e-3))


def _title(keys: tuple[Any, ...], here: pd.DataFrame) -> str:
    dataset, ipc, protocol, network = keys
    trainings = sorted(set(here.n.astype(int)))
    return (
        f"{dataset}, {ipc} per class, {protocol}, {network}; n = {', '.join(map(str, trainings))}"
    )


def _draw(axes: Any, legend: Any, here: pd.DataFrame, title: str) -> None:
    spread = here.last_std.fillna(0.0)
    axes.hlines(here.last_mean, here.further, here["first"], color="#bbbbbb", lw=1, zorder=1)
    axes.plot(here.further, here.last_mean, "o", ms=4, mfc="white", mec=MUTED, mew=0.8, zorder=2)
    axes.errorbar(here["first"], here.last_mean, spread, fmt="o", ms=5, color="black", lw=0.8,
                  capsize=2, zorder=3)  # fmt: skip
    for number, row in enumerate(here.itertuples(), start=1):
        axes.annotate(
            str(number), (row.first, row.last_mean), xytext=(5, 3), textcoords="offset points",
            fontsize=7.5,
        )  # fmt: skip
    axes.set_xscale("log")
    low, high = here.further.min(), here["first"].max()
    ticks = [n * 10.0**e for e in range(-4, 9) for n in (1, 2, 5)]
    axes.set_xticks([t for t in ticks if low / 2.5 <= t <= high * 2.5])
    axes.set_xlim(low / 1.5, high * 1.6)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    # By the logarithm of the error: a few methods that fail must not squeeze the others together.
    axes.set_yscale("function", functions=(_by_error, lambda y: 100.1 - 10.0**-y))
    bottom, top = (here.last_mean - spread).min(), (here.last_mean + spread).max()
    axes.set_yticks([level for level in _LEVELS if bottom - 5 < level < top + 3])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlabel(
        "seconds for a distilled set: dot, the first with all it needs; ring, a further"
    )
    axes.set_ylabel("test accuracy, last (%)")
    legend.set_axis_off()
    for number, row in enumerate(here.itertuples(), start=1):
        place = 1 - (number - 0.5) / max(len(here), 8)
        legend.text(0.0, place, f"{number}", fontsize=7.5, ha="right", va="center")
        legend.text(0.03, place, f"{row.label}  {row.last_mean:.1f}", fontsize=7.5, va="center")
    legend.set(xlim=(-0.05, 1), ylim=(0, 1))
