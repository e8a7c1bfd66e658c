"""What a user should know before a run, and is no mistake: a sentence each, for the terminal."""

from __future__ import annotations

from ..base.errors import named_paths
from ..generators.registry import get_generator
from ..reporting.sizes import size_note
from .config import Config


@named_paths()
def notes(config: Config) -> list[str]:
    """What was left out of users' folders, and at which size images are judged that were made at
    another; generators that may be another one tomorrow. From names alone: no image is read."""
    found = [f"{dataset.name}: {n}" for dataset in config.datasets for n in dataset.source.notes()]
    for dataset in config.datasets:
        for entry in config.evaluation:
            if note := size_note(dataset.name, dataset.size, entry["protocol"]):
                found.append(note)
    for name in sorted({run.generator for run in config.runs if run.generator}):
        found += [
            f"{name}: {hub.repository} has no commit, and is known by {hub.revision!r}: what "
            "that is when it is fetched first. Write @ and a commit for numbers to make again"
            for hub in get_generator(name).hub
            if not hub.is_pinned
        ]
    return found
