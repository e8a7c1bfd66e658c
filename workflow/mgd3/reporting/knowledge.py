"""What the networks behind a row have been trained on: what its images and labels may know.

A method that is given a network of ImageNet may beat one that is not by that alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base.errors import UserError
from ..evaluation.protocols import PROTOCOLS
from ..generators.registry import LABELLED_IMAGENET, TEXT_IMAGE_PAIRS, get_generator
from ..methods import METHODS
from ..teachers import IMAGENET, trained_on

OWN = "own"
UNSAID = "unsaid"
# As columns have them, in this order, and what they stand for.
MEANINGS = {
    OWN: "the data set's own train split",
    LABELLED_IMAGENET: "ImageNet-1K, images and labels",
    TEXT_IMAGE_PAIRS: "pairs of texts and images",
    UNSAID: "whatever the generator was trained on, which its files do not say",
}
_SEPARATOR = " + "


def knows(
    method: str, generator: str | None, settings: Mapping[str, Any], protocol: str, dataset: str
) -> str:
    """For instance `own + ImageNet`: of generator, teacher, chooser and labels together.

    Args:
        settings: of the run.
        protocol: its name; its teacher's labels count, too.
    """
    found: set[str] = set()
    needs = METHODS[method].needs if method in METHODS else ()
    if needs != ("generator",):  # without modes, real images or a teacher nothing else is known
        found.add(OWN)
    if generator is not None:
        found |= _of_generator(generator)
    if "teacher" in needs:
        whole = {**METHODS[method].defaults_of(settings), **settings}
        found.add(_of_teacher(trained_on(whole["teacher"], dataset)))
    entry = PROTOCOLS.get(protocol)
    if teacher := getattr(entry, "teacher", None):
        found.add(_of_teacher(entry.teacher_data or trained_on(teacher, dataset)))
    return _SEPARATOR.join(name for name in MEANINGS if name in found)


def _of_generator(name: str) -> set[str]:
    try:
        entry = get_generator(name)
    except UserError:  # a folder that has gone since
        return {UNSAID}
    if entry.knows is None:
        return {UNSAID}
    own = {OWN} if entry.of_dataset or entry.dataset else set()
    base = _of_generator(entry.finetune.base) if entry.finetune else set()
    return own | base | set(entry.knows)


def _of_teacher(seen: str) -> str:
    return LABELLED_IMAGENET if seen == IMAGENET else OWN


def more(row: str, other: str) -> list[str]:
    """What a row knows that another does not."""
    return [part for part in row.split(_SEPARATOR) if part not in other.split(_SEPARATOR)]


def legend(found: Iterable[str]) -> str:
    """The parts that occur, and what they stand for."""
    held = {part for text in found for part in text.split(_SEPARATOR)}
    return "; ".join(f"{part}: {text}" for part, text in MEANINGS.items() if part in held)
