"""Curves and maps of the analysis: accuracy over a setting, samples among the originals.

Made to be read in grey: methods differ by marker, not by colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.artifacts import load_table, table_metadata
from ..base.errors import UserError
from ..metrics import ORIGINALS
from .drawing import MUTED, figure, trainings
from .sweeps import curves

_MARKERS = "o^sDvPX*<>ph"
_LEVELS = ("--", ":", "-.")
_NAMES = {"t_sg": "stop step t_SG", "lambda": "guidance scale λ"}
# Classes shown in a map of samples; a page holds no more.
_MAP_CLASSES = 10
_SPACES = {"latent": "latent space", "map": "shared t-SNE map"}
# Runs in one panel, and what tells their markers apart besides their shapes.
_MOST_RUNS, _GREYS = 6, ("white", "black", "#aaaaaa")


def accuracy_over(
    results: pd.DataFrame, runs: Sequence[Mapping[str, Any]], setting: str, output: Path
) -> None:
    """Accuracy of MGD3 over t_SG or lambda, beside that of the unguided sampler (Figure 4a, E).

    One panel a data set, IPC, protocol and network; one line for each combination of the other
    settings, bars are standard deviations over all trainings.

    Args:
        results: a results.csv.
        runs: rows of the configuration: `run`, `label`, `method`, `generator`, `settings`.
        setting: `t_sg` or `lambda`.

    Raises:
        UserError: fewer than two values of the setting.
    """
    lines = _lines(runs, setting)
    if not lines:
        raise UserError(f"no two runs differ in {setting} only", f"give a list: `{setting}: [...]`")
    swept = {slug for _, points in lines for _, slug in points}
    panels = [
        (keys, here)
        for keys, here in results.groupby(["dataset", "ipc", "protocol", "network"], sort=False)
        if here.run.isin(swept).any()  # not the whole train split, say
    ]
    with figure(output, 6.2, 3.2 * len(panels), "constrained") as plot:
        for axes, (keys, here) in zip(
            np.ravel(plot.subplots(len(panels), 1, squeeze=False)), panels, strict=True
        ):
            here = here.set_index("run")
            _draw_lines(axes, here, lines, setting)
            # What the curves' gains are over, and no other sampler's level.
            compared = here.loc[here.index.isin(swept), "reference"].dropna()
            levels = here[here.index.isin(compared) & (here.method == "unguided")]
            for row, dash in zip(levels.itertuples(), _LEVELS * len(levels), strict=False):
                axes.axhline(row.last_mean, color="black", lw=0.9, ls=dash, label=row.label)
                spread = 0 if pd.isna(row.last_std) else row.last_std
                axes.axhspan(
                    row.last_mean - spread, row.last_mean + spread, color="#eeeeee", zorder=0
                )
            dataset, ipc, protocol, network = keys
            axes.set_title(
                f"{dataset}, {ipc} per class, {protocol}, {network}; "
                f"{trainings(here.loc[here.index.isin(swept)].n)}",
                loc="left", fontsize=9, fontweight="bold",
            )  # fmt: skip
            axes.set_xlabel(_NAMES[setting])
            axes.set_ylabel("test accuracy, last (%)")
            axes.legend(fontsize=7.5, frameon=False)


# A curve: what its runs share, and (value, slug) of each, sorted.
_Line = tuple[str, list[tuple[float, str]]]


def _lines(runs: Sequence[Mapping[str, Any]], setting: str) -> list[_Line]:
    found = []
    for group in curves(runs, setting):
        first = group[0]
        value = first["settings"][setting]
        own = {"t_sg": f"t_SG={value}", "lambda": f"λ={value:g}"}[setting]
        label = first["label"]
        for part in (f"{own}, ", f", {own}", own):
            label = label.replace(part, "")
        found.append((label, [(float(row["settings"][setting]), row["run"]) for row in group]))
    return found


def _draw_lines(axes: Any, here: pd.DataFrame, lines: Sequence[_Line], setting: str) -> None:
    for (name, points), marker in zip(lines, _MARKERS * len(lines), strict=False):
        held = [(value, here.loc[slug]) for value, slug in points if slug in here.index]
        x = [value for value, _ in held]
        means = [row.last_mean for _, row in held]
        spread = [0 if pd.isna(row.last_std) else row.last_std for _, row in held]
        axes.errorbar(x, means, spread, marker=marker, ms=5, lw=1.2, capsize=2, mfc="white",
                      color="black", label=name)  # fmt: skip
    values = sorted({value for _, points in lines for value, _ in points})
    if setting == "lambda":
        # The grid has a 0 and grows by factors.
        axes.set_xscale("symlog", linthresh=min(v for v in values if v > 0))
    axes.set_xticks(values, [f"{v:g}" for v in values])
    axes.minorticks_off()


def trade_off(classes: pd.DataFrame, output: Path) -> None:
    """Representativeness against diversity, a point a class and method (Figure 3).

    Args:
        classes: a metrics_classes.csv; both are min-max normalised over methods and classes, more
            is better. Large filled markers are the methods' means. The first generation seed.
    """
    runs = list(classes.run.unique())
    shown = _some(runs, len(_MARKERS))
    first = classes.generation_seed == classes.generation_seed.min()
    classes = classes[first & classes.run.isin(shown) & classes.space.isin(_SPACES)]
    panels = list(classes.groupby(["dataset", "ipc", "space"], sort=False))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with figure(output, 4.1 * columns, 3.9 * rows + 0.5, "constrained") as plot:
        grid = np.ravel(plot.subplots(rows, columns, squeeze=False))
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, ((dataset, ipc, space), here) in zip(grid, panels, strict=False):
            for (_, of), marker in zip(here.groupby("run", sort=False), _MARKERS, strict=False):
                x, y = of.diversity_01, of.representativeness_01
                axes.plot(x, y, marker, ms=4, mfc="white", mec="#999999", mew=0.8)
                axes.plot(x.mean(), y.mean(), marker, ms=9, color="black", label=of.method.iloc[0])
            axes.set_title(f"{dataset}, {ipc} per class, {_SPACES[space]}", loc="left", fontsize=9,
                           fontweight="bold")  # fmt: skip
            axes.set_xlabel(f"diversity (normalised), n = {here['class'].nunique()} classes")
            axes.set_ylabel("representativeness (normalised)")
        handles, labels = grid[0].get_legend_handles_labels()
        title = f"{len(shown)} of {len(runs)} runs" if len(shown) < len(runs) else None
        plot.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7.5,
                    frameon=False, title=title, title_fontsize=7.5)  # fmt: skip


def trade_off_images(
    samples: Path, runs: Sequence[Mapping[str, Any]], space: str, output: Path
) -> None:
    """Representativeness against diversity, a panel a class and a point an image (Figure 6).

    Both are min-max normalised once over what is shown, so that more is better. At most ten classes
    and six runs, evenly chosen.

    Args:
        samples: from stage `measure`.
        runs: `run` and `label` of each.
        space: `latent` or `map`.
    """
    shown = _some(runs, _MOST_RUNS)
    table, about = _by_image(samples, shown, space)
    classes = table["class"].unique()
    with _panels(output, len(classes), 5) as (plot, grid):
        for axes, name in zip(grid, classes, strict=False):
            here = table[table["class"] == name]
            for row, marker, colour in zip(shown, _MARKERS, _GREYS * 2, strict=False):
                own = here[here.run == row["run"]]
                axes.plot(own.x, own.y, marker, ms=4, mfc=colour, mec="black", mew=0.7,
                          label=row["label"])  # fmt: skip
            n = len(here) // len(shown)
            axes.set_title(f"{name} (n = {n} each)", loc="left", fontsize=8)
        left_out = f", {len(shown)} of {len(runs)} runs" if len(shown) < len(runs) else ""
        _finish_panels(plot, grid, f"{_of(about, space)}{left_out}")


def trade_off_over_stops(
    samples: Path, runs: Sequence[Mapping[str, Any]], space: str, output: Path
) -> None:
    """Representativeness against diversity, a panel a t_SG and a point an image (Figure 7).

    Normalised as in `trade_off_images`; at most ten classes. Unguided images are grey in every
    panel.

    Args:
        samples: from stage `measure`.
        runs: `run`, `method`, `label` and `settings` of each; one t_SG each, and unguided ones.
        space: `latent` or `map`.
    """
    table, about = _by_image(samples, runs, space)
    stops = [row for row in runs if "t_sg" in row["settings"]]
    others = [row for row in runs if "t_sg" not in row["settings"]]
    with _panels(output, len(stops), 6) as (plot, grid):
        for axes, stop in zip(grid, stops, strict=False):
            for row in others:
                other = table[table.run == row["run"]]
                axes.plot(other.x, other.y, "x", ms=3, color="#aaaaaa", mew=0.7,
                          label=row["label"])  # fmt: skip
            own = table[table.run == stop["run"]]
            axes.plot(own.x, own.y, "o", ms=3.5, mfc="white", mec="black", mew=0.7,
                      label="an image")  # fmt: skip
            axes.plot(own.x.mean(), own.y.mean(), "D", ms=8, color="black", mec="white",
                      label="their mean")  # fmt: skip
            title = f"t_SG = {stop['settings']['t_sg']} (n = {len(own)})"
            axes.set_title(title, loc="left", fontsize=8)
        shown, known = table["class"].nunique(), len(about["classes"])
        left_out = f", {shown} of {known} classes" if shown < known else ""
        _finish_panels(plot, grid, f"{_of(about, space)}{left_out}")


def _some(runs: Sequence[Any], most: int) -> list[Any]:
    """At most so many, the first and the last among them."""
    count = min(len(runs), most)
    return [runs[round(k * (len(runs) - 1) / max(count - 1, 1))] for k in range(count)]


def _by_image(
    samples: Path, runs: Sequence[Mapping[str, Any]], space: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Measures of the images of some runs in the first ten classes, normalised: `x` and `y`."""
    table, about = load_table(samples), table_metadata(samples)
    wanted = table["class"].isin(about["classes"][:_MAP_CLASSES]) & (table.space == space)
    table = table[wanted & table.run.isin([row["run"] for row in runs])]
    if table.diversity.isna().all():
        raise UserError(
            f"{samples}: a single image of a class has no diversity", "set `ipc` to 2 or more"
        )
    x, y = table.diversity, -table.representativeness
    x, y = ((v - v.min()) / ((v.max() - v.min()) or 1) for v in (x, y))
    return table.assign(x=x, y=y), about


@contextmanager
def _panels(output: Path, count: int, columns: int) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its panels, `columns` in a row, both axes from 0 to 1."""
    rows, columns = -(-count // columns), min(count, columns)
    with figure(output, max(2.0 * columns, 6.0), 2.0 * rows + 0.9, "constrained") as plot:
        grid = list(np.ravel(plot.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
        for place, axes in enumerate(grid[:count]):
            axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))
            axes.tick_params(labelsize=7, labelbottom=True)
            axes.set_xlabel("diversity" if place + columns >= count else "", fontsize=8)
            axes.set_ylabel("" if place % columns else "representativeness", fontsize=8)
        for axes in grid[count:]:
            axes.set_visible(False)
        yield plot, grid[:count]


def _of(about: Mapping[str, Any], space: str) -> str:
    of = about["of"]
    return (
        f"{of['dataset']}, {of['ipc']} per class, generation seed {of['generation_seed']}, "
        f"{_SPACES[space]}, axes normalised"
    )


def _finish_panels(plot: Any, grid: Any, title: str) -> None:
    plot.suptitle(
        textwrap.fill(title, int(11 * plot.get_figwidth())),
        x=0.01,
        ha="left",
        fontsize=9,
        fontweight="bold",
    )
    handles, labels = grid[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7.5,
                frameon=False)  # fmt: skip


def sample_map(points: Path, labels: Mapping[str, str], output: Path) -> None:
    """Samples of each method among the originals, in the map they share (Figure 5).

    At most ten classes and six methods, evenly chosen.

    Args:
        points: from stage `measure`.
        labels: a method's name by run.
    """
    table, about = load_table(points), table_metadata(points)
    classes, runs = about["classes"][:_MAP_CLASSES], _some(about["runs"], _MOST_RUNS)
    width, height = 1.75 * len(runs), 1.75 * len(classes) + 0.5
    with figure(output, width, height, "constrained") as plot:
        grid = plot.subplots(len(classes), len(runs), squeeze=False)
        for row, name in zip(grid, classes, strict=True):
            here = table[table["class"] == name]
            real = here[here.run == ORIGINALS]
            for axes, run in zip(row, runs, strict=True):
                own = here[here.run == run]
                axes.plot(real.x, real.y, ".", ms=2, color="#bbbbbb")
                axes.plot(own.x, own.y, "o", ms=4, mfc="black", mec="white", mew=0.5)
                axes.set_xticks([])
                axes.set_yticks([])
                for side in axes.spines.values():
                    side.set_visible(False)
            row[0].set_ylabel(name, fontsize=8)
        for axes, run in zip(grid[0], runs, strict=True):
            axes.set_title(textwrap.fill(labels.get(run, run), 24), fontsize=7.5)
        more = len(about["classes"]) - len(classes)
        n = f"{len(table[table.run == runs[0]]) // len(about['classes'])} samples a class"
        rest = f"; {more} more classes are measured, but not shown" if more else ""
        if len(runs) < len(about["runs"]):
            rest += f"; {len(runs)} of {len(about['runs'])} runs"
        note = textwrap.fill(f"grey: originals, black: {n}{rest}", 24 * len(runs))
        plot.supxlabel(note, fontsize=8, color=MUTED)
