"""What a user should know before a run, and is no mistake: a sentence each, for the terminal."""

from __future__ import annotations

from ..base.errors import named_paths
from ..reporting.sizes import size_note
from .config import Config


@named_paths()
def notes(config: Config) -> list[str]:
    """What was left out of users' folders, and at which size images are judged that were made at
    another. From names alone: no image is read."""
    found = [f"{dataset.name}: {n}" for dataset in config.datasets for n in dataset.source.notes()]
    for dataset in config.datasets:
        for entry in config.evaluation:
            if note := size_note(dataset.name, dataset.size, entry["protocol"]):
                found.append(note)
    return found
