"""Stages `tune-sample`, `tune-proxy`, `tune-train`: one distilled set of a setting, and its judges.

None of them is given test images.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import artifacts
from ..data.index import Index
from ..discovery.clustering import centroids
from ..evaluation.stage import evaluate
from ..generators.latents import Latents
from ..generators.vae import load_vae, to_size
from ..methods import Job, distiller
from ..metrics.judging import Seen, look
from ..metrics.measures import modes_hit
from ..teachers import TEACHER_FILES, load
from .rungs import SLOT, require_slot, slot_of

_CHUNK = 256


def sample(method: str, job: Job, rung: Path, slot: int, output: Path) -> None:
    """Make the distilled set of a slot's setting, as `collect` writes sets.

    Args:
        job: of all classes, with the settings of the run that is tuned.
        rung: the rung's settings.
    """
    about = slot_of(rung, slot)
    job = replace(job, settings={**job.settings, **about["point"]})
    made = distiller(method)(job)
    images = torch.cat([made[name] for name in job.classes])
    labels = torch.arange(len(job.classes)).repeat_interleave(job.ipc)
    metadata = {
        "classes": job.classes,
        "method": method,
        "settings": job.settings,
        "generation_seed": job.generation_seed,
        **about,
    }
    artifacts.save_tensors(output, {"images": images, "labels": labels}, metadata)


def _of_trial(distilled: Path, rung: Path, slot: int) -> dict[str, Any]:
    """What a score says of the set that it is of. Raises UserError where that is not the slot's."""
    metadata = artifacts.tensor_metadata(distilled, {**SLOT, "generation_seed": int})
    require_slot(distilled, metadata, rung, slot)
    return {key: metadata[key] for key in (*SLOT, "generation_seed")}


def proxy(
    distilled: Path,
    rung: Path,
    slot: int,
    latent_files: Sequence[Path],
    index: Path,
    vae_folder: Path,
    size: int,
    teacher_folder: Path,
    output: Path,
    device: str = "cpu",
) -> None:
    """Judge a distilled set without training, by what it stands for and whether it is recognised.

    Writes JSON: `modes_hit`, the share of the training images' modes (k-means centroids, as many
    as there are images in the set) that are nearest to some image's latent; `agreement`, the share
    of the images that the teacher takes for their class, of all classes that it knows, and
    `log_probability`, its mean of that class; and `score`, the share of the modes that are nearest
    to an image which the teacher takes for its class. Means over classes.

    Args:
        rung, slot: that the set is of.
        latent_files: of the originals, encoded at `size` px by the VAE of `vae_folder`.

    Raises:
        UserError: the set is of another slot.
    """
    trial = _of_trial(distilled, rung, slot)
    held = artifacts.load_tensors(distilled, ["images", "labels"])
    originals = Latents(latent_files, Index.read(index))
    samples = _encoded(held["images"], vae_folder, size, device)
    seen = _seen(held["images"], held["labels"], teacher_folder, originals.classes, device)
    recognised = seen.agrees.numpy()
    hit, scores = [], []
    for label, name in enumerate(originals.classes):
        own = (held["labels"] == label).numpy()
        real = np.ascontiguousarray(originals.mean(name).flatten(1).numpy())
        modes = centroids(real, min(int(own.sum()), len(real)), name)
        hit.append(modes_hit(samples[own], modes))
        good = own & recognised
        scores.append(modes_hit(samples[good], modes) if good.any() else 0.0)
    found = {
        "modes_hit": float(np.mean(hit)),
        "agreement": float(recognised.mean()),
        "log_probability": float(seen.log_probability.mean()),
        "score": float(np.mean(scores)),
    }
    print(", ".join(f"{key} {value:.3f}" for key, value in found.items()), file=sys.stderr)
    artifacts.save_json(output, {**trial, **found})


@torch.inference_mode()
def _encoded(images: Tensor, vae_folder: Path, size: int, device: str) -> np.ndarray:
    """Posterior means of the scaled latents, float32 [N, d]."""
    vae = load_vae(vae_folder, device=device)
    parts = [vae.encode(to_size(part.to(device), size))[0] for part in images.split(_CHUNK)]
    return torch.cat(parts).flatten(1).cpu().numpy()


def _seen(
    images: Tensor, labels: Tensor, folder: Path, classes: Sequence[str], device: str
) -> Seen:
    """What the teacher makes of images; `labels` count in `classes`."""
    name = artifacts.load_json(folder / TEACHER_FILES[1], {"teacher": str})["teacher"]
    network = load(folder, device)
    return look(images, network.rows_of(classes).cpu()[labels.long()], network, name)


def train(
    distilled: Path,
    rung: Path,
    slot: int,
    validation: Path,
    *,
    protocol: str,
    network: str,
    flip: bool,
    device: str,
    threads: int | None,
    output: Path,
) -> None:
    """Train a network on a distilled set and test it on held-out training images.

    Writes what `evaluate` writes, where the accuracy is of the validation split.

    Args:
        rung, slot: that the set is of.

    Raises:
        UserError: the set is of another slot.
    """
    trial = _of_trial(distilled, rung, slot)
    evaluate(
        distilled,
        validation,
        None,
        protocol=protocol,
        network=network,
        generation_seed=trial["generation_seed"],
        training_seed=0,
        flip=flip,
        device=device,
        threads=threads,
        context={**trial, "tested_on": "validation"},
        output=output,
        predictions=output.with_suffix(".safetensors"),
    )
