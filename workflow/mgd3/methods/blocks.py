"""Stages `sample` and `collect`: blocks of a distilled set, and the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base import artifacts
from ..base.errors import UserError
from . import Job, distiller


def make_block(method: str, job: Job, output: Path) -> None:
    """Make the images of some classes with a method: uint8 [ipc, 3, S, S] keyed by class."""
    import torch  # `collect` does without

    images = distiller(method)(job)
    for name, of_class in images.items():
        if of_class.shape[0] != job.ipc or of_class.dtype != torch.uint8:
            raise UserError(
                f"method {method} made {tuple(of_class.shape)} {of_class.dtype} for {name!r}",
                f"expected {job.ipc} uint8 images",
            )
    metadata = {
        "method": method,
        "settings": job.settings,
        "ipc": job.ipc,
        "generation_seed": job.generation_seed,
        "classes": job.classes,
    }
    artifacts.save_tensors(output, images, metadata)


def collect(blocks: Sequence[Path], classes: Sequence[str], output: Path, manifest: Path) -> None:
    """Join blocks to one set: `images` uint8 [N, 3, S, S] and `labels` int64 [N], by class.

    The manifest is Parquet: `row`, `class`, `label`, `k` (the mode that guided the image).
    """
    source_of: dict[str, Path] = {}
    sources = {}
    for block in blocks:
        metadata = artifacts.tensor_metadata(block)
        source_of |= dict.fromkeys(metadata["classes"], block)
        sources[block.name] = artifacts.sha256_of(block)
    if missing := [name for name in classes if name not in source_of]:
        raise UserError(
            f"no images of class {missing[0]!r} in {len(blocks)} blocks",
            "delete the blocks and run again",
        )
    settings: dict[str, Any] = {k: metadata[k] for k in ("method", "settings", "generation_seed")}
    images = _joined(classes, source_of)
    rows = [(n, label, k) for label, n in enumerate(classes) for k in range(images.shape[1])]
    table = pd.DataFrame(rows, columns=["class", "label", "k"])
    table.insert(0, "row", range(len(table)))
    header = {"classes": list(classes), "blocks": sources, **settings}
    artifacts.save_table(manifest, table, header)
    joined = images.reshape(-1, *images.shape[2:])
    labels = table["label"].to_numpy(np.int64)
    artifacts.save_arrays(output, {"images": joined, "labels": labels}, header)


def _joined(classes: Sequence[str], source_of: dict[str, Path]) -> np.ndarray:
    """Images of all classes in order [classes, ipc, 3, S, S]; one block at a time beside them."""
    label_of = {name: label for label, name in enumerate(classes)}
    images = np.empty(0)
    for block in sorted(set(source_of.values())):
        own = [name for name in classes if source_of[name] == block]
        for name, of_class in artifacts.load_arrays(block, own).items():
            if not len(images):
                images = np.empty((len(classes), *of_class.shape), of_class.dtype)
            images[label_of[name]] = of_class
    return images
