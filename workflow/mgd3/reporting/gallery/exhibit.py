"""Stage `exhibit`: images, the modes that guided them, and the real images nearest to them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from ...base import artifacts
from ...base.errors import UserError
from ...data.images import read_images, resize_tensor
from ...data.index import Index
from ...data.registry import Dataset
from ...generators.latents import Latents
from ...metrics.measures import diversity

# Images of a class that are shown: as many modes are decoded.
SHOWN_IMAGES = 10
# Pixels along a side that are kept of larger images: a page has no use for more.
LARGEST = 256
_CHUNK = 256


@dataclass(frozen=True)
class RealImages:
    """Where the nearest real images are sought.

    Attributes:
        dataset, index: whose training images.
        latents: files of `latents` of that data set.
        embedded: by run, the file of `embed`: its images in the same latent space.
    """

    dataset: Dataset
    index: Path
    latents: Sequence[Path]
    embedded: Mapping[str, Path]


def nearest(samples: np.ndarray, originals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The original nearest to each sample: its row, int [k], and how far it is, float64 [k].

    Args:
        samples: float [k, d].
        originals: float [n, d]; of equally near ones the first counts.
    """
    distance = cdist(samples, originals)
    rows = distance.argmin(axis=1)
    return rows, distance[np.arange(len(rows)), rows]


def exhibit(
    sets: Mapping[str, Path],
    classes: Sequence[str],
    of: Mapping[str, Any],
    output: Path,
    *,
    modes: Mapping[str, Path] | None = None,
    real: RealImages | None = None,
) -> None:
    """Write what the gallery shows of some classes, at most ten images of each and 256 pixels.

    Tensors, uint8 [k, 3 or 1, S, S]: `made/{run}/{class}`; `mode/{run}/{class}` of guided runs, the
    k-th of which guided the k-th image; `near/{run}/{class}`, the nearest training images of the
    class. Metadata: `of`, `runs`, `classes` and `known`, the number there are; `held`, images of a
    class in the sets, and `side`, the pixels along one; `nearest`, by run and class a list of
    `image` (its key), `distance`, and `ratio`, the distance over the usual one between training
    images (see `measures.memorisation`); `originals`, their number by class.

    Args:
        sets: by run, a distilled set.
        classes: those that are shown.
        of: `dataset`, `ipc`, `generation_seed`.
        modes: by run, a file of `decode_modes`.
        real: without it, no real images are shown.

    Raises:
        UserError: a class that a file lacks; images that changed since they were indexed.
    """
    tensors: dict[str, torch.Tensor] = {}
    held = side = 0
    for run, path in sets.items():
        found, most = _first_images(path, classes)
        held, side = max(held, most), max(side, artifacts.tensor_shape(path, "images")[-1])
        tensors |= {f"made/{run}/{name}": images for name, images in found.items()}
    for run, path in (modes or {}).items():
        found, _ = _first_images(path, classes)
        tensors |= {f"mode/{run}/{name}": images for name, images in found.items()}
    known = artifacts.tensor_metadata(next(iter(sets.values())))["classes"]
    header = {
        "of": dict(of),
        "runs": list(sets),
        "classes": list(classes),
        "known": len(known),
        "held": held,
        "side": side,
    }
    if real is not None:
        pixels, about = _nearest_images(real, classes)
        tensors |= pixels
        header |= about
    print(f"{len(sets)} sets, {len(classes)} of {len(known)} classes", file=sys.stderr)
    artifacts.save_tensors(output, tensors, header)


def _first_images(path: Path, classes: Sequence[str]) -> tuple[dict[str, torch.Tensor], int]:
    """The first images of some classes of a set, by class; and the most that it has of one.

    Only the beginning of a large set is read: it is sorted by class.
    """
    listed = artifacts.tensor_metadata(path).get("classes", [])
    if missing := [name for name in classes if name not in listed]:
        raise UserError(f"{path} has no class {missing[0]!r}", "delete it and run again")
    labels = artifacts.load_arrays(path, ["labels"])["labels"]
    rows = {n: np.flatnonzero(labels == listed.index(n))[:SHOWN_IMAGES] for n in classes}
    most = max((int((labels == listed.index(n)).sum()) for n in classes), default=0)
    last = max((int(r[-1]) for r in rows.values() if len(r)), default=-1)
    parts, read = [], 0
    for part in artifacts.tensor_rows(path, "images", _CHUNK):
        parts.append(part)
        read += len(part)
        if read > last:
            break
    images = torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 3, 1, 1), np.uint8))
    found = {n: images[torch.from_numpy(r)] for n, r in rows.items()}
    if images.shape[-1] > LARGEST:
        found = {n: resize_tensor(x, LARGEST) for n, x in found.items()}
    return found, most


def _nearest_images(
    real: RealImages, classes: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    index = Index.read(real.index)
    originals = Latents(real.latents, index)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {run: {} for run in real.embedded}
    counts = {}
    for name in classes:
        keys = originals.images(name)
        z = originals.mean(name).flatten(1).numpy()
        usual = float(np.median(diversity(z)))  # as in measures.memorisation
        counts[name] = len(keys)
        for run, path in real.embedded.items():
            own = artifacts.load_arrays(path, [name])[name][:SHOWN_IMAGES]
            rows, distances = nearest(own.reshape(len(own), -1), z)
            found[run][name] = [
                {
                    "image": keys[row],
                    "distance": float(f"{distance:.4g}"),
                    "ratio": float(f"{distance / usual:.3g}") if usual > 0 else None,
                }
                for row, distance in zip(rows, distances, strict=True)
            ]
    wanted = sorted({i["image"] for of in found.values() for row in of.values() for i in row})
    index.require_unchanged(real.dataset.source, wanted)
    pixels = read_images(real.dataset.source, wanted, min(real.dataset.size, LARGEST))
    place = {key: row for row, key in enumerate(wanted)}
    tensors = {
        f"near/{run}/{name}": pixels[[place[item["image"]] for item in row]]
        for run, of in found.items()
        for name, row in of.items()
    }
    return tensors, {"nearest": found, "originals": counts}
