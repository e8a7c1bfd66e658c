"""What a generator is told of a class: its label row, or a prompt.

A generator trained on the data set at hand knows its classes by name (`id2label`). One trained on
ImageNet knows 1000 rows in the order of wnids, whatever folders there are; a text-to-image
generator is given prompts. Importable without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..base import artifacts
from ..base.errors import UserError, did_you_mean
from ..data.imagenet import imagenet_wnids
from .registry import GENERATORS, PIPELINES, GeneratorEntry

if TYPE_CHECKING:
    from ..data.registry import Dataset


class Conditions(NamedTuple):
    """The conditions of some classes.

    Attributes:
        rows: class -> label row of the generator.
        prompts: for a text-to-image generator, the prompt of each row; else None.
    """

    rows: dict[str, int]
    prompts: list[str] | None


def require_conditions(name: str, entry: GeneratorEntry, dataset: Dataset) -> None:
    """Raise the error of `conditions_of`, as far as it can be foreseen before any file is there.

    Args:
        name: the generator's name in the configuration.
    """
    classes = dataset.source.classes()
    if entry.folder is not None:
        conditions_of(entry.folder, dataset, classes)
    elif entry.family == "sd":
        _prompts(dataset, classes)
    elif name in GENERATORS and not entry.of_dataset:
        _imagenet_rows_of(name, dataset, classes)


def _count(config: Path, key: str) -> int:
    """How many classes a network's configuration says that it knows."""
    return artifacts.load_json(config, {key: int})[key]


def conditions_of(folder: Path, dataset: Dataset, classes: Sequence[str]) -> Conditions:
    """The conditions of some classes for the generator in a folder.

    Raises:
        UserError: a class that the generator does not know, or without a wnid or prompt.
    """
    index = artifacts.load_json(folder / "model_index.json", {"id2label?": dict})
    family = PIPELINES.get(str(index.get("_class_name")))
    if family == "sd":
        return Conditions(
            {name: row for row, name in enumerate(classes)}, _prompts(dataset, classes)
        )
    labels: dict[str, list[int]] = {}
    if family == "dit":
        for row, name in (index.get("id2label") or {}).items():
            labels.setdefault(name, []).append(int(row))
        count = _count(folder / "transformer" / "config.json", "num_embeds_ada_norm")
    else:
        count = _count(folder / "class_embedder" / "config.json", "num_classes")
    of_imagenet = count == len(imagenet_wnids())
    rows: dict[str, int] = {}
    missing = []
    for name in classes:
        meaning = dataset.meanings.get(name)
        wnid = meaning.wnid if meaning else None
        # What the user states wins over the name of the folder, which a row of another meaning may
        # have: two classes of ImageNet are called crane.
        if wnid in labels:
            rows[name] = _only_row(folder, wnid, labels[wnid], of_imagenet)
        elif wnid is not None and of_imagenet:
            rows |= _imagenet_rows_of(folder, dataset, [name])
        elif name in labels:
            rows[name] = _only_row(folder, name, labels[name], of_imagenet)
        else:
            missing.append(name)
    if missing and of_imagenet:
        _imagenet_rows_of(folder, dataset, missing)
    if missing:
        raise UserError(
            f"generator {folder} does not know class {missing[0]!r}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            f"{did_you_mean(missing[0], labels)} Its model_index.json names its classes",
        )
    return Conditions(rows, None)


def _only_row(folder: Path, name: str, rows: Sequence[int], of_imagenet: bool) -> int:
    """Raises UserError where a generator has several rows of one name."""
    if len(rows) > 1:
        raise UserError(
            f"generator {folder} has {len(rows)} classes that are called {name!r}: rows "
            f"{', '.join(map(str, rows))}",
            "say which is meant by its wnid (`classes` of the data set)"
            if of_imagenet
            else "give its classes names of their own (`id2label` in its model_index.json)",
        )
    return rows[0]


def _imagenet_rows_of(
    generator: str | Path, dataset: Dataset, classes: Sequence[str]
) -> dict[str, int]:
    rows = {wnid: row for row, wnid in enumerate(imagenet_wnids())}
    wnids = {name: meaning.wnid for name in classes if (meaning := dataset.meanings.get(name))}
    if unmatched := [name for name in classes if wnids.get(name) is None]:
        raise UserError(
            f"generator {generator} knows the classes of ImageNet, and class {unmatched[0]!r} of "
            f"{dataset.name} is not said to be one of them{_all_of(unmatched)}",
            "name its wnid (`classes` of the data set), or use a generator trained on it",
        )
    for name, wnid in wnids.items():
        if wnid not in rows:
            raise UserError(
                f"class {name!r} of {dataset.name}: {wnid} is not one of ImageNet-1K's 1000 wnids",
                did_you_mean(wnid, rows) if len(wnid) == 9 else "a wnid looks like n01440764",
            )
    return {name: rows[str(wnids[name])] for name in classes}


def _prompts(dataset: Dataset, classes: Sequence[str]) -> list[str]:
    prompts = {n: meaning.prompt for n in classes if (meaning := dataset.meanings.get(n))}
    if unmatched := [name for name in classes if not prompts.get(name)]:
        raise UserError(
            f"class {unmatched[0]!r} of {dataset.name} has no prompt, which Stable Diffusion needs"
            f"{_all_of(unmatched)}",
            "give one (`classes` of the data set)",
        )
    return [str(prompts[name]) for name in classes]


def _all_of(names: Sequence[str]) -> str:
    """The end of a message about the first of several classes."""
    if len(names) == 1:
        return ""
    return f"; so it is with {len(names) - 1} more:\n    " + "\n    ".join(names[1:])
