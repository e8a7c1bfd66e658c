"""Where everything lies. Prefix order is invalidation order: what a change touches is a subtree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..base.errors import UserError, named_paths
from ..base.identity import Identity, leaf, slug_in
from ..data.archives import RECEIPT, archive_folder, archive_images, archives
from ..data.imagenet import RESOURCES
from ..data.registry import SPLITS
from ..data.splits import WHOLE_SPLIT
from ..discovery import DISCOVERIES
from ..evaluation.protocols import SoftProtocol, get_protocol
from ..generators.folder import vae_files
from ..generators.registry import GeneratorEntry, get_generator, slug_of
from ..methods import METHODS
from ..reporting.sweeps import SWEPT_FIGURES, curves
from ..teachers import TEACHER_FILES, TEACHERS, trained_on
from .config import Config, Run
from .identities import Fingerprints, Identities, blocks, first_with
from .judges import Judge, Judging, judging
from .tuning import Tuning
from .user_files import UserFiles

# Images in a sampling job where `classes_per_block` is auto: minutes for DiT-XL/2 on a data-centre
# GPU (docs/scaling.md), so that a job's start does not count and a lost one costs little.
AUTO_IMAGES = 1000
# Marks latents of mirrored images, and modes that are found among them, too.
FLIPS = "-flips"
# In pictures: classes of a data set, and those whose trajectories are drawn.
SHOWN_CLASSES, TRACED_CLASSES = 10, 3
# Values of t_sg whose trajectories stand one below another.
_TRACED_STOPS = 5
SPACES = ("latent", "map")
_MEASURING = "a run with a generator, in whose latent space sets are measured"
_STOPS = "runs that differ in t_sg only (`t_sg: [0, 25, 50]`)"
_GUIDED = "a run that is guided to modes ({method: mgd3, generator: ...})"
# What a target needs of the runs.
_NEEDS = {
    "metrics": _MEASURING,
    "figures": _MEASURING,
    "figure3": _MEASURING,
    "figure4a": _STOPS,
    "figure4b": _STOPS,
    "figure5": _MEASURING,
    "figure6": f"{_MEASURING}, and `ipc` above 1",
    "figure7": f"{_STOPS}, and `ipc` above 1",
    "figure9": _GUIDED,
    "gallery": "a run that makes images ({method: random})",
    "appendix_e": "runs that differ in lambda only (`lambda: [0, 0.1, 1]`)",
    "modes_and_samples": _GUIDED,
}
# How far below the folder of an artefact its files lie: `text_encoder/model.safetensors`.
_DEEPEST = 3
# The folder of generators that were not trained on a data set at hand.
ANY_DATASET = "any"


@dataclass(frozen=True)
class Space:
    """A latent space: real images of one origin, at one size, through one encoder.

    Attributes:
        name: as it stands in paths: encoder, size in pixels, crop, and precision if not float32.
        origin: what the images are part of; spaces of equal origin and name share their files.
        size: side of the images, pixels.
        vae_folder: pipeline folder whose VAE is the encoder.
        precision: of the encoder's weights and arithmetic.
    """

    name: str
    origin: str
    size: int
    vae_folder: str
    precision: str


@dataclass(frozen=True)
class LatentJob:
    """A block of latents.

    Attributes:
        choice: what `--dataset` takes for all images that the block's classes are part of.
        classes: of the block.
        encoder: the generator whose VAE encodes, by its name in paths.
    """

    space: Space
    choice: Any
    classes: list[str]
    dataset: str
    encoder: str
    identity: Identity


class Layout:
    """The paths of a configuration's artefacts, as strings relative to the working directory."""

    @named_paths()
    def __init__(
        self,
        config: Config,
        root: Path,
        versions: Mapping[str, int],
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self.config, self.root = config, root
        self.datasets = {dataset.name: dataset for dataset in config.datasets}
        self.choices = dict(zip(self.datasets, config.dataset_choices, strict=True))
        self.runs = {run.slug: run for run in config.runs}
        self.rows = [{**run.row(), "settings": run.settings} for run in config.runs]
        self.distilling = [run for run in config.runs if METHODS[run.method].distils]
        names = {run.generator for run in config.runs if run.generator}
        names |= {base.base for name in names if (base := get_generator(name).finetune)}
        # Of the generators that share an encoder, always the same one gives it.
        names |= {first_with(e) for n in names if (e := get_generator(n).encoder)}
        self.generators = {slug_of(name): name for name in sorted(names)}
        self.ids = Identities(config, self.generators, versions, fingerprints or UserFiles())
        self._made: dict[str, Identity] = {}
        self._digits: set[str] = set()
        self._sets: dict[str, tuple[str, str, int, int]] = {}
        self.classes = self.ids.classes

    @cached_property
    def spaces(self) -> list[Space]:
        return [self.space(d, g) for d in self.datasets for g in self.generators]

    def slug(self, run: Run) -> str | None:
        """A run's generator as it stands in paths."""
        return slug_of(run.generator) if run.generator else None

    def archive(self, dataset: str) -> list[str]:
        """The receipt of an archive that is fetched whole; none of what comes otherwise."""
        cache, choice = self.config.cache_dir, self.choices[dataset]
        fetched = dataset in archives() and choice["root"] == archive_images(cache, dataset)
        return [f"{archive_folder(cache, dataset)}/{RECEIPT}"] if fetched else []

    def index(self, dataset: str) -> str:
        folder = f"{self.config.cache_dir}/indexes"
        return self._at(folder, dataset, self.ids.index(dataset), ".parquet")

    def generator_folder(self, dataset: str, generator: str) -> str:
        """`generator` is a slug."""
        entry = get_generator(self.generators[generator])
        if entry.folder is not None:
            ours = entry.folder.is_relative_to(self.root)
            return str(entry.folder.relative_to(self.root) if ours else entry.folder)
        folder = f"{self.config.cache_dir}/generators"
        of = self.ids.generator(dataset, generator)
        if isinstance(of, str):  # put there by hand: known by what it holds
            return f"{folder}/{ANY_DATASET}/{generator}"
        trained_on = dataset if entry.of_dataset else ANY_DATASET
        return self._at(f"{folder}/{trained_on}", generator, of)

    def vae_folder(self, dataset: str, generator: str) -> str:
        """The folder that holds a generator's VAE; of one that is trained here, a folder of its
        own, so that it outlives what is trained on it."""
        of = self.ids.vae(dataset, generator)
        if not self._entry(generator).recipe or isinstance(of, str):
            return self.generator_folder(dataset, generator)
        folder = f"{self.config.cache_dir}/generators/{dataset}"
        return self._at(folder, f"{generator}-vae", of)

    def _entry(self, generator: str) -> GeneratorEntry:
        return get_generator(self.generators[generator])

    def fetched(self, family: str) -> list[str]:
        """Slugs of the generators of a family that come from the Hub."""
        entries = {slug: get_generator(name) for slug, name in self.generators.items()}
        return [slug for slug, entry in entries.items() if entry.hub and entry.family == family]

    def trained(self) -> list[str]:
        """Slugs of the generators that are trained from scratch."""
        return [slug for slug, name in self.generators.items() if get_generator(name).recipe]

    def finetuned(self) -> list[str]:
        """Slugs of the generators that are fine-tuned from others."""
        return [slug for slug, name in self.generators.items() if get_generator(name).finetune]

    def base_of(self, generator: str) -> str:
        """The slug of the generator that a fine-tuned one starts from."""
        return slug_of(get_generator(self.generators[generator]).finetune.base)

    def vae_files(self, dataset: str, generator: str) -> list[str]:
        folder = self.vae_folder(dataset, generator)
        return [f"{folder}/{file}" for file in vae_files(folder)]

    def generator_files(self, dataset: str, generator: str) -> list[str]:
        folder = self.generator_folder(dataset, generator)
        return [f"{folder}/{file}" for file in get_generator(self.generators[generator]).files]

    def generator_inputs(self, dataset: str, generator: str) -> list[str]:
        """Those of a generator's files that jobs make: a folder that somebody gave is no input,
        what it holds is in the identities."""
        of = self.ids.generator(dataset, generator)
        return [] if isinstance(of, str) else self.generator_files(dataset, generator)

    def vae_inputs(self, dataset: str, generator: str) -> list[str]:
        of = self.ids.vae(dataset, generator)
        return [] if isinstance(of, str) else self.vae_files(dataset, generator)

    def encoder_inputs(self, dataset: str, generator: str) -> list[str]:
        """Of the VAE through which a generator's latents are made."""
        return self.vae_inputs(dataset, self.ids.encoder(generator))

    def resource(self, file: str) -> str:
        """A file of the package."""
        return str(RESOURCES / file)

    def space(self, dataset: str, generator: str) -> Space:
        """Where a generator's latents of a data set lie; `generator` is a slug."""
        entry = get_generator(self.generators[generator])
        size = entry.image_size or self.datasets[dataset].size
        encoder = entry.encoder or generator
        folder = self.vae_folder(dataset, self.ids.encoder(generator))
        # An encoder that is trained on a data set is its own affair.
        origin = dataset if entry.recipe else self.datasets[dataset].origin
        name = f"{encoder}-{size}-adm"
        if entry.encoded_in != "float32":
            name += f"-{entry.encoded_in}"
        return Space(name, origin, size, folder, entry.encoded_in)

    def _origin_choice(self, dataset: str) -> Any:
        """What `--dataset` takes for all images that those of a data set are part of."""
        of, choice = self.datasets[dataset], self.choices[dataset]
        if isinstance(choice, str):
            return choice
        name = "imagenet1k" if of.origin == "imagenet" else of.name
        kept = {key: choice[key] for key in ("root", "undecodable") if key in choice}
        return {"name": name, **kept}

    def latent_job(self, digits: str) -> LatentJob:
        """By the digits in its path. Raises UserError for those of another configuration."""
        if digits not in self._latent_jobs:
            raise _of_another(f"~{digits}, latents,")
        return self._latent_jobs[digits]

    @cached_property
    def _latent_jobs(self) -> dict[str, LatentJob]:
        """A block that several data sets share is one."""
        return {
            of.short: LatentJob(
                self.space(dataset, generator), self._origin_choice(dataset), classes, dataset,
                self.ids.encoder(generator), of,
            )
            for dataset in self.datasets
            for generator in self.generators
            for classes in self.ids.latent_blocks(dataset).values()
            for mirrored in (False, True)
            if (of := self.ids.latents(dataset, generator, tuple(classes), mirrored))
        }  # fmt: skip

    def latents(self, dataset: str, generator: str, mirrored: str = "") -> list[str]:
        """The files that hold the latents of a data set's classes; `generator` is a slug.

        `mirrored` is FLIPS for the mirrored images, which have files of their own.
        """
        space = self.space(dataset, generator)
        folder = f"{self.config.cache_dir}/latents/{space.origin}/{space.name}{mirrored}"
        found = self.ids.all_latents(dataset, generator, bool(mirrored))
        return [self._at(folder, block, of, ".safetensors") for block, of in found.items()]

    def modes(self, dataset: str, run: Run, ipc: int, generation_seed: int) -> str:
        discovery = run.settings["modes"]
        seeded = f"_gen{generation_seed}" if DISCOVERIES[discovery].seeded else ""
        if components := run.settings["pca"]:
            discovery += f"-pca{components}"
        if run.settings.get("flips"):
            discovery += FLIPS
        of = self.ids.modes_of(dataset, run, ipc, generation_seed)
        folder = f"results/{dataset}/modes/{slug_of(run.generator)}/{discovery}"
        return self._at(folder, f"ipc{ipc}{seeded}", of, ".safetensors")

    def sample_blocks(self, dataset: str, run: Run, ipc: int) -> list[list[str]]:
        """The classes of each sampling job of a distilled set."""
        size = self.config.classes_per_block
        if size == "auto":
            size = max(1, AUTO_IMAGES // ipc)
        together = METHODS[run.method].together
        return blocks(self.classes[dataset], -(-size // together) * together)

    def block(self, dataset: str, run: str, ipc: int, gen: int, number: int) -> str:
        """The file of a block of a distilled set."""
        classes = self.sample_blocks(dataset, self.runs[run], ipc)[number]
        of = self.ids.block(dataset, run, ipc, gen, tuple(classes))
        folder = f"results/{dataset}/blocks/{run}/ipc{ipc}/gen{gen}"
        return self._at(folder, f"block{number}", of, ".safetensors")

    def blocks(self, dataset: str, run: str, ipc: int, gen: int) -> list[str]:
        """The files of all blocks of a distilled set."""
        count = len(self.sample_blocks(dataset, self.runs[run], ipc))
        return [self.block(dataset, run, ipc, gen, number) for number in range(count)]

    def blocks_of(self, of: Identity) -> list[str]:
        """The files of all blocks of a distilled set that a path was asked for."""
        return self.blocks(*self._sets[of.digest])

    def distilled(self, dataset: str, run: str, ipc: int, gen: int, file: str) -> str:
        of = self.ids.distilled(dataset, run, ipc, gen)
        self._sets[of.digest] = (dataset, run, ipc, gen)
        folder = f"results/{dataset}/distilled/{run}/ipc{ipc}"
        return f"{self._at(folder, f'gen{gen}', of)}/{file}"

    def manifests(self) -> list[str]:
        """Of every distilled set, as the tables order them."""
        return [
            self.distilled(dataset, run.slug, ipc, gen, "manifest.parquet")
            for dataset in self.datasets
            for ipc in self.config.ipc
            for run in self.distilling
            for gen in self.config.generation_seeds
        ]

    def cards(self) -> list[str]:
        """The data-set card of every distilled set, exported."""
        return [
            f"{self.exported(dataset, run.slug, ipc, gen)}/README.md"
            for dataset in self.datasets
            for run in self.distilling
            for ipc in self.config.ipc
            for gen in self.config.generation_seeds
        ]

    def exported(self, dataset: str, run: str, ipc: int, gen: int) -> str:
        """The folder of an exported set."""
        of = self.ids.exported(dataset, run, ipc, gen)
        return self._at(f"results/{dataset}/exported/{run}/ipc{ipc}", f"gen{gen}", of)

    def teacher_files(self, dataset: str, protocol: SoftProtocol) -> list[str]:
        """Of the teacher that a protocol has for a data set."""
        return self.files_of_teacher(protocol.teacher_data or dataset, protocol.teacher)

    def files_of_teacher(self, trained_on: str, teacher: str) -> list[str]:
        """Of a teacher by the data set that it was trained on and its name."""
        folder = f"{self.config.cache_dir}/teachers/{trained_on}"
        folder = self._at(folder, teacher, self.ids.teacher(trained_on, teacher))
        return [f"{folder}/{file}" for file in TEACHER_FILES]

    def labels(self, dataset: str, run: str, ipc: int, gen: int, protocol: str) -> list[str]:
        """All parts of a distilled set's stored labels; none where the protocol stores none."""
        entry = get_protocol(protocol)
        if not isinstance(entry, SoftProtocol):
            return []
        parts = entry.label_parts(len(self.classes[dataset]), ipc)
        folder = f"results/{dataset}/labels/{run}/ipc{ipc}/gen{gen}"
        if not parts:
            return []
        of = self.ids.labels(dataset, run, ipc, gen, protocol)
        names = [f"{protocol}_part{part}" for part in range(parts)]
        return [self._at(folder, name, of, ".safetensors") for name in names]

    def pixels(self, dataset: str, split: str, size: str) -> list[str]:
        """The file of a real split; none for a validation split that the data set does not have."""
        if split == "validation" and self.datasets[dataset].validation_fraction == 0:
            return []
        of = self.ids.pixels(dataset, split, size)
        folder = f"{self.config.cache_dir}/pixels/{dataset}"
        return [self._at(folder, f"{split}_{size}", of, ".safetensors")]

    def score(
        self, dataset: str, run: str, ipc: int, gen: int, protocol: str, network: str, seed: int
    ) -> str:
        """What one trained network scores."""
        of = self.ids.scores(dataset, run, ipc, gen, protocol, network, seed)
        folder = f"results/{dataset}/evaluated/{run}/ipc{ipc}/gen{gen}/{protocol}"
        return self._at(folder, f"{network}_seed{seed}", of, ".json")

    def scores(self) -> list[str]:
        """Every score file of the configuration."""
        return [
            self.score(dataset, run.slug, ipc, gen, entry["protocol"], network, seed)
            for dataset in self.datasets
            for run in self.config.runs
            for ipc in (self.config.ipc if METHODS[run.method].distils else [WHOLE_SPLIT])
            for gen in self.config.generation_seeds
            for entry in self.config.evaluation
            for network in entry["networks"]
            for seed in range(entry["training_seeds"])
        ]

    @cached_property
    def report_id(self) -> Identity:
        """What the reports of this configuration are made of, and by which versions."""
        sets = [
            self.ids.distilled(dataset, run.slug, ipc, gen)
            for dataset in self.datasets
            for ipc in self.config.ipc
            for run in self.distilling
            for gen in self.config.generation_seeds
        ]
        found = [judge for dataset in self.datasets if (judge := self.judge(dataset))]
        judges = [self.ids.teacher(judge.trained_on, judge.teacher) for judge in found]
        rows = [
            {**run.row(), "settings": METHODS[run.method].canonical(run.settings)}
            for run in self.config.runs
        ]
        return self.ids.report(rows, sets, self.scores(), judges)

    def report(self, file: str) -> str:
        return f"results/reports/{self.config.name}/~{self.report_id.short}/{file}"

    def view(self) -> str:
        """The mark that `results/reports/{name}` shows this configuration's reports."""
        return f"results/reports/{self.config.name}/.shown~{self.report_id.short}"

    def measuring_generator(self) -> str:
        """The generator, as it stands in paths, in whose latent space sets are measured: the first.

        Raises:
            UserError: no run has one.
        """
        for run in self.config.runs:
            if run.generator:
                return slug_of(run.generator)
        raise UserError(
            f"metrics need {_MEASURING}, and no run has one",
            "add one: {method: nearest, generator: ...}",
        )

    def _at(self, folder: str, slug: str, of: Identity, suffix: str = "") -> str:
        """The path of an artefact."""
        path = f"{folder}/{leaf(slug, of, suffix)}"
        self._made[path] = of
        self._digits.add(of.short)
        return path

    def identity_of(self, path: str) -> Identity:
        """What a file is that a job of this configuration makes.

        Raises:
            UserError: it is none of this configuration's.
        """
        if (found := self._find(path)) is None:
            self.artefacts()
            found = self._find(path)
        if found is None:
            raise _of_another(path)
        return found

    def require_own(self, digits: str) -> None:
        """Refuse the digits in a path of another configuration, before any job starts.

        Raises:
            UserError: no artefact of this configuration has them.
        """
        if digits not in self._digits:
            self.artefacts()
        if digits not in self._digits:
            raise _of_another(f"~{digits}")

    def _find(self, path: str) -> Identity | None:
        """Files of a folder have one identity. Asked for by every input of every job."""
        for _ in range(_DEEPEST + 1):
            if (of := self._made.get(path)) is not None:
                return of
            path = path.rpartition("/")[0]
        return None

    def keeps_time(self, path: str) -> bool:
        """Whether the time of an input counts: it is, or comes of, something that is trained here,
        which has other bytes when it is made again. All else is what its path says."""
        of = self._find(path)
        return of is not None and self.ids.follows_training(of)

    def artefacts(self) -> dict[str, Identity]:
        """Every artefact that jobs of this configuration can make, the reports aside, by the path
        of its file or folder, in the order of the work."""
        config, gens = self.config, self.config.generation_seeds
        for dataset, of in self.datasets.items():
            self.index(dataset)
            for entry in config.evaluation:
                for split in SPLITS:
                    self.pixels(dataset, split, get_protocol(entry["protocol"]).pixels)
            for generator in self.generators:
                self.vae_folder(dataset, generator)
                self.generator_folder(dataset, generator)
                self.latents(dataset, generator)
                if of.flip:
                    self.latents(dataset, generator, FLIPS)
            for run, ipc, gen in itertools.product(self.config.runs, config.ipc, gens):
                self._of_run(dataset, run, ipc, gen)
            if judge := self.judge(dataset):
                self._teacher(judge.trained_on, judge.teacher)
                self.verdict_on_originals(dataset)
        self.scores()
        with suppress(UserError):  # who does not tune has nothing to mend
            for tuning in self.tunings.values():
                self.tuning_folder(tuning)
                self.tuning_teacher(tuning)
                for rung in tuning.rungs:
                    for gen in rung.seeds:
                        self.tuning_modes(tuning, gen)
        return self._made

    def _of_run(self, dataset: str, run: Run, ipc: int, gen: int) -> None:
        method = METHODS[run.method]
        if "teacher" in method.needs:
            teacher = run.settings["teacher"]
            self._teacher(trained_on(teacher, dataset), teacher)
        if "modes" in method.needs:
            self.modes(dataset, run, ipc, gen)
        if not method.distils:
            return
        self.blocks(dataset, run.slug, ipc, gen)
        self.distilled(dataset, run.slug, ipc, gen, "")
        self.exported(dataset, run.slug, ipc, gen)
        for entry in self.config.evaluation:
            protocol = get_protocol(entry["protocol"])
            if isinstance(protocol, SoftProtocol):
                self._teacher(protocol.teacher_data or dataset, protocol.teacher)
                self.labels(dataset, run.slug, ipc, gen, entry["protocol"])
        judged = self.judgings[dataset]
        if judged.judge and run.slug not in judged.not_judged:
            self.verdict(dataset, judged.judge, run.slug, ipc, gen)
        if run in self.from_modes:
            self.decoded_modes(dataset, run.slug, ipc, gen)
        if "steps" in run.settings:
            self.trajectory(dataset, run.slug, ipc, gen)
        if self.measures:
            self.embedded(dataset, ipc, gen)

    def _teacher(self, trained_on: str, teacher: str) -> None:
        """A teacher, and the pixels that it is trained on and tested with."""
        self.files_of_teacher(trained_on, teacher)
        if trained_on in self.datasets:
            recipe = TEACHERS[teacher]
            self.pixels(trained_on, "train", recipe.train_pixels)
            for split in SPLITS[1:]:
                self.pixels(trained_on, split, recipe.test_pixels)

    @cached_property
    def _decoding(self) -> dict[str, tuple[Identity, str]]:
        """Decoded modes by the digits in their paths: what they are, and the file of the modes."""
        gen = self.config.generation_seeds[0]
        return {
            of.short: (of, self.modes(dataset, run, ipc, gen))
            for dataset in self.datasets
            for run in self.from_modes
            for ipc in self.config.ipc
            if (of := self.ids.decoded_modes(dataset, run.slug, ipc, gen, SHOWN_CLASSES))
        }

    def modes_to_decode(self, digits: str) -> str:
        """The file of the modes that some job decodes, by the digits in the path of its output."""
        return self._decoding[digits][1]

    @property
    def measures(self) -> bool:
        """Whether distilled sets can be measured."""
        return bool(self.distilling) and any(run.generator for run in self.config.runs)

    def judge(self, dataset: str) -> Judge | None:
        """The network on whose features the sets of a data set are measured, if there is one."""
        return self.judgings[dataset].judge

    @cached_property
    def judgings(self) -> dict[str, Judging]:
        """How sets are judged, by data set."""
        searches: list[Tuning] = []
        if self.config.tunes:
            with suppress(UserError):  # who does not tune has nothing to mend
                searches = [*self.tunings.values()]
        return {name: judging(self.config, of, searches) for name, of in self.datasets.items()}

    def verdicts(self, dataset: str, ipc: int, gen: int) -> list[str]:
        """A teacher's judgement of every distilled set that it judges."""
        if (judge := self.judge(dataset)) is None:
            return []
        out = self.judgings[dataset].not_judged
        runs = [run.slug for run in self.distilling if run.slug not in out]
        return [self.verdict(dataset, judge, run, ipc, gen) for run in runs]

    def verdict(self, dataset: str, judge: Judge, run: str, ipc: int, gen: int) -> str:
        """A teacher's judgement of a distilled set."""
        names = None if judge.classes is None else tuple(judge.classes)
        of = self.ids.judged(dataset, judge.trained_on, judge.teacher, names, run, ipc, gen)
        folder = f"results/{dataset}/judged/{judge.trained_on}/{judge.teacher}/{run}"
        return self._at(folder, f"ipc{ipc}_gen{gen}", of, ".safetensors")

    def verdict_on_originals(self, dataset: str) -> list[str]:
        """The teacher's features of the real images; none where there is no teacher."""
        if (judge := self.judge(dataset)) is None:
            return []
        of = self.ids.judged_originals(dataset, judge.trained_on, judge.teacher)
        folder = f"results/{dataset}/judged/{judge.trained_on}/{judge.teacher}"
        return [self._at(folder, "originals", of, ".safetensors")]

    def embedded(self, dataset: str, ipc: int, gen: int) -> list[str]:
        """The latents of every run's distilled set, in the order of the runs."""
        generator = self.measuring_generator()
        found = []
        for run in self.distilling:
            of = self.ids.embedded(dataset, generator, run.slug, ipc, gen)
            folder = f"results/{dataset}/metrics/{generator}/{run.slug}"
            found.append(self._at(folder, f"ipc{ipc}_gen{gen}", of, ".safetensors"))
        return found

    def measured(self, what: str) -> list[str]:
        """The measures of every data set, IPC and generation seed: `samples` or `points`."""
        return [
            self.report(f"metrics/{dataset}_ipc{ipc}_gen{gen}_{what}.parquet")
            for dataset in self.datasets
            for ipc in self.config.ipc
            for gen in self.config.generation_seeds
        ]

    def sweeps(self) -> list[str]:
        """Figures of the settings that some runs differ in, and of what all runs share."""
        shared = ["ipc"] if len(self.config.ipc) > 1 and self.distilling else []
        protocols = [get_protocol(entry["protocol"]) for entry in self.config.evaluation]
        if len({isinstance(protocol, SoftProtocol) for protocol in protocols}) > 1:
            shared.append("labels")
        swept = [setting for setting in SWEPT_FIGURES if curves(self.rows, setting)]
        return [self.report(f"figures/accuracy_over_{setting}.png") for setting in swept + shared]

    def maps(self) -> list[str]:
        """A map of the samples of every data set and IPC, of the first generation seed."""
        return [
            self.report(f"figures/map_{dataset}_ipc{ipc}.png")
            for dataset in self.datasets
            for ipc in self.config.ipc
        ]

    def grids(self) -> list[str]:
        """One picture for each distilled set of the first generation seed."""
        return [
            self.report(f"figures/{dataset}_{run.slug}_ipc{ipc}.png")
            for dataset in self.datasets
            for run in self.distilling
            for ipc in self.config.ipc
        ]

    def gallery(self) -> list[str]:
        """The page of all images, modes and nearest real images; none where no run makes images."""
        return [self.report("gallery.html")] if self.distilling else []

    def exhibits(self) -> list[str]:
        """What the gallery shows of every data set and IPC, of the first generation seed."""
        return [
            self.report(f"gallery/{dataset}_ipc{ipc}.safetensors")
            for dataset in self.datasets
            for ipc in self.config.ipc
        ]

    @property
    def from_modes(self) -> list[Run]:
        """The runs that sample from modes or are guided to them: these stand beside the images."""
        return [run for run in self.distilling if {"modes", "steps"} <= run.settings.keys()]

    @property
    def tunings(self) -> dict[str, Tuning]:
        """By id. Raises UserError as `planning.tuning.tunings`: only who tunes is to mend it."""
        return self.ids.tunings

    def tuning_folder(self, tuning: Tuning) -> str:
        folder = f"results/{tuning.dataset}/tuning"
        return self._at(folder, tuning.id, self.ids.tuning(tuning.id))

    def _tuning(self, tuning: Tuning, file: str) -> str:
        return f"{self.tuning_folder(tuning)}/{file}"

    def judged(self, tuning: Tuning, rung: int) -> list[str]:
        """The scores of a rung; none of what is before the first."""
        if rung < 0:
            return []
        return [
            self._tuning(tuning, f"rung{rung}/slot{slot}_gen{seed}_score.json")
            for slot in range(tuning.slots(rung))
            for seed in tuning.rungs[rung].seeds
        ]

    def rung_before(self, tuning: Tuning, rung: int) -> list[str]:
        """The file of the rung before one; the first has none."""
        return [self._tuning(tuning, f"rung{rung - 1}.json")] if rung else []

    def chosen(self, tuning: Tuning) -> str:
        """The file of what is left after the last rung."""
        return self._tuning(tuning, f"rung{len(tuning.rungs)}.json")

    def tuning_modes(self, tuning: Tuning, gen: int) -> list[str]:
        if "modes" not in METHODS[tuning.run.method].needs:
            return []
        return [self.modes(tuning.dataset, tuning.run, tuning.ipc, gen)]

    def tuning_teacher(self, tuning: Tuning) -> list[str]:
        """The teacher that judges the first rung: torchvision's, or one that saw no test images."""
        if tuning.teacher_data != tuning.dataset:
            return self.files_of_teacher(tuning.teacher_data, tuning.teacher)
        of = self.ids.tuning_teacher(tuning.dataset, tuning.teacher)
        folder = self._at(f"results/{tuning.dataset}/tuning/teachers", tuning.teacher, of)
        return [f"{folder}/{file}" for file in TEACHER_FILES]

    def tuning_files(self) -> list[str]:
        """Everything that a report on the tunings reads."""
        return [
            file
            for tuning in self.tunings.values()
            for rung in range(len(tuning.rungs))
            for file in self.judged(tuning, rung)
        ] + [self.chosen(tuning) for tuning in self.tunings.values()]

    def tuning_summaries(self) -> list[dict[str, Any]]:
        """The tunings as `tuning.report.report` wants them."""
        return [
            {
                "id": tuning.id,
                "choice": choice,
                "label": tuning.run.label,
                "position": tuning.position,
                "dataset": tuning.dataset,
                "ipc": tuning.ipc,
                "points": tuning.points,
                "slugs": tuning.slugs,
                "protocol": tuning.protocol,
                "network": tuning.network,
                "scores": [self.judged(tuning, rung) for rung in range(len(tuning.rungs))],
                "chosen": self.chosen(tuning),
            }
            for tuning, choice in zip(self.tunings.values(), self.config.tuning, strict=True)
        ]

    def tuning_figures(self) -> list[str]:
        return [self.report(f"figures/tuning_{tuning}.png") for tuning in self.tunings]

    @cached_property
    def _stops(self) -> dict[str, list[str]]:
        guided = [run.slug for run in self.config.runs if _is_guided(run)]
        found = {slug: [slug] for slug in guided}
        for group in curves(self.rows, "t_sg"):
            slugs = [row["run"] for row in group]
            found |= dict.fromkeys(slugs, slugs)
        return found

    def stops(self, run: str) -> list[Run]:
        """The runs that differ from a mode-guided one in t_sg only, rising; at least itself."""
        return [self.runs[slug] for slug in self._stops[run]]

    def unguided(self, run: str) -> list[Run]:
        """The run with the same noise, sampler and generator as a mode-guided one, if there is."""
        own = self.runs[run]
        return [
            other
            for other in self.config.runs
            if other.method == "unguided"
            and other.generator == own.generator
            and other.settings.items() <= own.settings.items()
        ][:1]

    def traced(self, run: str) -> list[Run]:
        """Of `stops`, at most five, evenly chosen."""
        runs = self.stops(run)
        count = min(len(runs), _TRACED_STOPS)
        return [runs[round(k * (len(runs) - 1) / max(count - 1, 1))] for k in range(count)]

    def decoded_modes(self, dataset: str, run: str, ipc: int, gen: int) -> str:
        """The modes of a run as images."""
        modes = Path(self.modes(dataset, self.runs[run], ipc, gen))
        of = self.ids.decoded_modes(dataset, run, ipc, gen, SHOWN_CLASSES)
        slug = slug_in(modes.stem)
        folder = f"results/{dataset}/decoded/{modes.parent.parent.name}/{modes.parent.name}"
        return self._at(folder, slug, of, ".safetensors")

    def trajectory(self, dataset: str, run: str, ipc: int, gen: int) -> str:
        """How the first images of a run came to be."""
        of = self.ids.trajectory(dataset, run, ipc, gen, TRACED_CLASSES)
        folder = f"results/{dataset}/trajectories/{run}"
        return self._at(folder, f"ipc{ipc}_gen{gen}", of, ".safetensors")

    def figures(self) -> dict[str, list[str]]:
        """The files of the paper's figures, by the target that makes them: those that the runs
        permit. All are of the first generation seed."""
        first = [slug for slug, group in self._stops.items() if slug == group[0]]
        swept = [slug for slug in first if len(self._stops[slug]) > 1]
        ipc, gen = self.config.ipc[0], self.config.generation_seeds[0]
        by_modes: dict[str, str] = {}
        # Of runs with the same modes, the one that is guided longest, and of those most.
        for run in sorted(map(self.runs.__getitem__, self._stops), key=_freedom):
            modes = self.modes(next(iter(self.datasets)), run, ipc, gen)
            by_modes.setdefault(modes, run.slug)
        return {
            "figure3": [self.report("figures/trade_off.png")] if self.measures else [],
            "figure4a": [path for path in self.sweeps() if path.endswith("_over_t_sg.png")],
            "figure4b": self._each("images_over_t_sg", swept),
            "figure5": self.maps() if self.measures else [],
            "figure6": self._each("trade_off_images", [""], SPACES) if self.measures else [],
            "figure7": self._each("trade_off_over_t_sg", swept, SPACES),
            "figure9": self._each("trajectories", swept or first),
            "appendix_e": [path for path in self.sweeps() if path.endswith("_over_lambda.png")],
            "modes_and_samples": self._each("modes_and_samples", list(by_modes.values())),
        }

    def _each(self, what: str, runs: Sequence[str], spaces: Sequence[str] = ("",)) -> list[str]:
        parts = [
            (dataset, run, f"ipc{ipc}", space)
            for dataset in self.datasets
            for run in runs
            for ipc in self.config.ipc
            for space in spaces
            if not space or ipc > 1  # a single image of a class has no diversity
        ]
        names = ["_".join(part for part in (what, *of) if part) for of in parts]
        return [self.report(f"figures/{name}.png") for name in names]

    def target(self, name: str) -> list[str]:
        """The files of a target by its name.

        Where the runs do not permit it, or nothing can be tuned, a file of which nothing but the
        reason is the name: Snakemake says that it is missing if, and only if, the target is asked
        for.
        """
        if name == "tune":
            try:
                return [*self.tuning_figures(), self.report("tables/tuning.csv")]
            except UserError as error:
                return [_sentence(str(error))]
        files = self.figures()
        files |= {"metrics": files["figure3"] + files["figure5"], "gallery": self.gallery()}
        files["figures"] = [file for of in self.figures().values() for file in of]
        if not files[name] or (name == "figures" and not self.measures):
            return [_sentence(f"{name} needs {_NEEDS[name]}: add it to `runs`")]
        return files[name]


def _of_another(what: str) -> UserError:
    return UserError(
        f"{what} is not of this configuration",
        "name a target of this configuration, or give the configuration that made it",
    )


def _sentence(text: str) -> str:
    """As a path: without braces, which would be wildcards, and line feeds."""
    return " ".join(text.replace("{", "(").replace("}", ")").split())


def _is_guided(run: Run) -> bool:
    return {"modes", "t_sg"} <= run.settings.keys()


def _freedom(run: Run) -> tuple[int, float]:
    return run.settings["t_sg"], -run.settings["lambda"]
