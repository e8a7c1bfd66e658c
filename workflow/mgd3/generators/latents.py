"""Stage `latents`: real images of some classes through the VAE's encoder, once; and reading them.

A file holds a block of classes, and of each class all images that are not for test: what splits a
data set makes of them does not enter, so data sets of one origin share the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..base import artifacts
from ..base.device import network_dtype
from ..base.errors import UserError
from ..base.progress import Progress
from ..base.seeding import Draw, torch_generator
from ..data.images import prefetched, settle_undecodable
from ..data.index import Index
from ..data.registry import Dataset

_CHUNK = 256


def encode(
    dataset: Dataset,
    vae_folder: Path,
    classes: list[str],
    size: int,
    output: Path,
    device: str = "cpu",
    mirrored: bool = False,
    precision: str = "float32",
) -> None:
    """Write posterior means and log-variances of images cropped to `size`, scaled, keyed by class.

    The file holds float32 `mean/{class}` and `logvar/{class}`, each [n, C, h, w], and in its
    metadata `images`, the image keys of each class in the same order, and `undecodable`, the keys
    that were left out.

    Args:
        mirrored: encode the crops' mirror images.
        precision: of the encoder, float32 or bfloat16.

    Raises:
        UserError: undecodable images, all of them named; or latents that are not finite.
    """
    from .vae import load_vae  # imports diffusers, which readers of latents do not need

    vae = load_vae(vae_folder, device=device, dtype=network_dtype(precision, device))
    keys = {name: dataset.source.training_images(name) for name in classes}
    chunks = [
        (name, keys[name][start : start + _CHUNK])
        for name in classes
        for start in range(0, len(keys[name]), _CHUNK)
    ]
    means: dict[str, list[torch.Tensor]] = {name: [] for name in classes}
    logvars: dict[str, list[torch.Tensor]] = {name: [] for name in classes}
    images: dict[str, list[str]] = {name: [] for name in classes}
    errors: list[UserError] = []
    decoded = prefetched(dataset.source, [chunk for _, chunk in chunks], size)
    with Progress(sum(map(len, keys.values())), "Encoding", "images") as bar:
        for (name, chunk), read in zip(chunks, decoded, strict=True):
            errors += read.errors
            # Of a run that will fail, only the rest of the undecodable images is of interest.
            if read.images and not (errors and dataset.undecodable == "fail"):
                pixels = read.pixels.flip(-1) if mirrored else read.pixels
                mean, logvar = vae.encode(pixels.to(device))
                means[name].append(mean.cpu())
                logvars[name].append(logvar.cpu())
                images[name] += read.images
            bar.update(len(chunk))
    whose = f"training images of {dataset.name}"
    settle_undecodable(errors, dataset.undecodable, whose, sum(map(len, keys.values())))
    tensors = {}
    for name in classes:
        if not means[name]:
            raise UserError(f"class {name!r} has no image that can be decoded", "add some")
        tensors[f"mean/{name}"] = torch.cat(means.pop(name))
        tensors[f"logvar/{name}"] = torch.cat(logvars.pop(name))
        require_finite(tensors[f"mean/{name}"], name, str(vae_folder))
    metadata = {
        "classes": classes,
        "images": images,
        "undecodable": {name: sorted({*keys[name]} - {*images[name]}) for name in classes},
        "size": size,
        "mirrored": mirrored,
        "precision": precision,
    }
    artifacts.save_tensors(output, tensors, metadata)


def require_finite(latents: torch.Tensor, name: str, origin: str) -> None:
    """Raises UserError when latents of a class hold NaN or infinity."""
    if not torch.isfinite(latents).all():
        raise UserError(
            f"latents of class {name!r} from {origin} hold NaN or infinite values",
            "check the VAE's weights; with float16, use bfloat16 or float32",
        )


class Latents:
    """The latents of a data set's train split, whatever blocks they lie in.

    Args:
        files: blocks as `encode` writes them; they may hold more classes and more images.
        index: of the data set; says which images are in its train split.

    Raises:
        UserError: a class of the data set is in none of the files.
    """

    def __init__(self, files: Sequence[Path], index: Index) -> None:
        self.index = index
        self._blocks: dict[str, tuple[Path, dict[str, Any]]] = {}
        for file in files:
            metadata = artifacts.tensor_metadata(file)
            self._blocks |= dict.fromkeys(metadata["classes"], (file, metadata))
        if missing := [name for name in index.classes if name not in self._blocks]:
            raise UserError(
                f"no latents of class {missing[0]!r} in {len(files)} files",
                "make them: snakemake --forcerun latents",
            )

    @property
    def classes(self) -> list[str]:
        """Class keys in label order."""
        return self.index.classes

    def images(self, name: str) -> list[str]:
        """Keys of the train images of a class, in the order of `mean` and `logvar`.

        Raises:
            UserError: an image of the train split has not been encoded.
        """
        file, metadata = self._blocks[name]
        held = set(metadata["images"][name])
        left_out = set(metadata["undecodable"][name])
        images = [key for key in self.index.images(name, "train") if key not in left_out]
        if missing := [key for key in images if key not in held]:
            raise UserError(
                f"{file} holds no latents of {missing[0]} ({len(missing)} missing): images were "
                "added since it was made",
                "delete it and run again",
            )
        return images

    def _rows(self, name: str, what: str) -> torch.Tensor:
        file, metadata = self._blocks[name]
        row_of = {key: row for row, key in enumerate(metadata["images"][name])}
        rows = [row_of[key] for key in self.images(name)]
        tensor = artifacts.load_tensors(file, [f"{what}/{name}"])[f"{what}/{name}"]
        require_finite(tensor, name, str(file))
        return tensor if rows == list(range(len(tensor))) else tensor[rows]

    def mean(self, name: str) -> torch.Tensor:
        """Posterior means of the scaled latents, float32 [n, C, h, w]."""
        return self._rows(name, "mean")

    def logvar(self, name: str) -> torch.Tensor:
        """Posterior log-variances of the scaled latents, float32 [n, C, h, w]."""
        return self._rows(name, "logvar")

    def sample(self, name: str) -> torch.Tensor:
        """One draw from each posterior, float32 [n, C, h, w]: each image's own, always the same."""
        mean, logvar = self.mean(name), self.logvar(name)
        _, metadata = self._blocks[name]
        side = ("mirrored",) if metadata.get("mirrored") else ()
        noise = torch.stack(
            [
                torch.randn(
                    mean.shape[1:], generator=torch_generator(Draw.POSTERIOR, name, key, *side)
                )
                for key in self.images(name)
            ]
        )
        return mean + (0.5 * logvar).exp() * noise
