"""Which network measures distilled sets on its features, and which sets it must not judge.

A network that had a part in a set finds in it what it put there: one that guided or chose its
images, labels them for students, or chose the settings of its run. Importable without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..base.errors import UserError
from ..data.imagenet import imagenet_wnids
from ..data.registry import Dataset
from ..evaluation.protocols import SoftProtocol, get_protocol
from ..methods import METHODS
from ..teachers import IMAGENET, TEACHERS, trained_on
from .config import Config
from .tuning import Tuning

# For small images where the configuration names none: quick to train, the better one first.
_SMALL = ("resnet10-64", "conv3-32")


@dataclass(frozen=True)
class Judge:
    """The network that judges the distilled sets of a data set.

    Attributes:
        trained_on: the data set it was trained on.
        teacher: its name.
        classes: what it calls the data set's classes; None: as the data set does.
    """

    trained_on: str
    teacher: str
    classes: list[str] | None = None

    @property
    def network(self) -> tuple[str, str]:
        return self.trained_on, self.teacher


@dataclass(frozen=True)
class Judging:
    """How the distilled sets of a data set are judged.

    Attributes:
        judge: None where no network may judge a single one.
        not_judged: by run, why its sets are not judged.
    """

    judge: Judge | None
    not_judged: dict[str, str] = field(default_factory=dict)


def judging(config: Config, dataset: Dataset, searches: Iterable[Tuning]) -> Judging:
    """The network that `judge` names; without that, of those that are trained at hand the first
    that may judge most runs.

    Raises:
        UserError: the named one cannot be had for this data set.
    """
    runs = [run.slug for run in config.runs if METHODS[run.method].distils]
    parts = _parts(config, dataset, runs, searches)
    named = config.judge is not None
    judges = [named_judge(config.judge, dataset)] if named else _at_hand(config, dataset)
    if not judges:
        why = "no network to judge with (name one as `judge`)"
        return Judging(None, dict.fromkeys(runs, why))
    judge = min(judges, key=lambda one: len(parts.get(one.network, ())))
    out = parts.get(judge.network, {})
    return Judging(judge if len(out) < len(runs) else None, out)


def named_judge(teacher: str, dataset: Dataset) -> Judge:
    """A teacher for a data set: as it was trained for ImageNet-1K where all classes are of that,
    else trained on the data set itself.

    Raises:
        UserError: it can be neither.
    """
    recipe, known = TEACHERS[teacher], {*imagenet_wnids()}
    names = dataset.source.classes()
    wnids = [getattr(dataset.meanings.get(name), "wnid", None) for name in names]
    odd = next((name for name, wnid in zip(names, wnids, strict=True) if wnid not in known), None)
    if recipe.pretrained and odd is None:
        return Judge(IMAGENET, teacher, wnids)
    if recipe.ready:
        raise UserError(
            f"judge {teacher!r} knows the classes of ImageNet-1K, and class {odd!r} of "
            f"{dataset.name!r} has no wnid of them",
            "name it in the data set's `classes` file, or another network as `judge`",
        )
    return Judge(dataset.name, teacher)


def _at_hand(config: Config, dataset: Dataset) -> list[Judge]:
    """Networks that cost little, or that the configuration has anyway."""
    found = []
    if dataset.size <= TEACHERS[_SMALL[0]].size:
        found += [Judge(dataset.name, teacher) for teacher in _SMALL]
    for _, protocol in _soft(config):
        names = protocol.teacher_classes(dataset)
        found.append(Judge(protocol.teacher_data or dataset.name, protocol.teacher, names))
    for run in config.runs:
        if "teacher" in METHODS[run.method].needs:
            teacher = run.settings["teacher"]
            if not TEACHERS[teacher].ready:
                found.append(Judge(dataset.name, teacher))
            else:
                with suppress(UserError):  # features need no names of classes, but a judge does
                    found.append(named_judge(teacher, dataset))
    return found


def _soft(config: Config) -> list[tuple[str, SoftProtocol]]:
    held = ((entry["protocol"], get_protocol(entry["protocol"])) for entry in config.evaluation)
    return [(name, protocol) for name, protocol in held if isinstance(protocol, SoftProtocol)]


def _parts(
    config: Config, dataset: Dataset, runs: Sequence[str], searches: Iterable[Tuning]
) -> dict[tuple[str, str], dict[str, str]]:
    """By network, the runs that it had a part in, and which."""
    found: dict[tuple[str, str], dict[str, str]] = {}

    def add(data: str, teacher: str, run: str, what: str) -> None:
        found.setdefault((data, teacher), {}).setdefault(run, f"{teacher} {what}")

    for run in config.runs:
        if run.slug in runs and "teacher" in METHODS[run.method].needs:
            what = f"made or chose the images (method {run.method})"
            teacher = run.settings["teacher"]
            add(trained_on(teacher, dataset.name), teacher, run.slug, what)
    for name, protocol in _soft(config):
        for slug in runs:
            what = f"labels the images for students (protocol {name})"
            add(protocol.teacher_data or dataset.name, protocol.teacher, slug, what)
    for search in searches:
        tried = {*search.slugs} if search.dataset == dataset.name else set()
        for slug in tried & {*runs}:
            what = "may have chosen the settings (`tuning`)"
            add(search.teacher_data, search.teacher, slug, what)
    return found
