"""Stage `metrics-table`: measures by method and by class, as the paper prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base import artifacts
from ..base.tables import read_csv
from . import FEATURES, IN_LATENTS, OF_IMAGES, OF_SETS

MEASURES = (*IN_LATENTS, *OF_SETS, *OF_IMAGES)
# What real images score stands beside these, in columns of their own.
_REAL = (*OF_SETS, "nearest_train")


def by_class(samples: pd.DataFrame) -> pd.DataFrame:
    """Class means, and beside them diversity and representativeness normalised for comparison.

    `diversity_01` and `representativeness_01` are min-max normalised once over all methods and
    classes of a space, the latter as 1 - normalised, so that of both more is better (paper,
    Table 9).
    """
    keys = ["space", "run", "class"]
    table = samples.groupby(keys, sort=False)[[*MEASURES, "originals"]].mean().reset_index()
    for column, sign in (("diversity", 1), ("representativeness", -1)):
        value = sign * table[column]
        least = value.groupby(table["space"]).transform("min")
        most = value.groupby(table["space"]).transform("max")
        table[f"{column}_01"] = (value - least) / (most - least)
    return table


def summarise(files: Sequence[Path], runs: Sequence[dict[str, Any]], output: Path) -> None:
    """Write a metrics.csv to `output` from files of `measure`, beside it the same as Markdown, and
    the measures by class: `metrics.md` and `metrics_classes.csv`.

    Each file is one data set, IPC and generation seed; `runs` give the labels and the order. Means
    and deviations (ddof 0) of the table are over generation seeds. Columns `*_real` are what as
    many real images score.
    """
    parts, headers = [], [artifacts.table_metadata(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        parts.append(by_class(artifacts.load_table(file)).assign(**header["of"]))
    classes = pd.concat(parts, ignore_index=True)
    labels = {run["run"]: run["label"] for run in runs}
    classes.insert(0, "method", classes["run"].map(labels))
    keys = ["dataset", "ipc", "space", "run"]
    values = [*MEASURES, "diversity_01", "representativeness_01"]
    seeds = classes.groupby([*keys, "generation_seed"], sort=False)[values].mean()
    grouped = seeds.groupby(level=keys, sort=False)
    spread = grouped.std(ddof=0).add_suffix("_std")
    table = grouped.mean().join(spread).join(grouped.size().rename("n"))
    table = table.reset_index()
    table.insert(4, "method", table["run"].map(labels))
    real = _real(headers)
    table = table.merge(real, on=["dataset", "ipc", "space"], how="left")
    by_class_file = output.with_name(f"{output.stem}_classes.csv")
    artifacts.save_text(by_class_file, classes.to_csv(index=False))
    artifacts.save_text(output, table.to_csv(index=False))
    artifacts.save_text(output.with_suffix(".md"), _markdown(table, real, headers, labels))


def _real(headers: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What real images score, means and deviations over generation seeds, by data set and IPC."""
    rows = [
        {**header["of"], "space": FEATURES, **dict.fromkeys(_REAL), **header.get("real", {})}
        for header in headers
    ]
    keys = ["dataset", "ipc", "space"]
    table = pd.DataFrame(rows).astype(dict.fromkeys(_REAL, float))
    grouped = table.groupby(keys, sort=False)[list(_REAL)]
    spread = grouped.std(ddof=0).add_suffix("_real_std")
    return grouped.mean().add_suffix("_real").join(spread).reset_index()


def load_classes(path: Path, measures: Sequence[str]) -> pd.DataFrame:
    """Some of the measures by class that `summarise` wrote. Raises UserError as `read_csv`."""
    return read_csv(
        path,
        text=["run", "class", "space", "dataset"],
        numbers=["ipc", "generation_seed", *measures],
        optional=["method"],
        mend="give a metrics_classes.csv, which `mgd3 measures-table` writes",
    )


def _markdown(
    table: pd.DataFrame,
    real: pd.DataFrame,
    headers: Sequence[dict[str, Any]],
    labels: Mapping[str, str],
) -> str:
    lines = ["# Measures of the distilled sets", ""]
    about = {(h["of"]["dataset"], h["of"]["ipc"]): h for h in headers}
    of_real = real.set_index(["dataset", "ipc"]).to_dict("index")
    for (dataset, ipc, space), here in table.groupby(["dataset", "ipc", "space"], sort=False):
        shown = (*OF_SETS, *OF_IMAGES) if space == FEATURES else IN_LATENTS
        header = about[dataset, ipc]
        lines += [f"## {dataset}, {ipc} per class, {_space(space, header)}", ""]
        lines += ["| method | n | " + " | ".join(map(_plain, shown)) + " |"]
        lines += ["| --- | --: |" + " --: |" * len(shown)]
        for row in here.to_dict("records"):
            cells = [_cell(row[m], row[f"{m}_std"], row["n"]) for m in shown]
            lines.append(f"| {_escaped(row['method'])} | {row['n']} | " + " | ".join(cells) + " |")
        if space == FEATURES:
            n = int(here["n"].max())
            if "real" in header:
                found = of_real[dataset, ipc]
                cells = [
                    _cell(found[f"{m}_real"], found[f"{m}_real_std"], n) if m in _REAL else "n/a"
                    for m in shown
                ]
                lines.append(f"| *real images* | {n} | " + " | ".join(cells) + " |")
            lines += ["", *_why_not(header, labels)]
        lines.append("")
    return "\n".join([*lines, *_NOTES, ""])


def _why_not(header: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Why cells of the table of features are n/a."""
    lines = []
    if (why := header.get("no_frechet")) is not None:
        lines.append(f"* frechet is n/a: {why}.")
    for reason in dict.fromkeys(header["not_judged"].values()):
        runs = [run for run, why in header["not_judged"].items() if why == reason]
        rows = ", ".join(_escaped(labels[run]) for run in runs)
        lines.append(f"* n/a for {rows}: {reason}.")
    return lines


def _space(space: str, header: Mapping[str, Any]) -> str:
    if space != FEATURES:
        return _SPACE[space]
    if "teacher" not in header:
        return "features of a network"
    held = header["teacher"]
    known = ", ".join(f"{part} {value:.1f} %" for part, value in held["accuracy"].items())
    return f"features of {held['name']} (accuracy: {known or 'unknown'})"


def _plain(measure: str) -> str:
    """A measure as readers see it."""
    return measure.replace("_", " ").replace("than 99", "than 99 %")


def _escaped(text: str) -> str:
    return text.replace("_", "\\_")


_SPACE = {"latent": "latent space", "map": "the t-SNE map shared by the methods"}
_NOTES = (
    "* Means over the samples of a class, then over classes, ± standard deviation (ddof 0) over "
    "n generation seeds.",
    "* diversity: distance to the nearest other sample of the class and method. "
    "representativeness: mean distance to the 50 nearest originals of the class, smaller is "
    "better; a class with fewer uses all.",
    "* memorisation: distance to the nearest training image over the usual distance between "
    "training images; 0 is a training image. modes hit: share of the class's k-means modes, as "
    "many as there are samples, that a sample is nearest to: what a method that is guided to them "
    "is made for.",
    "* Distances in a t-SNE map change with the version of the library and the methods shown: "
    "compare within one table only.",
    "* Features are the input of the network's last layer. kid (Binkowski et al. 2018), precision "
    "and recall (Kynkäänniemi et al. 2019, k = 3) and coverage (Naeem et al. 2020, k = 5) compare "
    "the whole set with the test images, which no method has seen. kid is unbiased for random "
    "draws; small sets that are balanced by class score below 0. Real images are as many training "
    "images, drawn by class: recall and coverage are small for any small set.",
    "* frechet: Frechet distance to the training images that were not drawn, from 5,000 images on: "
    "below, it is mostly bias. It is not the FID, whose features are Inception's.",
    "* nearest train: distance to the nearest training image of the class; beside it that of test "
    "images. closer than 99 %: share of the samples that are closer to one than 99 % of the test "
    "images are (by chance 0.01).",
    "* agreement: share of the samples that the network takes for their class, of all classes that "
    "it knows; log probability: its mean of that class. Both rise with the guidance scale, "
    "whatever becomes of the data: neither says that a set is good.",
    "* A network that made, chose or labelled a row's images, or chose its settings, does not "
    "judge it. Networks that were trained on the training images know them better than the test "
    "images, so that real images may have a kid above 0.",
)


def _cell(mean: float, std: float, n: int) -> str:
    if np.isnan(mean):
        return "n/a"
    return f"{mean:.3g}" if n < 2 else f"{mean:.3g} ± {std:.2g}"
