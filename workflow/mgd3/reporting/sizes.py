"""At which size images are judged, where it is another than they were made at."""

from __future__ import annotations

from ..data.registry import DATASETS
from ..evaluation.protocols import PROTOCOLS


def size_note(dataset: str, size: int, protocol: str) -> str:
    """Says that a protocol judges the images of a data set at another size than theirs, or "".

    The published protocols judge ImageNet at theirs, and are not remarked on where its images are
    made as published. Of a protocol that is not registered (here), nothing is known.

    Args:
        size: the data set's, pixels.
    """
    judged = PROTOCOLS[protocol].size if protocol in PROTOCOLS else size
    entry = DATASETS.get(dataset)
    published = entry is not None and entry.root in ("imagenet", "archive") and size == entry.size
    if published or judged == size:
        return ""
    return (
        f"images of {dataset} have {size} px (`size` of the data set), and protocol {protocol} "
        f"judges them at {judged} px"
    )
