"""Stages `embed` and `metrics`: distilled images as latents, and their measures by class."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..base import artifacts
from ..base.errors import UserError
from ..data.index import Index
from ..discovery.clustering import centroids
from ..generators.latents import Latents
from . import FEATURES, IN_LATENTS, OF_IMAGES, OF_SETS, ORIGINALS, measures
from .judging import Verdicts

_CHUNK = 256


def embed(distilled: Path, vae_folder: Path, size: int, output: Path, device: str = "cpu") -> None:
    """Encode a distilled set: posterior means, scaled, float32 [ipc, C, h, w] keyed by class.

    Args:
        size: side in pixels at which the originals are encoded.
    """
    from ..generators.vae import load_vae, to_size  # imports diffusers; `measure` does without

    held = artifacts.load_tensors(distilled, ["images", "labels"])
    classes = artifacts.tensor_metadata(distilled)["classes"]
    vae = load_vae(vae_folder, device=device)
    images = held["images"].split(_CHUNK)
    latents = torch.cat([vae.encode(to_size(part.to(device), size))[0].cpu() for part in images])
    tensors = {name: latents[held["labels"] == label] for label, name in enumerate(classes)}
    artifacts.save_tensors(output, tensors, {"classes": classes})


def measure(
    latent_files: Sequence[Path],
    index_path: Path,
    samples: Mapping[str, Path],
    of: Mapping[str, Any],
    output: Path,
    points: Path,
    judged: Mapping[str, Path] | None = None,
    judged_originals: Path | None = None,
    not_judged: Mapping[str, str] | None = None,
) -> None:
    """Write the measures of every sample of every method.

    `output`, Parquet, one row a sample and space: `run`, `class`, `k`, `space`, `originals` (how
    many training images the class has), and the measures of the space; NaN are those of the others.
    In `latent`, and in `map`, the t-SNE shared by all methods: `diversity`, `representativeness`,
    `memorisation`, and repeated for each sample of a class, `modes_hit` (of as many k-means modes
    of the originals as there are samples). In `features` of a teacher: `OF_IMAGES`, and repeated
    for each sample of a run, `OF_SETS` (see `judging.Verdicts`).
    Its header has, of the teacher if there is one, `teacher`, `real` (what real images score) and
    `no_frechet`, and `not_judged`.
    `points`, Parquet: the map's coordinates `x`, `y` by `run` (or `originals`), `class`, `k`.

    Args:
        latent_files: those of the originals.
        index_path: says which originals are for training: the others are not compared with.
        samples: by run, a file of `embed`.
        of: the data set, IPC and generation seed they belong to.
        judged: of each run that the teacher judges, a file of `judge`.
        judged_originals: the file of `judge_originals`.
        not_judged: of each other run, why.

    Raises:
        UserError: a class that a file lacks; a run that is neither judged nor said not to be.
    """
    judged, not_judged = judged or {}, not_judged or {}
    if odd := [run for run in samples if (run in judged) == (run in not_judged)]:
        raise UserError(
            f"{odd[0]} is to be either judged, or in `not_judged` with the reason",
            "give the run's judgement, or say why it has none",
        )
    originals = Latents(latent_files, Index.read(index_path))
    classes = originals.classes
    found = {run: artifacts.load_tensors(path) for run, path in samples.items()}
    verdicts = None
    if judged and judged_originals:
        verdicts = Verdicts(judged, judged_originals, classes, of["generation_seed"])
    elif judged:
        raise UserError("sets are judged, and real images are not", "give `judged_originals`")
    rows, coordinates = [], []
    for name in classes:
        if missing := [run for run, held in found.items() if name not in held]:
            raise UserError(
                f"the distilled set of {missing[0]} has no class {name!r}",
                "delete its embedding under results/, and run again",
            )
        own = {run: held[name].flatten(1).numpy() for run, held in found.items()}
        real = originals.mean(name).flatten(1).numpy()
        mapped, own_mapped = measures.shared_map(real, own)
        for space, x, of_runs in (("latent", real, own), ("map", mapped, own_mapped)):
            for run, y in of_runs.items():
                rows.append(_rows(run, name, space, len(y), len(x), _in_latents(y, x, name)))
        for run, y in own.items():
            seen = verdicts.whole[run] | verdicts.of_class(run, name) if run in judged else {}
            rows.append(_rows(run, name, FEATURES, len(y), len(real), seen))
        for run, xy in {ORIGINALS: mapped, **own_mapped}.items():
            held = pd.DataFrame(xy, columns=["x", "y"])
            coordinates.append(held.assign(run=run, k=range(len(held)), **{"class": name}))
        few = "" if len(real) >= measures.NEAREST else f" (fewer than {measures.NEAREST})"
        print(f"{name}: {len(real)} originals{few}, {len(own)} methods", file=sys.stderr)
    header = {"classes": classes, "runs": list(samples), "of": dict(of)}
    header["not_judged"] = dict(not_judged)
    if verdicts:
        real = {key: None if np.isnan(value) else value for key, value in verdicts.real.items()}
        header |= {"teacher": verdicts.teacher, "real": real, "no_frechet": verdicts.no_frechet}
    artifacts.save_table(points, pd.concat(coordinates, ignore_index=True), header)
    artifacts.save_table(output, pd.concat(rows, ignore_index=True), header)


def _in_latents(
    samples: np.ndarray, originals: np.ndarray, name: str
) -> dict[str, np.ndarray | float]:
    wide = np.ascontiguousarray(originals, dtype=np.float32)
    modes = centroids(wide, min(len(samples), len(wide)), name)
    found = (
        measures.diversity(samples),
        measures.representativeness(samples, originals),
        measures.memorisation(samples, originals),
        measures.modes_hit(samples, modes),
    )
    return dict(zip(IN_LATENTS, found, strict=True))


def _rows(
    run: str,
    name: str,
    space: str,
    ipc: int,
    originals: int,
    found: Mapping[str, np.ndarray | float],
) -> pd.DataFrame:
    """The rows of a class of a run in one space; NaN what was not found."""
    every = dict.fromkeys((*IN_LATENTS, *OF_SETS, *OF_IMAGES), np.nan)
    head = {"run": run, "class": name, "k": range(ipc), "space": space, "originals": originals}
    return pd.DataFrame({**head, **every, **found})
