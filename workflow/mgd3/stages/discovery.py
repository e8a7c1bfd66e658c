"""The job of mode discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from . import fields, formats
from .contract import Job
from .fields import Choice, OutFile


def _discoveries() -> list[str]:
    from ..discovery import DISCOVERIES

    return list(DISCOVERIES)


class Modes(Job, version=4):
    """Find k = IPC modes per class."""

    latents: formats.Latents
    mirrored: Annotated[formats.Latents, "latents of the mirrored images"] | None = None
    index: formats.Index
    discovery: Annotated[str, Choice(_discoveries)]
    pca: Annotated[fields.Positive, "components in which to cluster"] | None = None
    draw: Annotated[
        str, Choice(lambda: ("mean", "sample")), "what of an image's posterior is clustered"
    ] = "mean"
    ipc: fields.Positive
    generation_seed: fields.Count
    output: Annotated[Path, OutFile(".safetensors")]
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..discovery.modes import discover

        discover(
            self.latents,
            self.index,
            self.discovery,
            self.ipc,
            self.generation_seed,
            self.output,
            self.pca,
            self.draw,
            self.mirrored or [],
        )
