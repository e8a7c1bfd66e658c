"""Stage `modes`: k = IPC modes per class in latent space (paper, section 3.1)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..base import artifacts
from ..base.errors import UserError
from ..data.index import Index
from ..generators.latents import Latents
from .clustering import find_modes


def discover(
    latent_files: Sequence[Path],
    index_path: Path,
    discovery: str,
    ipc: int,
    generation_seed: int,
    output: Path,
    pca: int | None = None,
    draw: str = "mean",
    mirrored_files: Sequence[Path] = (),
) -> None:
    """Write the modes of every class of a data set: float32 [ipc, C, h, w] keyed by class.

    Args:
        draw: what of an image's posterior is clustered: its "mean", or one "sample".
        mirrored_files: latents of the mirrored images, to be clustered with the others.

    Metadata: `images`, for modes that are real images the image key of each, else empty;
    `mirrored`, which of those (0-based) are their mirror images; `filled`, for classes where an
    algorithm found too few modes, how many are real images in their place.

    Raises:
        UserError: a class with fewer images than modes, or latents that are not finite.
    """
    index = Index.read(index_path)
    sides = [Latents(files, index) for files in (latent_files, mirrored_files) if files]
    modes, images, mirrored, filled = {}, {}, {}, {}
    for name in index.classes:
        keys = sides[0].images(name)
        z = torch.cat(
            [side.sample(name) if draw == "sample" else side.mean(name) for side in sides]
        )
        if len(keys) < ipc:
            raise UserError(
                f"class {name!r} has {len(keys)} training images, fewer than ipc = {ipc} modes",
                "lower `ipc` in the config, or add images of the class",
            )
        x = np.ascontiguousarray(z.flatten(1).numpy())
        found = find_modes(x, discovery, ipc, name, generation_seed, pca)
        held = np.array(found.modes, dtype=np.float32)
        modes[name] = torch.from_numpy(held).reshape(ipc, *z.shape[1:])
        rows = [] if found.rows is None else found.rows.tolist()
        images[name] = [keys[row % len(keys)] for row in rows]
        mirrored[name] = [k for k, row in enumerate(rows) if row >= len(keys)]
        if found.filled:
            filled[name] = found.filled
            print(
                f"{name}: {discovery} found {ipc - found.filled} clusters; {found.filled} of "
                f"{ipc} modes are the real latents farthest from the others",
                file=sys.stderr,
            )
    print(f"{discovery}: {ipc} modes for each of {len(modes)} classes", file=sys.stderr)
    artifacts.save_tensors(
        output,
        modes,
        {
            "discovery": discovery,
            "pca": pca,
            "draw": draw,
            "ipc": ipc,
            "classes": [*modes],
            "images": images,
            "mirrored": mirrored,
            "filled": filled,
        },
    )
