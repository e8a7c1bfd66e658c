"""The published figure that a measured row may be put beside, and no other.

A figure is comparable when data set, IPC, protocol, network, method, generator, sampler and variant
agree. A run that departs from the published settings is a variant of its own and has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...base.errors import UserError
from ...base.tables import read_csv
from ...methods import METHODS

COLUMNS = [
    *("table", "dataset", "ipc", "protocol", "network", "method", "generator", "sampler"),
    *("variant", "metric", "mean", "std", "note"),
]
# The generators of the paper by our registry's names. A generator trained or fine-tuned here may be
# of the same family, but it is another model; `dit-finetuned` is the paper's recipe for ImageWoof.
FINETUNED = "dit-finetuned"
GENERATORS = {"dit": "dit", FINETUNED: FINETUNED, "ldm": "ldm", "sd": "sd"}
# Methods whose fine-tuned generator is sampled without guidance here: its name -> the paper's.
_TUNING = {"dit-minmax": ("minmax", "dit")}
_METHODS = {"idc": "idc1"}
# MinMax's figures on many classes are of separate fine-tunings for 10 to 20 classes each; ours is
# one for all.
_IN_PHASES = {("minmax", "imagenet100"), ("minmax", "imagenet1k")}
# Settings of the published rows; the same for every method that has them.
_SETTINGS: dict[str, Any] = {
    "lambda": 0.1,
    "t_sg": 25,
    "stop_rule": "code",
    "modes": "kmeans",
    "steps": 50,
}
_PER_GENERATOR = {
    **{dit: {"cfg": 4.0, "cfg_channels": 3} for dit in ("dit", FINETUNED)},
    "ldm": {"cfg": 4.0},
    "sd": {"cfg": 8.0, "t_sg": 500, "stop_unit": "timestep"},
}
# The strength of D4M's rows is not printed; this is that of D4M's own ImageNet script.
_PER_METHOD = {"d4m": {"modes": "d4m", "strength": 0.7}}
# Methods that optimise images by matching, and what their published rows have in place of defaults.
# Table 5's are those of GLaD's code at 128 px; of DM's and GLaD's in other tables none are known.
_AT_128 = {"size": 128}
_MATCHING: dict[str, tuple[dict[str, Any], ...]] = {
    "dc": (_AT_128,),
    "dm": ({**_AT_128, "init": "noise", "iterations": 1_000, "learning_rate": 10.0}, {}),
    "glad-vae": (_AT_128, {}),
    "h-glad-vae": (_AT_128,),
    "ld3m": (_AT_128,),
}
# Of these, those whose published generator is none of ours: their names and generators there.
_ON_ANOTHER = {"glad-vae": ("glad", "stylegan"), "h-glad-vae": ("h-glad", "stylegan")}
# What marks their figures in tables.
ON_ANOTHER = "‡"
# Mode discovery as the paper's Table 6 names it, where our registry has another name.
_DISCOVERY = {"nearest": "kmeans-sample"}
# Table 5 has GLaD's protocol for the rows it took from there. Of its own row the paper says that it
# was trained with hard labels, and not how: it stands beside both readings.
_UNSETTLED = {("hard-cross", "mgd3"): "glad"}
# The run slug ends in a digest when settings outside the slug differ from the defaults.
_DIGEST = re.compile(r"_([0-9a-f]{8})$")


class PaperKey(NamedTuple):
    """What the paper calls a method: see the columns of the same names in paper_results.csv."""

    method: str
    generator: str
    sampler: str
    variant: str

    @property
    def on_another(self) -> bool:
        """Whether the figure is of a generator that is none of ours, for orientation only."""
        return (self.method, self.generator) in _ON_ANOTHER.values()


class PaperFigure(NamedTuple):
    """A printed figure, per cent, and what prints it: tables (`1`, or `1,3,8`), or a source."""

    mean: float
    std: float | None
    table: str
    note: str


def load_paper(path: Path, metric: str = "accuracy") -> pd.DataFrame:
    """Published figures: the paper's, or in the same columns those of independent reruns.

    In the latter `table` is the source.

    Args:
        metric: `accuracy` (per cent), `diversity` (0 to 1) or `hours`.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    text = [c for c in COLUMNS if c not in ("mean", "std")]
    mend = "restore workflow/mgd3/resources"
    table = read_csv(path, text=text, missing=(), mend=mend)
    if missing := [c for c in COLUMNS if c not in table]:
        raise UserError(f"{path} has no column {missing[0]!r}", mend)
    table = table[table.metric == metric].copy()
    for column in ("mean", "std"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    # The paper calls this generator DiT, too; only the note tells them apart.
    table.loc[table.note.str.contains("fine-tuned on ImageWoof"), "generator"] = FINETUNED
    # Table 5 names the objective of every row; these two are nothing else.
    table.loc[table.variant == "alg=" + table.method, "variant"] = ""
    return table.reset_index(drop=True)


def paper_key(
    method: str, run: str, generator: str | None, settings: Mapping[str, Any]
) -> PaperKey | None:
    """How the paper names a run, or None when it has no such generator.

    Args:
        method: our registry's name of the method.
        run: the run's slug.
        generator: our registry's name of the generator, if any.
        settings: the run's settings (`lambda`, `t_sg`, `modes`, `variant`, `cfg`, `steps`).
    """
    departs = []
    if method == "nearest":
        # The paper's Table 3: mode discovery alone, without a generator. Its VAE is the DiT's.
        return PaperKey("mgd3", "none", "", "no-guidance") if generator == "dit" else None
    if method in _MATCHING:
        return _matching_key(method, generator, settings)
    method = _METHODS.get(method, method)
    if method == "unguided" and generator in _TUNING:
        method, generator = _TUNING[generator]
    if generator is not None:
        if generator not in GENERATORS:
            return None
        expected = _SETTINGS | _PER_GENERATOR[GENERATORS[generator]] | _PER_METHOD.get(method, {})
        for name, published in expected.items():
            value = settings.get(name, settings.get("discovery") if name == "modes" else None)
            if value is not None and value != published:
                value = _DISCOVERY.get(value, value) if name == "modes" else value
                departs.append("stop=none" if (name, value) == ("t_sg", 0) else f"{name}={value}")
    if digest := _DIGEST.search(run):
        departs.append(f"settings={digest[1]}")
    # The paper does not state the sampler of its Stable Diffusion rows, so no run of ours, which
    # has one, is put beside them.
    sampler = str(settings.get("variant") or "ddpm") if generator else ""
    family = GENERATORS[generator] if generator else "none"
    return PaperKey(method, family, sampler, ",".join(departs))


def _matching_key(
    method: str, generator: str | None, settings: Mapping[str, Any]
) -> PaperKey | None:
    if generator is None:
        name, family = method, "none"
    elif method in _ON_ANOTHER:
        name, family = _ON_ANOTHER[method]
    elif generator in GENERATORS:
        name, family = method, GENERATORS[generator]
    else:
        return None
    defaults = METHODS[method].defaults_of(settings)
    departs = min(
        (
            [f"{k}={v}" for k, v in settings.items() if v != {**defaults, **published}.get(k, v)]
            for published in _MATCHING[method]
        ),
        key=len,
    )
    if "objective" in defaults:
        objective = settings.get("objective", defaults["objective"])
        departs = [f"alg={objective}", *(d for d in departs if not d.startswith("objective="))]
    return PaperKey(name, family, "", ",".join(departs))


def published(
    paper: pd.DataFrame,
    dataset: str,
    ipc: int,
    protocol: str,
    network: str,
    key: PaperKey | None,
    *,
    any_sampler: bool = False,
) -> list[PaperFigure]:
    """The figures printed for exactly this cell: none, one, or several where tables disagree.

    Args:
        any_sampler: also figures of another sampler. For reruns: who reran the method may have
            sampled otherwise, and says so in the note.
    """
    if key is None or (key.method, dataset) in _IN_PHASES:
        return []
    if (protocol, key.method) in _UNSETTLED:
        protocol = _UNSETTLED[protocol, key.method]
    variants = [key.variant]
    if key.on_another and "," not in key.variant:
        variants.append("")  # a table that does not name the objective
    match = paper[
        (paper.dataset == dataset)
        # The whole training set has no images per class.
        & (paper.ipc == ("" if key.method == "full" else str(ipc)))
        & (paper.protocol == protocol)
        & (paper.network == network)
        & (paper.method == key.method)
        & (paper.generator == key.generator)
        & ((paper.sampler == key.sampler) | any_sampler)
        & paper.variant.isin(variants)
    ]
    figures: list[PaperFigure] = []
    for row in match.itertuples():
        std = None if pd.isna(row.std) else float(row.std)
        for i, known in enumerate(figures):
            if known.mean == row.mean and (std is None or known.std in (None, std)):
                merged = std if known.std is None else known.std
                figures[i] = PaperFigure(
                    known.mean, merged, f"{known.table},{row.table}", known.note
                )
                break
        else:
            figures.append(PaperFigure(float(row.mean), std, row.table, row.note))
    return figures
