"""What a configuration resolves to: data sets, and runs with every setting.

Importable without torch, so that every mistake is named before any job starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import UserError, named_paths
from ..base.identity import component
from ..base.paths import expanded
from ..data.archives import archive_images
from ..data.registry import DATASETS, Dataset, make_dataset
from ..evaluation.protocols import get_protocol
from ..generators.conditions import require_conditions
from ..generators.registry import get_generator, slug_of
from ..methods import external, get_method
from ..networks.names import TIMM, get_network
from ..teachers import names_for
from .overrides import applied
from .reading import read_configs
from .schema import TuningChoice, as_list, check, schema

__all__ = ["Config", "Run", "check", "preflight", "read_configs", "resolve", "schema"]


@dataclass(frozen=True)
class Run:
    """One row of the table: a method with every setting resolved.

    Attributes:
        slug: its name in paths; holds every setting that changes its images.
        settings: what the method's `distil` is given.
        generator: the generator's name in the configuration, if it has one.
        trials: how many settings its own were chosen from, if they were.
    """

    slug: str
    method: str
    label: str
    generator: str | None
    settings: dict[str, Any]
    trials: int | None = None

    def row(self) -> dict[str, Any]:
        """As the tables want it."""
        return {
            "run": self.slug,
            "label": self.label,
            "method": self.method,
            "generator": self.generator,
            "trials": self.trials,
        }


@dataclass(frozen=True)
class Config:
    """A checked configuration with every default filled in.

    Attributes:
        run_choices: the runs as written, sweeps not unfolded.
        tuning: with defaults; `tuning.plan` resolves it when it is asked for.
        tunes: whether the configuration itself says what is tuned.
        judge: the network on whose features sets are measured; None: see `judges.judging`.
    """

    name: str
    datasets: list[Dataset]
    dataset_choices: list[Any]
    ipc: list[int]
    generation_seeds: list[int]
    runs: list[Run]
    run_choices: list[dict[str, Any]]
    evaluation: list[dict[str, Any]]
    tuning: list[dict[str, Any]]
    tunes: bool
    judge: str | None
    device: str
    batch: int | str
    compile: bool
    classes_per_block: int | str
    cache_dir: str


def _expand(choice: Mapping[str, Any]) -> list[Run]:
    names = get_method(choice["method"]).swept()
    swept = {key: as_list(value) for key, value in choice.items() if key in names}
    fixed = {key: value for key, value in choice.items() if key not in names}
    order = sorted(swept, key=places(choice["method"]).__getitem__)
    return [
        resolve_run({**fixed, **dict(zip(order, values, strict=True))})
        for values in itertools.product(*(swept[key] for key in order))
    ]


def places(method: str) -> dict[str, int]:
    """The order of what a method takes, in slugs and in a sweep's rows."""
    owner = get_method(method)
    return {
        key: field.setting.place for key, field in {**owner.also_taken(), **owner.fields()}.items()
    }


def resolve_run(choice: Mapping[str, Any]) -> Run:
    """A run whose settings are single values, no lists, with every default filled in.

    Raises:
        UserError: settings that do not go together.
    """
    name, method = choice["method"], get_method(choice["method"])
    generator = choice.get("generator")
    defaults = method.defaults_of(choice)
    if generator is not None:
        own = get_generator(generator).defaults
        defaults |= {key: value for key, value in own.items() if key in defaults}
    settings = {key: choice[key] if key in choice else defaults[key] for key in method.fields()}
    method.require_feasible(settings)
    parts = [name, *([slug_of(generator)] if generator is not None else [])]
    slug = "_".join([*parts, *method.slug_parts(settings, defaults)])
    slug = component(slug)
    label = _label(name, settings, generator)
    return Run(slug, name, label, generator, settings, choice.get("trials"))


def _label(
    method: str, settings: Mapping[str, Any], generator: str | None, several: bool = False
) -> str:
    """The row's name in tables, with the generator where the table has rows of several."""
    owner = get_method(method)
    label = owner.title(settings, generator)
    if several and generator is not None:
        label += f", {generator}"
    parts = owner.label_parts(settings)
    return f"{label} ({', '.join(parts)})" if parts else label


@named_paths()
def resolve(raw: Mapping[str, Any]) -> Config:
    """Check a configuration and fill in every default.

    Raises:
        UserError: one message naming the key, the value and what is allowed.
    """
    raw = applied(raw)
    check(raw)
    root = raw.get("imagenet_root", "data/imagenet")
    cache = raw.get("cache_dir", "results/cache")
    choices = [_with_root(choice, root, cache) for choice in raw["datasets"]]
    datasets = [make_dataset(choice) for choice in choices]
    runs = [run for choice in raw["runs"] for run in _expand(choice)]
    if len({run.generator for run in runs if run.generator}) > 1:
        runs = [
            replace(r, label=_label(r.method, r.settings, r.generator, several=True)) for r in runs
        ]
    for kind, names in (
        ("data set", [d.name for d in datasets]),
        ("run", [r.slug for r in runs]),
        ("evaluation", [e["protocol"] for e in raw["evaluation"]]),
    ):
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{kind} {twice[0]!r} is listed twice", "remove one of them")
    _require_no_copies([dataset.name for dataset in datasets])
    for run in runs:
        for dataset in datasets:
            if run.settings.get("flips") and not dataset.flip:
                raise UserError(
                    f"flips of {run.method!r}: a mirrored image of {dataset.name} does not keep "
                    "its class",
                    "remove `flips` from the run, or say `flip: true` of the data set",
                )
        bound = get_generator(run.generator).dataset if run.generator else None
        for dataset in datasets:
            if bound not in (None, dataset.name):
                raise UserError(
                    f"generator {run.generator!r} knows only the data set {bound!r}, "
                    f"not {dataset.name!r}",
                    "use small-dit, which is trained on the data set at hand",
                )
        for dataset in datasets:
            if run.settings.get("network"):
                get_network(run.settings["network"], run.settings["size"] or dataset.size)
            if get_method(run.method).asks_for_classes:
                names_for(run.settings["teacher"], dataset, dataset.source.classes())
    for entry in raw["evaluation"]:
        protocol = get_protocol(entry["protocol"])
        for network in entry["networks"]:
            get_network(network, protocol.size, protocol.networks)
        for dataset in datasets:
            protocol.require_dataset(dataset)
    resources = raw.get("resources") or {}
    return Config(
        name=raw["name"],
        datasets=datasets,
        dataset_choices=choices,
        ipc=list(raw["ipc"]),
        generation_seeds=list(raw["generation_seeds"]),
        runs=runs,
        run_choices=list(raw["runs"]),
        tuning=[{**TuningChoice.defaults(), **entry} for entry in raw.get("tuning", [{}])],
        tunes="tuning" in raw,
        judge=raw.get("judge"),
        evaluation=[{"training_seeds": 1, **entry} for entry in raw["evaluation"]],
        device=resources.get("device", "auto"),
        batch=resources.get("batch", "auto"),
        compile=resources.get("compile", False),
        classes_per_block=resources.get("classes_per_block", "auto"),
        cache_dir=raw.get("cache_dir", "results/cache"),
    )


def _with_root(choice: str | Mapping[str, Any], imagenet: str, cache: str) -> str | dict[str, Any]:
    """A data set as `make_dataset` takes it."""
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = settings["name"]
    kind = DATASETS[name].root if name in DATASETS else "own"
    if kind not in ("imagenet", "archive", "archive or own"):
        return choice if isinstance(choice, str) else settings
    if kind == "archive or own" and "root" in settings:
        if not expanded(settings["root"]).exists():
            raise UserError(
                f"data set {name!r}: no file or folder {settings['root']}",
                "mend its `root`, the archive or the folder that it was unpacked to; without one, "
                "the archive is fetched",
            )
        return settings
    if "root" in settings:
        raise UserError(
            f"data set {name!r} takes no root",
            "`imagenet_root` is one for all subsets of ImageNet, and archives lie in `cache_dir`; "
            "give images of your own another `name`",
        )
    root = imagenet if kind == "imagenet" else archive_images(cache, name)
    return {**settings, "root": root}


def _require_no_copies(names: Sequence[str]) -> None:
    """A table's rows are there to be compared."""
    for name in names:
        if name in DATASETS and DATASETS[name].copy_of in names:
            raise UserError(
                f"{name} holds lossy copies of the images of {DATASETS[name].copy_of}: their "
                "figures do not compare, and stand in no table together",
                "give each a configuration of its own",
            )


def _preflight_generator(config: Config, run: Run, name: str) -> None:
    entry = get_generator(name)
    if not (entry.folder or entry.of_dataset or entry.hub):
        folder = Path(config.cache_dir) / "generators" / "any" / slug_of(name)
        if not (folder / "model_index.json").is_file():
            raise UserError(f"generator {name!r} is not in {folder}", entry.by_hand)
    if "cfg" in run.settings:  # it samples, so each class needs a condition
        for dataset in config.datasets:
            require_conditions(name, entry, dataset)


@named_paths()
def preflight(config: Config) -> None:
    """Look at the data sets, the generators and networks of timm for what can be seen wrong in a
    moment.

    Raises:
        UserError: missing folders, empty classes, fewer images than IPC; classes that a generator
            does not know; a network that timm does not have, or that does not take the protocol's
            images.
    """
    for entry in config.evaluation:
        for network in entry["networks"]:
            if network.startswith(TIMM):
                from ..networks.architectures import check_network

                check_network(network, get_protocol(entry["protocol"]).size)
    for run in config.runs:
        if run.generator is not None:
            _preflight_generator(config, run, run.generator)
    for dataset in config.datasets:
        dataset.preflight(max(config.ipc))
        for run in config.runs:
            if run.method == "external":
                external.check(run.settings["path"], dataset.source.classes(), max(config.ipc))
