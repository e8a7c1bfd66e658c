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
from . import ORIGINALS, measures
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
) -> None:
    """Write the measures of every sample of every method.

    `output`, Parquet, one row a sample and space (`latent`, or `map`: the t-SNE shared by all
    methods): `run`, `class`, `k`, `space`, `diversity`, `representativeness`, `memorisation`, and
    repeated for each sample of a class, `coverage` (of as many k-means modes of the originals as
    there are samples), `precision`, `recall`, `originals` (their number). From the teacher, the
    same in both spaces and NaN where there is none: `agreement`, whether it sees the sample's class
    in it (0 or 1), and `frechet`, one number for a run (see `judging.Verdicts`).
    `points`, Parquet: the map's coordinates `x`, `y` by `run` (or `originals`), `class`, `k`.

    Args:
        latent_files: those of the originals.
        index_path: says which originals are for training: the others are not compared with.
        samples: by run, a file of `embed`.
        of: the data set, IPC and generation seed they belong to.
        judged: by run, a file of `judge`.
        judged_originals: the file of `judge_originals`.

    Raises:
        UserError: a class that a file lacks.
    """
    originals = Latents(latent_files, Index.read(index_path))
    classes = originals.classes
    found = {run: artifacts.load_tensors(path) for run, path in samples.items()}
    verdicts = None
    if judged and judged_originals:
        verdicts = Verdicts(judged, judged_originals, classes, of["generation_seed"])
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
                measured = _measured(run, name, space, y, x)
                measured["agreement"] = verdicts.agreement(run, name) if verdicts else np.nan
                measured["frechet"] = verdicts.frechet[run] if verdicts else np.nan
                rows.append(measured)
        for run, xy in {ORIGINALS: mapped, **own_mapped}.items():
            held = pd.DataFrame(xy, columns=["x", "y"])
            coordinates.append(held.assign(run=run, k=range(len(held)), **{"class": name}))
        few = "" if len(real) >= measures.NEAREST else f" (fewer than {measures.NEAREST})"
        print(f"{name}: {len(real)} originals{few}, {len(own)} methods", file=sys.stderr)
    header = {"classes": classes, "runs": list(samples), "of": dict(of)}
    if verdicts:
        header |= {"teacher": verdicts.teacher, "frechet_real": verdicts.real}
    artifacts.save_table(points, pd.concat(coordinates, ignore_index=True), header)
    artifacts.save_table(output, pd.concat(rows, ignore_index=True), header)


def _measured(
    run: str, name: str, space: str, samples: np.ndarray, originals: np.ndarray
) -> pd.DataFrame:
    wide = np.ascontiguousarray(originals, dtype=np.float32)
    modes = centroids(wide, min(len(samples), len(wide)), name)
    precision, recall = measures.precision_recall(samples, originals)
    return pd.DataFrame(
        {
            "run": run,
            "class": name,
            "k": range(len(samples)),
            "space": space,
            "diversity": measures.diversity(samples),
            "representativeness": measures.representativeness(samples, originals),
            "memorisation": measures.memorisation(samples, originals),
            "coverage": measures.coverage(samples, modes),
            "precision": precision,
            "recall": recall,
            "originals": len(originals),
        }
    )
