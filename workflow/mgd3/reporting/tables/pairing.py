"""The paired gain of one group of trainings over another, from their predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...base.errors import UserError
from ...base.seeding import Draw, seed_of
from ..statistics import REPLICATES, Gain, common_pairs, paired_gain
from .scores import KEY, PAIR, Predictions


def settings_of(cell: pd.DataFrame) -> dict[str, Any]:
    """The settings of the run whose trainings `cell` holds."""
    return cell.run_settings.iloc[0]


def pairs_of(cell: pd.DataFrame) -> list[tuple[int, int]]:
    """(generation seed, training seed) of each training."""
    return list(cell[PAIR].itertuples(index=False, name=None))


def gain_between(
    figure: str,
    cell: pd.DataFrame,
    rival: pd.DataFrame,
    predictions: Predictions,
    replicates: int = REPLICATES,
) -> Gain | None:
    """Gain of the trainings of `cell` over those of `rival`; None where they share no seeds.

    Either may hold several networks, as a mean over architectures does: those of one generation
    seed then count as its trainings, paired network by network.

    Args:
        figure: `best` or `last`.
        cell, rival: rows of `load_scores`.

    Raises:
        UserError: they were scored on different test images.
    """
    own, other = (
        dict(zip(zip(c.network, pairs_of(c), strict=True), c.path, strict=True))
        for c in (cell, rival)
    )
    keys = common_pairs(own, other)
    if not keys:
        return None
    run, labels = predictions.correct([own[k] for k in keys], figure)
    base, base_labels = predictions.correct([other[k] for k in keys], figure)
    if not np.array_equal(labels, base_labels):
        raise UserError(
            f"{own[keys[0]]} and {other[keys[0]]} were scored on different test images",
            "the data set has changed: delete the older scores and run again",
        )
    seed = seed_of(Draw.GAIN, *map(str, cell[KEY].iloc[0]), str(rival.run.iloc[0]), figure)
    generations = [generation for _, (generation, _) in keys]
    return paired_gain(run, base, generations, seed=seed, replicates=replicates)
