"""What each artefact of a configuration is: the identity that stands in its path and its header.

A job's identity has the settings that the job reads and the identities of what it reads; nothing
else computes one. Importable without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..base.identity import Identity, Owner, Sources, bundle, identity
from ..base.paths import expanded
from ..base.registry import Registry
from ..data.imagenet import RESOURCES, shared_blocks
from ..data.registry import Dataset
from ..data.splits import WHOLE_SPLIT
from ..discovery import DISCOVERIES
from ..evaluation.protocols import SoftProtocol, get_protocol
from ..generators.registry import GENERATORS, VAE_FILES, GeneratorEntry, get_generator, slug_of
from ..methods import METHODS, external
from ..teachers import IMAGENET, TEACHERS, trained_on
from .config import Config, Run
from .owners import OWNERS, owner_version
from .tuning import Tuning, tunings

# Classes per latent file. Not a setting: latents must not be made again for another block size.
LATENT_BLOCK = 50
# Stages whose artefacts have identities of their own. Those of the others lie in the folder of the
# reports, which is one artefact; but what is fetched from an archive is checked, and a view points.
OWN = (
    "index", "pixels", "fetch_generator", "train_vae", "train_generator", "finetune_generator",
    "latents", "modes", "fetch_teacher", "train_teacher", "sample", "collect", "export", "relabel",
    "evaluate", "embed", "judge", "judge_originals", "decode_modes", "trajectory", "tune_rung",
    "tune_sample", "tune_proxy", "tune_train",
)  # fmt: skip
_NEITHER = ("fetch_dataset", "view")
# Stages that train, and those whose choice follows from trainings.
TRAININGS = ("train_vae", "train_generator", "finetune_generator", "train_teacher", "evaluate",
             "tune_report")  # fmt: skip
# Of a protocol, what changes no result.
_SAID = ("name", "description", "version")
# What tables stand beside.
PUBLISHED = ("paper_results.csv", "reported_results.csv", "claims.yaml")
Result = TypeVar("Result")


class Fingerprints(Protocol):
    """What users' files hold, as digests of 64 hexadecimal digits."""

    def classes(self, dataset: Dataset, names: Sequence[str]) -> Mapping[str, str]:
        """Of the images of some classes, by class."""
        ...

    def files(self, files: Mapping[str, Path]) -> str:
        """Of files by the names that they are read under."""
        ...


def _once(method: Callable[..., Result]) -> Callable[..., Result]:
    """The result is kept in the instance: an identity is asked for by every job that reads it."""

    @wraps(method)
    def kept(self: Identities, *key: Any) -> Result:
        whole = (method.__name__, *key)
        if whole not in self._kept:
            self._kept[whole] = method(self, *key)
        return self._kept[whole]

    return kept


class Identities:
    """The identities of a configuration's artefacts.

    Runs, data sets and generators are given by their names in paths.

    Args:
        versions: of the stages.
    """

    def __init__(
        self, config: Config, generators: Mapping[str, str], versions: Mapping[str, int],
        fingerprints: Fingerprints,
    ) -> None:  # fmt: skip
        self._versions = versions
        self._config, self._generators, self._fingerprints = config, generators, fingerprints
        self._datasets = {dataset.name: dataset for dataset in config.datasets}
        self._runs = {run.slug: run for run in config.runs}
        self.classes = {name: d.source.classes() for name, d in self._datasets.items()}
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._timed: dict[str, bool] = {}

    def _make(
        self,
        stage: str,
        *,
        owners: Sequence[Owner] = (),
        settings: Mapping[str, Any] | None = None,
        neutral: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sources] | None = None,
    ) -> Identity:
        version = self._versions[stage]
        return identity(
            stage, version, owners=owners, settings=settings, neutral=neutral, inputs=inputs
        )

    @cached_property
    def tunings(self) -> dict[str, Tuning]:
        """By id. Raises UserError as `planning.tuning.tunings`: only who tunes is to mend it."""
        return {tuning.id: tuning for tuning in tunings(self._config)}

    def follows_training(self, of: Identity) -> bool:
        """Whether it is, or comes of, something that is trained here: made again, that has other
        bytes on another machine."""
        if of.digest not in self._timed:
            trained = of.description["stage"] in TRAININGS
            below = (one for source in of.inputs.values() for one in identities_in(source))
            self._timed[of.digest] = trained or any(map(self.follows_training, below))
        return self._timed[of.digest]

    # Data

    @_once
    def _images(self, dataset: str) -> Mapping[str, str]:
        return self._fingerprints.classes(self._datasets[dataset], self.classes[dataset])

    @_once
    def index(self, dataset: str) -> Identity:
        of = self._datasets[dataset]
        return self._make(
            "index",
            settings={
                "classes": bundle(self.classes[dataset]),
                "validation_fraction": of.validation_fraction,
                "undecodable": of.undecodable,
            },
            neutral={"undecodable": "fail"},
            inputs={"images": self._images(dataset)},
        )

    @_once
    def pixels(self, dataset: str, split: str, size: str) -> Identity:
        """Nothing else of the data set enters: neither its `size` nor `flip` is read."""
        settings = {"split": split, "size": size}
        return self._make("pixels", settings=settings, inputs={"index": self.index(dataset)})

    def _splits(self, dataset: str, splits: Sequence[str], size: str) -> dict[str, Identity]:
        """The real splits that a job reads; a validation split only where there is one."""
        held_out = self._datasets[dataset].validation_fraction > 0
        there = [split for split in splits if split != "validation" or held_out]
        return {split: self.pixels(dataset, split, size) for split in there}

    @_once
    def _meanings(self, dataset: str) -> Mapping[str, str]:
        """Of the user's classes.tsv, which tells generators what the classes are."""
        file = self._datasets[dataset].classes_file
        return {"meanings": self._fingerprints.files({"classes": Path(file)})} if file else {}

    # Generators

    def _entry(self, generator: str) -> GeneratorEntry:
        return get_generator(self._generators[generator])

    @_once
    def vae(self, dataset: str, generator: str) -> Identity | str:
        """A generator's VAE; one that comes as a folder is what its files hold."""
        entry = self._entry(generator)
        if entry.folder is not None:
            return self._fingerprints.files({file: entry.folder / file for file in VAE_FILES})
        if entry.recipe is None:
            # Fetched with the rest, or copied from the generator that was fine-tuned.
            return self.generator(dataset, generator)
        of = self._datasets[dataset]
        return self._make(
            "train_vae",
            settings={
                "recipe": asdict(entry.recipe.vae),
                "seed": entry.recipe.seed,
                "size": of.size,
            },
            inputs={"index": self.index(dataset)},
        )

    @_once
    def generator(self, dataset: str, generator: str) -> Identity | str:
        """A generator whole: VAE and denoiser."""
        entry, owners = self._entry(generator), [_owner("generator", self._entry(generator).family)]
        if entry.folder is not None:
            folder = entry.folder
            return self._fingerprints.files({file: folder / file for file in entry.files})
        if entry.hub:
            files = [asdict(of) for of in entry.hub]
            return self._make("fetch_generator", owners=owners, settings={"files": files})
        of_dataset = (
            {"size": self._datasets[dataset].size, "flip": self._datasets[dataset].flip}
            if entry.of_dataset
            else {}
        )
        if entry.finetune is not None:
            base = entry.finetune.base
            return self._make(
                "finetune_generator",
                owners=owners,
                settings={"recipe": asdict(entry.finetune), **of_dataset},
                inputs={
                    "index": self.index(dataset),
                    "base": self.generator(dataset, base),
                    **self._meanings(dataset),
                },
            )
        if entry.recipe is not None:
            return self._make(
                "train_generator",
                owners=owners,
                settings={
                    "recipe": asdict(entry.recipe.dit),
                    "seed": entry.recipe.seed,
                    **of_dataset,
                },
                inputs={"index": self.index(dataset), "vae": self.vae(dataset, generator)},
            )
        # Put into the cache by hand.
        folder = Path(self._config.cache_dir) / "generators" / "any" / generator
        return self._fingerprints.files({file: folder / file for file in entry.files})

    # Latents and modes

    @_once
    def latents(
        self, dataset: str, generator: str, classes: tuple[str, ...], mirrored: bool
    ) -> Identity:
        """A block of latents through a generator's VAE. It depends on its own classes only."""
        encoder, of = self.encoder(generator), self._datasets[dataset]
        entry = self._entry(encoder)
        return self._make(
            "latents",
            owners=[_owner("generator", entry.family)],
            settings={
                "classes": list(classes),
                "size": self._entry(generator).image_size or of.size,
                "precision": entry.encoded_in,
                "mirrored": mirrored,
                "undecodable": of.undecodable,
            },
            neutral={"mirrored": False, "undecodable": "fail"},
            inputs={
                "images": self._fingerprints.classes(of, classes),
                "vae": self.vae(dataset, encoder),
            },
        )

    def encoder(self, generator: str) -> str:
        """The generator whose VAE encodes: of those that share an encoder always the same."""
        shared = self._entry(generator).encoder
        return first_with(shared) if shared else generator

    def latent_blocks(self, dataset: str) -> dict[str, list[str]]:
        """Block -> its classes; subsets of ImageNet share theirs."""
        classes = self.classes[dataset]
        if self._datasets[dataset].origin == "imagenet":
            held = set(classes)
            cut = [list(block) for block in shared_blocks(LATENT_BLOCK) if block[0] in held]
        else:
            cut = blocks(classes, LATENT_BLOCK)
        return {_block_id(block): block for block in cut}

    def all_latents(self, dataset: str, generator: str, mirrored: bool) -> dict[str, Identity]:
        """Of every block."""
        return {
            block: self.latents(dataset, generator, tuple(classes), mirrored)
            for block, classes in self.latent_blocks(dataset).items()
        }

    @_once
    def modes(
        self, dataset: str, generator: str, discovery: str, pca: int | None, flips: bool, ipc: int,
        gen: int,
    ) -> Identity:  # fmt: skip
        """k = IPC modes per class."""
        mirrored = self.all_latents(dataset, generator, True) if flips else {}
        return self._make(
            "modes",
            owners=[_owner("discovery", discovery)],
            settings={
                "discovery": discovery,
                "pca": pca,
                "draw": self._entry(generator).draw,
                "ipc": ipc,
                "generation_seed": gen if DISCOVERIES[discovery].seeded else None,
            },
            neutral={"pca": None, "generation_seed": None},
            inputs={
                "index": self.index(dataset),
                "latents": self.all_latents(dataset, generator, False),
                **({"mirrored": mirrored} if mirrored else {}),
            },
        )

    def modes_of(self, dataset: str, run: Run, ipc: int, gen: int) -> Identity:
        """The modes that a run is given."""
        s = run.settings
        generator = slug_of(run.generator)
        flips = s.get("flips", False)
        return self.modes(dataset, generator, s["modes"], s["pca"], flips, ipc, gen)

    # Teachers

    @_once
    def teacher(self, trained_on: str, teacher: str) -> Identity:
        if trained_on == IMAGENET:
            recipe = {"weights": TEACHERS[teacher].settings()["pretrained"]}
            return self._make("fetch_teacher", owners=[_owner("teacher", teacher)], settings=recipe)
        return self._trained_teacher(trained_on, teacher, ("test", "validation"))

    @_once
    def tuning_teacher(self, dataset: str, teacher: str) -> Identity:
        """One that is shown no test images, not even to say how good it is."""
        return self._trained_teacher(dataset, teacher, ("validation",))

    def _trained_teacher(self, dataset: str, teacher: str, splits: Sequence[str]) -> Identity:
        recipe = TEACHERS[teacher]
        return self._make(
            "train_teacher",
            owners=[_owner("teacher", teacher)],
            settings={"recipe": recipe.settings(), "flip": self._datasets[dataset].flip},
            inputs=self._splits(dataset, ["train"], recipe.train_pixels)
            | self._splits(dataset, splits, recipe.test_pixels),
        )

    # Distilled sets

    @_once
    def block(
        self, dataset: str, run: str, ipc: int, gen: int, classes: tuple[str, ...]
    ) -> Identity:
        """A block of a distilled set: the images of some classes."""
        return self.sampled(dataset, self._runs[run], ipc, gen, classes)

    def _canonical(self, slug: str, run: Run) -> dict[str, Any]:
        """A run's settings in one form for all spellings; checking them takes a millisecond."""
        if (key := ("canonical", slug)) not in self._kept:
            self._kept[key] = METHODS[run.method].canonical(run.settings)
        return dict(self._kept[key])

    def sampled(
        self, dataset: str, run: Run, ipc: int, gen: int, classes: Sequence[str],
        stage: str = "sample",
    ) -> Identity:  # fmt: skip
        """What a run's method makes for some classes."""
        of, method = self._datasets[dataset], METHODS[run.method]
        inputs: dict[str, Sources] = {"index": self.index(dataset)}
        if run.generator:
            generator = slug_of(run.generator)
            whole = "generator" in method.needs
            inputs["generator"] = (self.generator if whole else self.vae)(dataset, generator)
            inputs |= self._meanings(dataset)
        if "modes" in method.needs:
            inputs["modes"] = self.modes_of(dataset, run, ipc, gen)
        if "teacher" in method.needs:
            teacher = run.settings["teacher"]
            inputs["teacher"] = self.teacher(trained_on(teacher, dataset), teacher)
        settings = self._canonical(run.slug, run)
        if run.method == "external":
            folder = expanded(settings.pop("path"))
            taken = external.first_images(folder, classes, ipc).values()
            keys = [key for images in taken for key in images]
            inputs["external"] = self._fingerprints.files({key: folder / key for key in keys})
        owners = [_owner("method", run.method)]
        if run.generator:
            owners.append(_owner("generator", self._entry(slug_of(run.generator)).family))
        return self._make(
            stage,
            owners=owners,
            settings={
                **{f"{run.method}: {key}": value for key, value in settings.items()},
                "classes": list(classes),
                "ipc": ipc,
                "generation_seed": gen,
                "size": of.size,
                **({"flip": of.flip} if method.mirrors else {}),
            },
            inputs=inputs,
        )

    @_once
    def distilled(self, dataset: str, run: str, ipc: int, gen: int) -> Identity:
        """A whole set. How its classes are grouped into jobs does not enter."""
        of = self.sampled(dataset, self._runs[run], ipc, gen, self.classes[dataset])
        settings = {"classes": bundle(self.classes[dataset])}
        return self._make("collect", settings=settings, inputs={"images": of})

    @_once
    def exported(self, dataset: str, run: str, ipc: int, gen: int) -> Identity:
        of = self._runs[run]
        return self._make(
            "export",
            settings={"dataset": dataset, "label": of.label},
            inputs={"set": self.distilled(dataset, run, ipc, gen)},
        )

    # Evaluation

    def _protocol(self, dataset: str, name: str, ipc: int, network: str = "") -> dict[str, Any]:
        """A protocol's settings for sets of this size; all that it says where that is the train
        split's, which its images tell."""
        if ipc == WHOLE_SPLIT:
            said = json.loads(json.dumps(asdict(get_protocol(name))))
            return {key: value for key, value in said.items() if key not in _SAID}
        return get_protocol(name).settings(len(self.classes[dataset]), ipc, network)

    @_once
    def training_set(self, dataset: str, run: str, ipc: int, gen: int, size: str) -> Identity:
        """What networks are trained on: a distilled set, or the whole train split."""
        if METHODS[self._runs[run].method].distils:
            return self.distilled(dataset, run, ipc, gen)
        return self.pixels(dataset, "train", size)

    @_once
    def labels(self, dataset: str, run: str, ipc: int, gen: int, protocol: str) -> Identity:
        """A distilled set's stored labels, all parts."""
        entry = get_protocol(protocol)
        seen = entry.teacher_data or dataset
        return self._make(
            "relabel",
            owners=[_owner("protocol", protocol)],
            settings={
                "protocol": self._protocol(dataset, protocol, ipc),
                "generation_seed": gen,
                "flip": self._datasets[dataset].flip,
                "teacher_classes": entry.teacher_classes(self._datasets[dataset]),
            },
            inputs={
                "set": self.training_set(dataset, run, ipc, gen, entry.pixels),
                "teacher": self.teacher(seen, entry.teacher),
            },
        )

    @_once
    def scores(
        self, dataset: str, run: str, ipc: int, gen: int, protocol: str, network: str, seed: int
    ) -> Identity:
        """One network, trained and tested."""
        entry = get_protocol(protocol)
        inputs: dict[str, Sources] = {
            "train": self.training_set(dataset, run, ipc, gen, entry.pixels),
            **self._splits(dataset, ["test", "validation"], entry.pixels),
        }
        if isinstance(entry, SoftProtocol):
            if entry.labels == "online":
                inputs["teacher"] = self.teacher(entry.teacher_data or dataset, entry.teacher)
            else:
                inputs["labels"] = self.labels(dataset, run, ipc, gen, protocol)
        return self._make(
            "evaluate",
            owners=[_owner("protocol", protocol)],
            settings={
                "protocol": self._protocol(dataset, protocol, ipc, network),
                "network": network,
                "generation_seed": gen,
                "training_seed": seed,
                "flip": self._datasets[dataset].flip,
            },
            inputs=inputs,
        )

    # Measures and pictures

    @_once
    def embedded(self, dataset: str, generator: str, run: str, ipc: int, gen: int) -> Identity:
        of, entry = self._datasets[dataset], self._entry(generator)
        return self._make(
            "embed",
            owners=[_owner("generator", entry.family)],
            settings={"size": entry.image_size or of.size},
            inputs={
                "set": self.distilled(dataset, run, ipc, gen),
                "vae": self.vae(dataset, self.encoder(generator)),
            },
        )

    @_once
    def judged(
        self, dataset: str, trained_on: str, teacher: str, names: tuple[str, ...] | None, run: str,
        ipc: int, gen: int,
    ) -> Identity:  # fmt: skip
        """A teacher's judgement of a set; `names` is what it calls the classes."""
        return self._make(
            "judge",
            settings={"names": list(names) if names else None},
            neutral={"names": None},
            inputs={
                "set": self.distilled(dataset, run, ipc, gen),
                "teacher": self.teacher(trained_on, teacher),
            },
        )

    @_once
    def judged_originals(self, dataset: str, trained_on: str, teacher: str) -> Identity:
        inputs = {"index": self.index(dataset), "teacher": self.teacher(trained_on, teacher)}
        return self._make("judge_originals", inputs=inputs)

    @_once
    def decoded_modes(self, dataset: str, run: str, ipc: int, gen: int, shown: int) -> Identity:
        """The modes of a run as images, of the first classes."""
        of = self._runs[run]
        return self._make(
            "decode_modes",
            settings={"size": self._datasets[dataset].size, "classes": shown},
            inputs={
                "modes": self.modes_of(dataset, of, ipc, gen),
                "vae": self.vae(dataset, slug_of(of.generator)),
            },
        )

    @_once
    def trajectory(self, dataset: str, run: str, ipc: int, gen: int, shown: int) -> Identity:
        """How the first images of the first classes came to be."""
        classes = self.classes[dataset][:shown]
        return self.sampled(dataset, self._runs[run], ipc, gen, classes, "trajectory")

    # Tuning

    @_once
    def tuning(self, tuning: str) -> Identity:
        """A search whole: which setting a slot holds is known only when its jobs run."""
        of = self.tunings[tuning]
        dataset, stages = of.dataset, ("tune_rung", "tune_sample", "tune_proxy", "tune_train")
        gens = [gen for rung in of.rungs for gen in rung.seeds]
        classes = self.classes[dataset]
        entry = get_protocol(of.protocol)
        own = of.teacher_data == dataset
        return self._make(
            "tune_report",
            owners=[_owner("protocol", of.protocol)],
            settings={
                "stages": {stage: self._versions[stage] for stage in stages},
                "points": of.points,
                "rungs": [[rung.slots, list(rung.seeds)] for rung in of.rungs],
                "protocol": self._protocol(dataset, of.protocol, of.ipc, of.network),
                "network": of.network,
                "flip": self._datasets[dataset].flip,
            },
            inputs={
                "sets": [self.sampled(dataset, of.run, of.ipc, gen, classes) for gen in gens],
                "teacher": self.tuning_teacher(dataset, of.teacher)
                if own
                else self.teacher(of.teacher_data, of.teacher),
                **self._splits(dataset, ["validation"], entry.pixels),
            },
        )

    # Reports

    def report(
        self, rows: Sequence[Mapping[str, Any]], sets: Sequence[Identity], scores: Sequence[str],
        judges: Sequence[Identity],
    ) -> Identity:  # fmt: skip
        """Everything in the folder of a configuration's reports."""
        config = self._config
        published = {name: RESOURCES / name for name in PUBLISHED}
        return self._make(
            "tables",
            settings={
                "name": config.name,
                "rows": [*rows],
                "ipc": config.ipc,
                "generation_seeds": config.generation_seeds,
                "evaluation": config.evaluation,
                "tuning": config.tuning,
                "datasets": {name: of.size for name, of in self._datasets.items()},
                "scores": [Path(path).name for path in scores],
                "stages": {
                    name: version
                    for name, version in self._versions.items()
                    if name not in (*OWN, *_NEITHER)
                },
            },
            inputs={
                "sets": [*sets],
                "judges": [*judges],
                "images": [self.index(dataset) for dataset in self._datasets],
                "published": self._fingerprints.files(published),
            },
        )


def first_with(encoder: str) -> str:
    """The first generator of the registry that has this encoder."""
    return next(name for name, entry in GENERATORS.items() if entry.encoder == encoder)


def blocks(classes: list[str], size: int) -> list[list[str]]:
    """Classes in canonical order, cut into blocks; appended classes touch only the last and new."""
    return [classes[start : start + size] for start in range(0, len(classes), size)]


def _block_id(classes: Sequence[str]) -> str:
    return "block-" + hashlib.sha256(json.dumps(classes).encode()).hexdigest()[:8]


def identities_in(of: Sources) -> Iterator[Identity]:
    """Those that some sources are or hold."""
    if isinstance(of, Identity):
        yield of
    elif not isinstance(of, str):
        for one in of.values() if isinstance(of, Mapping) else of:
            yield from identities_in(one)


def _owner(kind: str, name: str) -> Owner:
    of = OWNERS[kind]
    package = of.distribution(name) if isinstance(of, Registry) else "mgd3"
    return Owner(kind, name, owner_version(kind, name), None if package == "mgd3" else package)
