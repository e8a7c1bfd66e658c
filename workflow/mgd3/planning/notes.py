"""What a user should know before a run, and is no mistake: a sentence each, for the terminal."""

from __future__ import annotations

from ..base.errors import named_paths
from ..data.registry import NAMED, Dataset
from ..evaluation.protocols import get_protocol
from .config import Config


@named_paths()
def notes(config: Config) -> list[str]:
    """What was left out of users' folders, and at which size images are judged that were made at
    another. From names alone: no image is read."""
    found = [f"{dataset.name}: {n}" for dataset in config.datasets for n in dataset.source.notes()]
    for dataset in config.datasets:
        for entry in config.evaluation:
            if note := size_note(dataset, entry["protocol"]):
                found.append(note)
    return found


def size_note(dataset: Dataset, protocol: str) -> str:
    """Says that a protocol judges a data set of the user's at another size than its own, or "".

    The published protocols judge ImageNet at theirs, whatever it was made at.
    """
    size = get_protocol(protocol).size
    if dataset.name in NAMED or size == dataset.size:
        return ""
    return (
        f"images of {dataset.name} have {dataset.size} px (`size` of the data set), and protocol "
        f"{protocol} judges them at {size} px"
    )
