"""Where everything lies. Prefix order is invalidation order: what a change touches is a subtree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..base.errors import UserError, named_paths
from ..data.archives import archives
from ..data.imagenet import shared_blocks
from ..data.registry import Dataset
from ..data.splits import WHOLE_SPLIT
from ..discovery import DISCOVERIES
from ..evaluation.protocols import SoftProtocol, get_protocol
from ..generators.folder import vae_files
from ..generators.registry import GENERATORS, get_generator, slug_of
from ..methods import METHODS, external
from ..reporting.sweeps import SWEPT_FIGURES, curves
from ..teachers import TEACHER_FILES, TEACHERS
from .config import Config, Run
from .tuning import Tuning, tunings

# Classes per latent file. Not a setting: latents must not be made again for another block size.
LATENT_BLOCK = 50
# Images in a sampling job where `classes_per_block` is auto: minutes for DiT-XL/2 on a data-centre
# GPU (docs/scaling.md), so that a job's start does not count and a lost one costs little.
AUTO_IMAGES = 1000
# Marks latents of mirrored images, and modes that are found among them, too.
FLIPS = "-flips"
# The teacher that judges small images where the configuration names none: quick to train.
_SMALL_TEACHER = "resnet10-64"
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
# The folder of generators that were not trained on a data set at hand.
ANY_DATASET = "any"


def blocks(classes: list[str], size: int) -> list[list[str]]:
    """Classes in canonical order, cut into blocks; appended classes touch only the last and new."""
    return [classes[start : start + size] for start in range(0, len(classes), size)]


def _block_id(classes: Sequence[str]) -> str:
    return "block-" + hashlib.sha256(json.dumps(classes).encode()).hexdigest()[:8]


def _first_with(encoder: str) -> str:
    return next(name for name, entry in GENERATORS.items() if entry.encoder == encoder)


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
class Judge:
    """The teacher that judges the distilled sets of a data set.

    Attributes:
        trained_on: the data set it was trained on.
        teacher: its name.
        classes: what it calls the data set's classes; None: as the data set does.
    """

    trained_on: str
    teacher: str
    classes: list[str] | None = None


class Layout:
    """The paths of a configuration's artefacts, as strings relative to the working directory."""

    @named_paths()
    def __init__(self, config: Config, root: Path) -> None:
        self.config, self.root = config, root
        self.datasets = {dataset.name: dataset for dataset in config.datasets}
        self.choices = dict(zip(self.datasets, config.dataset_choices, strict=True))
        self.runs = {run.slug: run for run in config.runs}
        self.rows = [{**run.row(), "settings": run.settings} for run in config.runs]
        self.distilling = [run for run in config.runs if METHODS[run.method].distils]
        names = {run.generator for run in config.runs if run.generator}
        names |= {base.base for name in names if (base := get_generator(name).finetune)}
        # Of the generators that share an encoder, always the same one gives it.
        names |= {_first_with(e) for n in names if (e := get_generator(n).encoder)}
        self.generators = {slug_of(name): name for name in sorted(names)}
        self.classes = {name: d.source.classes() for name, d in self.datasets.items()}
        self.states = {name: self._state(name) for name in self.datasets}
        self.spaces: dict[tuple[str, str], Space] = {}
        self.latent_classes: dict[tuple[str, str], list[str]] = {}
        for dataset in self.datasets:
            for generator in self.generators:
                space = self.space(dataset, generator)
                self.spaces[space.origin, space.name] = space
                for block, classes in self._latent_blocks(dataset).items():
                    self.latent_classes[space.origin, block] = classes

    def slug(self, run: Run) -> str | None:
        """A run's generator as it stands in paths."""
        return slug_of(run.generator) if run.generator else None

    def _state(self, dataset: str) -> str:
        """What tells a data set's files in the cache from those of the same name with other images.

        Empty for a data set of the registry as it stands there, whose images everyone has.
        """
        choice = self.choices[dataset]
        settings = {"name": choice} if isinstance(choice, str) else dict(choice)
        for key in ("name", "classes", "incomplete"):  # of these no pixel depends
            settings.pop(key, None)
        if self.datasets[dataset].origin == "imagenet" or dataset in archives():
            settings.pop("root", None)
        elif "root" in settings and Path(self.config.cache_dir).is_absolute():
            settings["root"] = str(Path(settings["root"]).absolute())
        if not settings:
            return ""
        text = json.dumps(settings, sort_keys=True)
        return "@" + hashlib.sha256(text.encode()).hexdigest()[:8]

    def index(self, dataset: str) -> str:
        return f"{self.config.cache_dir}/indexes/{dataset}{self.states[dataset]}.parquet"

    def generator_folder(self, dataset: str, generator: str) -> str:
        """`generator` is a slug."""
        entry = get_generator(self.generators[generator])
        if entry.folder is not None:
            ours = entry.folder.is_relative_to(self.root)
            return str(entry.folder.relative_to(self.root) if ours else entry.folder)
        trained_on = dataset + self.states[dataset] if entry.of_dataset else ANY_DATASET
        return f"{self.config.cache_dir}/generators/{trained_on}/{generator}"

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
        folder = self.generator_folder(dataset, generator)
        return [f"{folder}/{file}" for file in vae_files(folder)]

    def generator_files(self, dataset: str, generator: str) -> list[str]:
        folder = self.generator_folder(dataset, generator)
        return [f"{folder}/{file}" for file in get_generator(self.generators[generator]).files]

    def space(self, dataset: str, generator: str) -> Space:
        """Where a generator's latents of a data set lie; `generator` is a slug."""
        entry = get_generator(self.generators[generator])
        size = entry.image_size or self.datasets[dataset].size
        encoder, folder = entry.encoder or generator, self.generator_folder(dataset, generator)
        if entry.encoder:
            folder = self.generator_folder(dataset, _first_with(entry.encoder))
        # An encoder that is trained on a data set is its own affair.
        origin = self.datasets[dataset].origin
        if entry.recipe or origin == dataset:
            origin = dataset + self.states[dataset]
        name = f"{encoder}-{size}-adm"
        if entry.encoded_in != "float32":
            name += f"-{entry.encoded_in}"
        return Space(name, origin, size, folder, entry.encoded_in)

    def origin_choice(self, origin: str) -> Any:
        """What `--dataset` takes for all images of an origin, whatever is made of them."""
        name = origin.partition("@")[0]
        of_origin = [d for d in self.datasets.values() if name in (d.origin, d.name)]
        choice = self.choices[of_origin[0].name]
        if isinstance(choice, str):
            return choice
        # A tolerant data set must not decide for the others.
        policies = {d.undecodable for d in of_origin}
        strict = {"undecodable": "skip"} if policies == {"skip"} else {}
        name = "imagenet1k" if of_origin[0].origin == "imagenet" else of_origin[0].name
        root = {"root": choice["root"]} if "root" in choice else {}
        return {"name": name, **root, **strict}

    def _latent_blocks(self, dataset: str) -> dict[str, list[str]]:
        """Block id -> its classes. A block's id is of its classes, so that no file is mistaken."""
        classes = self.classes[dataset]
        if self.datasets[dataset].origin == "imagenet":
            held = set(classes)
            cut = [list(block) for block in shared_blocks(LATENT_BLOCK) if block[0] in held]
        else:
            cut = blocks(classes, LATENT_BLOCK)
        return {_block_id(block): block for block in cut}

    def latents(self, dataset: str, generator: str, mirrored: str = "") -> list[str]:
        """The files that hold the latents of a data set's classes; `generator` is a slug.

        `mirrored` is FLIPS for the mirrored images, which have files of their own.
        """
        space = self.space(dataset, generator)
        folder = f"{self.config.cache_dir}/latents/{space.origin}/{space.name}{mirrored}"
        return [f"{folder}/{block}.safetensors" for block in self._latent_blocks(dataset)]

    def modes(self, dataset: str, run: Run, ipc: int, generation_seed: int) -> str:
        discovery = run.settings["modes"]
        seeded = f"_gen{generation_seed}" if DISCOVERIES[discovery].seeded else ""
        if components := run.settings["pca"]:
            discovery += f"-pca{components}"
        if run.settings.get("flips"):
            discovery += FLIPS
        space = slug_of(run.generator)
        return f"results/{dataset}/modes/{space}/{discovery}/ipc{ipc}{seeded}.safetensors"

    def sample_blocks(self, dataset: str, run: Run, ipc: int) -> list[list[str]]:
        """The classes of each sampling job of a distilled set."""
        size = self.config.classes_per_block
        if size == "auto":
            size = max(1, AUTO_IMAGES // ipc)
        together = METHODS[run.method].together
        return blocks(self.classes[dataset], -(-size // together) * together)

    def distilled(self, dataset: str, run: str, ipc: int, gen: int, file: str) -> str:
        return f"results/{dataset}/distilled/{run}/ipc{ipc}/gen{gen}/{file}"

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
            f"results/{dataset}/exported/{run.slug}/ipc{ipc}/gen{gen}/README.md"
            for dataset in self.datasets
            for run in self.distilling
            for ipc in self.config.ipc
            for gen in self.config.generation_seeds
        ]

    def teacher_files(self, dataset: str, protocol: SoftProtocol) -> list[str]:
        """Of the teacher that a protocol has for a data set."""
        return self.files_of_teacher(protocol.teacher_data or dataset, protocol.teacher)

    def files_of_teacher(self, trained_on: str, teacher: str) -> list[str]:
        """Of a teacher by the data set that it was trained on and its name."""
        state = self.states.get(trained_on, "")
        folder = f"{self.config.cache_dir}/teachers/{trained_on}{state}/{teacher}"
        return [f"{folder}/{file}" for file in TEACHER_FILES]

    def external_state(self, dataset: str, run: Run, ipc: int, block: int) -> str:
        """Tells changes of the images that a sampling job of a run of `external` takes."""
        classes = self.sample_blocks(dataset, run, ipc)[block]
        return external.state_of(run.settings["path"], classes, ipc)

    def labels(self, dataset: str, run: str, ipc: int, gen: int, protocol: str) -> list[str]:
        """All parts of a distilled set's stored labels; none where the protocol stores none."""
        entry, folder = get_protocol(protocol), f"results/{dataset}/labels/{run}/ipc{ipc}/gen{gen}"
        if not isinstance(entry, SoftProtocol):
            return []
        parts = entry.label_parts(len(self.classes[dataset]), ipc)
        return [f"{folder}/{protocol}_part{part}.safetensors" for part in range(parts)]

    def pixels(self, dataset: Dataset, split: str, size: str) -> str:
        folder = f"{self.config.cache_dir}/pixels/{dataset.name}{self.states[dataset.name]}"
        return f"{folder}/{split}_{size}.safetensors"

    def scores(self) -> list[str]:
        """Every score file of the configuration."""
        return [
            f"results/{dataset}/evaluated/{run.slug}/ipc{ipc}/gen{gen}/{entry['protocol']}/"
            f"{network}_seed{seed}.json"
            for dataset in self.datasets
            for run in self.config.runs
            for ipc in (self.config.ipc if METHODS[run.method].distils else [WHOLE_SPLIT])
            for gen in self.config.generation_seeds
            for entry in self.config.evaluation
            for network in entry["networks"]
            for seed in range(entry["training_seeds"])
        ]

    def report(self, file: str) -> str:
        return f"results/reports/{self.config.name}/{file}"

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

    @property
    def measures(self) -> bool:
        """Whether distilled sets can be measured."""
        return bool(self.distilling) and any(run.generator for run in self.config.runs)

    def judge(self, dataset: str) -> Judge | None:
        """The teacher that the configuration has for a data set; for small images, if it has none,
        one that is quick to train."""
        for entry in self.config.evaluation:
            protocol = get_protocol(entry["protocol"])
            if isinstance(protocol, SoftProtocol):
                names = protocol.teacher_classes(self.datasets[dataset])
                return Judge(protocol.teacher_data or dataset, protocol.teacher, names)
        for run in self.config.runs:
            if "teacher" in METHODS[run.method].needs:
                return Judge(dataset, run.settings["teacher"])
        small = self.datasets[dataset].size <= TEACHERS[_SMALL_TEACHER].size
        return Judge(dataset, _SMALL_TEACHER) if small else None

    def _verdict(self, dataset: str, file: str) -> list[str]:
        judge = self.judge(dataset)
        if judge is None:
            return []
        return [f"results/{dataset}/judged/{judge.trained_on}/{judge.teacher}/{file}"]

    def verdicts(self, dataset: str, ipc: int, gen: int) -> list[str]:
        """A teacher's judgement of every run's distilled set; none where there is no teacher."""
        files = [f"{run.slug}/ipc{ipc}_gen{gen}.safetensors" for run in self.distilling]
        return [path for file in files for path in self._verdict(dataset, file)]

    def verdict_on_originals(self, dataset: str) -> list[str]:
        """The teacher's features of the training images; none where there is no teacher."""
        return self._verdict(dataset, "originals.safetensors")

    def embedded(self, dataset: str, ipc: int, gen: int) -> list[str]:
        """The latents of every run's distilled set, in the order of the runs."""
        folder = f"results/{dataset}/metrics/{self.measuring_generator()}"
        return [f"{folder}/{run.slug}/ipc{ipc}_gen{gen}.safetensors" for run in self.distilling]

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

    @cached_property
    def tunings(self) -> dict[str, Tuning]:
        """By id. Raises UserError as `tuning.plan.tunings`: only who tunes is to mend it."""
        return {tuning.id: tuning for tuning in tunings(self.config)}

    def _tuning(self, tuning: Tuning, file: str) -> str:
        return f"results/{tuning.dataset}/tuning/{tuning.id}/{file}"

    def judged(self, tuning: Tuning, rung: int) -> list[str]:
        """The scores of a rung; none of what is before the first."""
        if rung < 0:
            return []
        return [
            self._tuning(tuning, f"rung{rung}/slot{slot}_gen{seed}_score.json")
            for slot in range(tuning.slots(rung))
            for seed in tuning.rungs[rung].seeds
        ]

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
        folder = f"results/{tuning.dataset}/tuning/teachers/{tuning.teacher}"
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
            for tuning in self.tunings.values()
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
        modes, folder = self.modes(dataset, self.runs[run], ipc, gen), f"results/{dataset}"
        return modes.replace(f"{folder}/modes/", f"{folder}/decoded/", 1)

    def trajectory(self, dataset: str, run: str, ipc: int, gen: int) -> str:
        """How the first images of a run came to be."""
        return f"results/{dataset}/trajectories/{run}/ipc{ipc}_gen{gen}.safetensors"

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

    def require_permitted(self, targets: Iterable[str]) -> None:
        """Raises UserError for a target of figures or measures that the runs do not permit."""
        files = self.figures()
        files |= {"metrics": files["figure3"], "figures": [f for of in files.values() for f in of]}
        files["gallery"] = self.gallery()
        for target in targets:
            if target in files and not files[target]:
                raise UserError(f"{target} needs {_NEEDS[target]}", "add it to `runs`")


def _is_guided(run: Run) -> bool:
    return {"modes", "t_sg"} <= run.settings.keys()


def _freedom(run: Run) -> tuple[int, float]:
    return run.settings["t_sg"], -run.settings["lambda"]
