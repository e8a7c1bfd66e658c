"""What the job of a rule reads and is told, from the wildcards of what it writes.

Every decision that rules need is made here, where it can be tested without Snakemake: a rule names
what a method of `Wiring` gives, and nothing else. `w` is anything with the wildcards as attributes;
paths are as in `Layout`, options as lists of words for a command line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.protocols import SoftProtocol, get_protocol
from ..generators.registry import get_generator
from ..methods import METHODS
from ..teachers import TEACHERS, trained_on
from .config import Run
from .layout import FLIPS, SHOWN_CLASSES, TRACED_CLASSES, Layout, Space
from .tuning import Tuning

Runs = Callable[[Any], Sequence[Run]]


def compact(value: Any) -> str:
    """JSON for a command line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Wiring:
    """Inputs and options of the jobs of a configuration."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.first_seed = layout.config.generation_seeds[0]

    # What wildcards name

    def run(self, w: Any) -> Run:
        return self.layout.runs[w.run]

    def _needs(self, w: Any) -> tuple[str, ...]:
        return METHODS[self.run(w).method].needs

    def tuning(self, w: Any) -> Tuning:
        return self.layout.tunings[w.tuning]

    # Data

    def dataset(self, w: Any) -> str:
        """What `--dataset` takes, without what changes no pixel."""
        choice = self.layout.choices[w.dataset]
        if isinstance(choice, dict):
            choice = {key: value for key, value in choice.items() if key != "classes"}
        return compact(choice)

    def dataset_with_meanings(self, w: Any) -> str:
        """What `--dataset` takes where generators are told of classes."""
        return compact(self.layout.choices[w.dataset])

    def classes(self, w: Any) -> str:
        return compact(self.layout.classes[w.dataset])

    def shown_classes(self, w: Any) -> str:
        return compact(self.layout.classes[w.dataset][:SHOWN_CLASSES])

    def traced_classes(self, w: Any) -> str:
        return compact(self.layout.classes[w.dataset][:TRACED_CLASSES])

    def flip(self, w: Any) -> list[str]:
        return ["--flip"] if self.layout.datasets[w.dataset].flip else []

    def archive(self, w: Any) -> list[str]:
        return self.layout.archive(w.dataset)

    def index(self, w: Any) -> str:
        return self.layout.index(w.dataset)

    def real(self, split: str) -> Callable[[Any], list[str]]:
        """The pixels of a split that an evaluation reads."""
        return lambda w: self.layout.pixels(w.dataset, split, get_protocol(w.protocol).pixels)

    def shown_to_teacher(self, split: str) -> Callable[[Any], list[str]]:
        """The pixels of a split that a teacher is trained on or tested with."""

        def paths(w: Any) -> list[str]:
            recipe = TEACHERS[w.teacher]
            size = recipe.train_pixels if split == "train" else recipe.test_pixels
            return self.layout.pixels(w.dataset, split, size)

        return paths

    def validation_of_teacher(self, w: Any) -> list[str]:
        return _option("--validation", self.shown_to_teacher("validation")(w))

    # Generators, latents, modes

    def draw(self, w: Any) -> str:
        return get_generator(self.layout.generators[w.generator]).draw

    def base(self, w: Any) -> list[str]:
        """Of the generator that a fine-tuned one starts from."""
        return self.layout.generator_inputs(w.dataset, self.layout.base_of(w.generator))

    def base_folder(self, w: Any) -> str:
        return self.layout.generator_folder(w.dataset, self.layout.base_of(w.generator))

    def vae(self, w: Any) -> list[str]:
        return self.layout.vae_inputs(w.dataset, w.generator)

    def vae_folder(self, w: Any) -> str:
        return self.layout.vae_folder(w.dataset, w.generator)

    def encoder(self, w: Any) -> list[str]:
        """Of the VAE through which a generator's latents are made."""
        return self.layout.encoder_inputs(w.dataset, w.generator)

    def space(self, w: Any) -> Space:
        return self.layout.space(w.dataset, w.generator)

    def encoder_of_block(self, w: Any) -> list[str]:
        job = self.layout.latent_job(w.id)
        return self.layout.vae_inputs(job.dataset, job.encoder)

    def latents(self, w: Any) -> list[str]:
        return self.layout.latents(w.dataset, w.generator)

    def mirrored(self, w: Any) -> list[str]:
        return self.layout.latents(w.dataset, w.generator, FLIPS) if w.flips else []

    def mirrored_option(self, w: Any) -> list[str]:
        return _option("--mirrored", self.mirrored(w))

    def pca(self, w: Any) -> list[str]:
        return _option("--pca", [w.pca.removeprefix("-pca")] if w.pca else [])

    # Distilled sets

    def generator_of_run(self, w: Any) -> list[str]:
        """The files of the generator that a run's method is given, whole or its VAE."""
        if (slug := self.layout.slug(self.run(w))) is None:
            return []
        whole = "generator" in self._needs(w)
        of = self.layout.generator_inputs if whole else self.layout.vae_inputs
        return of(w.dataset, slug)

    def generator_option(self, w: Any) -> list[str]:
        if (slug := self.layout.slug(self.run(w))) is None:
            return []
        whole = "generator" in self._needs(w)
        of = self.layout.generator_folder if whole else self.layout.vae_folder
        return ["--generator", of(w.dataset, slug)]

    def modes_of_run(self, w: Any) -> list[str]:
        if "modes" not in self._needs(w):
            return []
        return [self.layout.modes(w.dataset, self.run(w), int(w.ipc), int(w.gen))]

    def modes_option(self, w: Any) -> list[str]:
        return _option("--modes", self.modes_of_run(w))

    def teacher_of_run(self, w: Any) -> list[str]:
        if "teacher" not in self._needs(w):
            return []
        teacher = self.run(w).settings["teacher"]
        return self.layout.files_of_teacher(trained_on(teacher, w.dataset), teacher)

    def teacher_option(self, w: Any) -> list[str]:
        return _option("--teacher-folder", _folder(self.teacher_of_run(w)))

    def method(self, w: Any) -> str:
        return self.run(w).method

    def settings(self, w: Any) -> str:
        return compact(self.run(w).settings)

    def classes_of_block(self, w: Any) -> str:
        return compact(self.layout.sample_blocks(w.dataset, self.run(w), int(w.ipc))[int(w.b)])

    def blocks(self, w: Any) -> list[str]:
        return self.layout.blocks(w.dataset, w.run, int(w.ipc), int(w.gen))

    def in_set(self, file: str) -> Callable[[Any], str]:
        """A file of a distilled set."""
        return lambda w: self.layout.distilled(w.dataset, w.run, int(w.ipc), int(w.gen), file)

    def about_set(self, w: Any) -> dict[str, Any]:
        """What made a distilled set."""
        run = self.run(w)
        return {
            "dataset": w.dataset,
            "ipc": int(w.ipc),
            "run_settings": run.settings,
            "deterministic": METHODS[run.method].is_deterministic(run.settings),
            **run.row(),
        }

    def card_context(self, w: Any) -> str:
        return compact(self.about_set(w))

    # Evaluation

    def train(self, w: Any) -> list[str]:
        """What networks are trained on: a distilled set, or the whole train split."""
        if METHODS[self.run(w).method].distils:
            return [self.in_set("images.safetensors")(w)]
        return self.real("train")(w)

    def validation(self, w: Any) -> list[str]:
        return _option("--validation", self.real("validation")(w))

    def context(self, w: Any) -> str:
        """What the scores say of the distilled set. Not how tables call it: a label depends on the
        other rows, and trainings must not."""
        about = self.about_set(w)
        del about["label"]
        return compact(about)

    def teacher_of_labels(self, w: Any) -> list[str]:
        return self.layout.teacher_files(w.dataset, get_protocol(w.protocol))

    def teacher_online(self, w: Any) -> list[str]:
        """Of the teacher in the loop, where the protocol has one there."""
        protocol = get_protocol(w.protocol)
        online = isinstance(protocol, SoftProtocol) and protocol.labels == "online"
        return self.teacher_of_labels(w) if online else []

    def labels(self, w: Any) -> list[str]:
        return self.layout.labels(w.dataset, w.run, int(w.ipc), int(w.gen), w.protocol)

    def parts(self, w: Any) -> int:
        return len(self.labels(w))

    def labelling(self, w: Any) -> list[str]:
        """Options for the teacher of a protocol."""
        dataset = self.layout.datasets[w.dataset]
        classes = get_protocol(w.protocol).teacher_classes(dataset)
        named = [] if classes is None else ["--teacher-classes", compact(classes)]
        return [*_option("--teacher-folder", _folder(self.teacher_of_labels(w))), *named]

    def supervision(self, w: Any) -> list[str]:
        """Options for what a student learns from beside the images."""
        return self.labelling(w) if self.teacher_online(w) else _option("--labels", self.labels(w))

    # Measures

    def judge(self, w: Any) -> list[str]:
        return self.layout.files_of_teacher(w.trained_on, w.teacher)

    def names_for_judge(self, w: Any) -> list[str]:
        judge = self.layout.judge(w.dataset)
        named = judge is not None and judge.classes is not None
        return ["--teacher-classes", compact(judge.classes)] if judge and named else []

    def measured_latents(self, w: Any) -> list[str]:
        """The real images in the space where sets are measured; none where they are not."""
        if not self.layout.measures:
            return []
        return self.layout.latents(w.dataset, self.layout.measuring_generator())

    def embedded(self, w: Any) -> list[str]:
        return self.layout.embedded(w.dataset, int(w.ipc), int(w.gen))

    def verdicts(self, w: Any) -> list[str]:
        return self.layout.verdicts(w.dataset, int(w.ipc), int(w.gen))

    def verdict_on_originals(self, w: Any) -> list[str]:
        return self.layout.verdict_on_originals(w.dataset)

    def judged(self, w: Any) -> list[str]:
        """Options for a teacher's judgement of the sets that are measured."""
        out = self.layout.judgings[w.dataset].not_judged
        return [
            *_option("--judged", self.verdicts(w)),
            *_option("--judged-originals", self.verdict_on_originals(w)),
            *(["--not-judged", compact(out)] if out else []),
        ]

    def of(self, w: Any) -> str:
        return compact({"dataset": w.dataset, "ipc": int(w.ipc), "generation_seed": int(w.gen)})

    # Pictures: all of the first generation seed

    def of_first(self, w: Any) -> str:
        first = {"dataset": w.dataset, "ipc": int(w.ipc), "generation_seed": self.first_seed}
        return compact(first)

    def own(self, w: Any) -> Sequence[Run]:
        return [self.run(w)]

    def distilling(self, w: Any) -> Sequence[Run]:
        return self.layout.distilling

    def from_modes(self, w: Any) -> Sequence[Run]:
        return self.layout.from_modes

    def over_stops(self, w: Any) -> Sequence[Run]:
        """A run at every t_SG, and the unguided one that it is compared with."""
        return [*self.layout.stops(w.run), *self.layout.unguided(w.run)]

    def traced(self, w: Any) -> Sequence[Run]:
        """Some of the values of t_SG; of a single one, it and the unguided run."""
        runs = self.layout.traced(w.run)
        return runs if len(runs) > 1 else [*runs, *self.layout.unguided(w.run)]

    def sets(self, runs: Runs) -> Callable[[Any], list[str]]:
        return self._of_first(
            lambda *key: self.layout.distilled(*key, file="images.safetensors"), runs
        )

    def decoded(self, runs: Runs) -> Callable[[Any], list[str]]:
        return self._of_first(self.layout.decoded_modes, runs)

    def recorded(self, runs: Runs) -> Callable[[Any], list[str]]:
        return self._of_first(self.layout.trajectory, runs)

    def _of_first(self, path: Callable[..., str], runs: Runs) -> Callable[[Any], list[str]]:
        return lambda w: [path(w.dataset, run.slug, int(w.ipc), self.first_seed) for run in runs(w)]

    def rows(self, runs: Runs) -> Callable[[Any], str]:
        return lambda w: rows_of(runs(w))

    def shown_in_space(self, w: Any) -> list[str]:
        """The latents of the sets that the gallery shows."""
        if not self.layout.measures:
            return []
        return self.layout.embedded(w.dataset, int(w.ipc), self.first_seed)

    def nearest(self, w: Any) -> list[str]:
        """Options for the nearest real images, where there is a latent space to seek them in."""
        return [
            *_option("--latents", self.measured_latents(w)),
            *_option("--embedded", self.shown_in_space(w)),
        ]

    def mode_images(self, w: Any) -> list[str]:
        guided = compact([run.slug for run in self.layout.from_modes])
        images = self.decoded(self.from_modes)(w)
        return ["--guided", guided, "--mode-images", *images] if images else []

    def modes_to_decode(self, w: Any) -> str:
        return self.layout.modes_to_decode(w.id)

    def size(self, w: Any) -> int:
        return self.layout.datasets[w.dataset].size

    # Tuning

    def scores_before(self, w: Any) -> list[str]:
        """The scores of the rung before one."""
        return self.layout.judged(self.tuning(w), int(w.rung) - 1)

    def rung_before(self, w: Any) -> list[str]:
        return self.layout.rung_before(self.tuning(w), int(w.rung))

    def scores_option(self, w: Any) -> list[str]:
        """The scores that a rung chooses by, and the rung that they are of."""
        scores = _option("--scores", self.scores_before(w))
        return [*scores, *_option("--before", self.rung_before(w))]

    def keep(self, w: Any) -> int:
        return self.tuning(w).slots(int(w.rung))

    def tuned_slug(self, w: Any) -> str:
        return str(self.layout.slug(self.tuning(w).run))

    def tuned_generator(self, w: Any) -> list[str]:
        return self.layout.generator_inputs(w.dataset, self.tuned_slug(w))

    def tuned_folder(self, w: Any) -> str:
        return self.layout.generator_folder(w.dataset, self.tuned_slug(w))

    def tuned_modes(self, w: Any) -> list[str]:
        return self.layout.tuning_modes(self.tuning(w), int(w.gen))

    def tuned_modes_option(self, w: Any) -> list[str]:
        return _option("--modes", self.tuned_modes(w))

    def tuned_latents(self, w: Any) -> list[str]:
        return self.layout.latents(w.dataset, self.tuned_slug(w))

    def tuned_encoder(self, w: Any) -> list[str]:
        return self.layout.encoder_inputs(w.dataset, self.tuned_slug(w))

    def tuned_space(self, w: Any) -> Space:
        return self.layout.space(w.dataset, self.tuned_slug(w))

    def tuning_teacher(self, w: Any) -> list[str]:
        return self.layout.tuning_teacher(self.tuning(w))

    def tuning_teacher_folder(self, w: Any) -> str:
        return _folder(self.tuning_teacher(w))[0]

    def held_out(self, w: Any) -> list[str]:
        size = get_protocol(self.tuning(w).protocol).pixels
        return self.layout.pixels(w.dataset, "validation", size)


def rows_of(runs: Iterable[Run]) -> str:
    """Runs as figures want them."""
    return compact([{**run.row(), "settings": run.settings} for run in runs])


def labels_of(runs: Iterable[Run]) -> str:
    """Runs as tables want them."""
    return compact([run.row() for run in runs])


def _option(name: str, values: Sequence[str]) -> list[str]:
    """An option with its values; nothing where there are none."""
    return [name, *values] if values else []


def _folder(files: Sequence[str]) -> list[str]:
    return [str(Path(file).parent) for file in files[:1]]
