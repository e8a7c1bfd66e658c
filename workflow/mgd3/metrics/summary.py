"""Stage `metrics-table`: measures by method and by class, as the paper prints them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base import artifacts
from ..base.tables import read_csv

MEASURES = (
    "diversity",
    "representativeness",
    "memorisation",
    "coverage",
    "precision",
    "recall",
    "agreement",
    "frechet",
)


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
    and deviations (ddof 0) of the table are over generation seeds.
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
    by_class_file = output.with_name(f"{output.stem}_classes.csv")
    artifacts.save_text(by_class_file, classes.to_csv(index=False))
    artifacts.save_text(output, table.to_csv(index=False))
    artifacts.save_text(output.with_suffix(".md"), _markdown(table, headers))


def load_classes(path: Path, measures: Sequence[str]) -> pd.DataFrame:
    """Some of the measures by class that `summarise` wrote. Raises UserError as `read_csv`."""
    return read_csv(
        path,
        text=["run", "class", "space", "dataset"],
        numbers=["ipc", "generation_seed", *measures],
        optional=["method"],
        mend="give a metrics_classes.csv, which `mgd3 measures-table` writes",
    )


def _markdown(table: pd.DataFrame, headers: Sequence[dict[str, Any]]) -> str:
    lines = ["# Measures of the distilled sets", ""]
    for (dataset, ipc, space), here in table.groupby(["dataset", "ipc", "space"], sort=False):
        lines += [f"## {dataset}, {ipc} per class, {_SPACE[space]}", ""]
        lines += ["| method | n | " + " | ".join(MEASURES) + " |"]
        lines += ["| --- | --: |" + " --: |" * len(MEASURES)]
        for row in here.to_dict("records"):
            cells = [_cell(row[m], row[f"{m}_std"], row["n"]) for m in MEASURES]
            method = row["method"].replace("_", "\\_")
            lines.append(f"| {method} | {row['n']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, *_NOTES, *_of_teachers(headers), ""])


def _of_teachers(headers: Sequence[dict[str, Any]]) -> list[str]:
    """Who judged, and what as many real images as a set holds would have scored."""
    told: dict[tuple[str, int], list[float]] = {}
    notes = {}
    for header in headers:
        if "teacher" in header:
            key = header["of"]["dataset"], header["of"]["ipc"]
            told.setdefault(key, []).append(header["frechet_real"])
            held = header["teacher"]
            known = ", ".join(f"{part} {value:.1f} %" for part, value in held["accuracy"].items())
            notes[key] = f"teacher {held['name']} (accuracy: {known or 'unknown'})"
    lines = []
    for (dataset, ipc), values in told.items():
        real = _cell(float(np.mean(values)), float(np.std(values)), len(values))
        lines.append(
            f"* {dataset}, {ipc} per class: {notes[dataset, ipc]}. As many real training images, "
            f"drawn by class, have frechet {real}."
        )
    return lines


_SPACE = {"latent": "latent space", "map": "the t-SNE map shared by the methods"}
_NOTES = (
    "* Means over the samples of a class, then over classes, ± standard deviation (ddof 0) over "
    "n generation seeds.",
    "* diversity: distance to the nearest other sample of the class and method. "
    "representativeness: mean distance to the 50 nearest originals of the class, smaller is "
    "better; a class with fewer uses all.",
    "* memorisation: distance to the nearest training image over the usual distance between "
    "training images; 0 is a training image. coverage: share of the class's k-means modes, as "
    "many as there are samples, that a sample is nearest to. precision, recall: share of the "
    "samples inside the originals' balls of 3 neighbours, and the reverse.",
    "* agreement: share of the samples in which the teacher sees their class. frechet: Frechet "
    "distance between Gaussians fitted to the teacher's features (the input of its last layer) of "
    "the whole set and of all training images. It is not the FID, whose features are Inception's, "
    "and falls with the number of images: compare sets of one data set, size and teacher only. "
    "Neither depends on the space; n/a where the configuration has no teacher.",
    "* Distances in a t-SNE map change with the version of the library and the methods shown: "
    "compare within one table only.",
)


def _cell(mean: float, std: float, n: int) -> str:
    if np.isnan(mean):
        return "n/a"
    return f"{mean:.3g}" if n < 2 else f"{mean:.3g} ± {std:.2g}"
