import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mgd3.planning.config import preflight, resolve
from mgd3.planning.notes import notes
from mgd3.planning.owners import version_of
from mgd3.planning.reading import require_strict
from mgd3.data.archives import RECEIPT, archives
from mgd3.base.errors import UserError
from mgd3.evaluation.protocols import get_protocol
from mgd3.generators.folder import vae_files
from mgd3.generators.registry import DIT_FILES, FAMILY_FILES, VAE_FILES, get_generator
from mgd3.planning.layout import (
    ANY_DATASET,
    FLIPS,
    SHOWN_CLASSES,
    SPACES,
    TRACED_CLASSES,
    Layout,
)
from mgd3.methods import METHODS
from mgd3.discovery import DISCOVERIES
from mgd3.base.device import require_writable, visible_gpus
from mgd3.stages import VERSIONS
from mgd3.teachers import IMAGENET, TEACHER_FILES, TEACHERS

try:
    if len(CHOSEN) > 1:
        raise UserError(
            f"several presets at once: {', '.join(preset.stem for preset in CHOSEN)}",
            "each is a configuration of its own: run one after the other",
        )
    # Snakemake has parsed them, and takes what nobody means: a key twice, 010 for 8.
    require_strict(workflow.configfiles)
    CONFIG = resolve(config)
    if workflow.is_main_process:
        preflight(CONFIG)
        for note in notes(CONFIG):
            print(f"note: {note}", file=sys.stderr)
        require_writable("results")
        require_writable(CONFIG.cache_dir)
    LAYOUT = Layout(CONFIG, Path(workflow.basedir))
    # A mistake is one message here, and a traceback in an input function; but Snakemake knows its
    # targets only when it has read the rules.
    if "tune" in sys.argv:
        LAYOUT.tunings
    LAYOUT.require_permitted(sys.argv[1:])
except UserError as error:
    raise WorkflowError(str(error)) from None

# As many jobs at a time as this machine has GPUs, each of which takes a free one; no limit where
# there is none: its jobs run on the CPU, and a cluster counts its own GPUs.
workflow.global_resources.setdefault("gpu", len(visible_gpus()) or 10**6)

# Trainings of networks come last: they wait for all the rest, they are equally long, and so no core
# is idle at the end. And a job of several threads is not put off until no small one is left.
FIRST = 1

ON_DEVICE = {"device": CONFIG.device, "gpu": 0 if CONFIG.device == "cpu" else 1}


def compact(value):
    """JSON for a command line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def dataset_choice(wildcards):
    """What `--dataset` takes, without what changes no pixel."""
    choice = LAYOUT.choices[wildcards.dataset]
    if isinstance(choice, dict):
        choice = {key: value for key, value in choice.items() if key != "classes"}
    return compact(choice)


def dataset_with_meanings(wildcards):
    """What `--dataset` takes where generators are told of classes."""
    return compact(LAYOUT.choices[wildcards.dataset])


def meanings(wildcards):
    """The meanings of the classes where a file of the user's gives them; it may change."""
    dataset = LAYOUT.datasets[wildcards.dataset]
    return str(dataset.meanings) if dataset.classes_file else ""


def space_of(wildcards):
    return LAYOUT.spaces[wildcards.origin, wildcards.space]


def index(wildcards):
    return LAYOUT.index(wildcards.dataset)


def origin_index(wildcards):
    """Images of one's own may change, which their index tells; those of ImageNet do not."""
    name = wildcards.origin.partition("@")[0]
    return LAYOUT.index(name) if name in LAYOUT.datasets else []


def run_of(wildcards):
    return LAYOUT.runs[wildcards.run]


def version_with(stage, kind):
    """The version of a stage, a number, with that of the owner that a wildcard names."""

    def version(wildcards):
        return version_of(stage, (kind, getattr(wildcards, kind)))

    return version


def version_of_method(stage, run):
    """The version of a stage with those of a run's method and its generator's family."""
    family = (
        [("generator", get_generator(run.generator).family)] if run.generator else []
    )
    return version_of(stage, ("method", run.method), *family)


def version_of_run(stage):
    return lambda wildcards: version_of_method(stage, run_of(wildcards))


def generator_files(wildcards):
    run = run_of(wildcards)
    if run.generator is None:
        return []
    slug = LAYOUT.slug(run)
    if "generator" in METHODS[run.method].needs:
        return LAYOUT.generator_files(wildcards.dataset, slug)
    return LAYOUT.vae_files(wildcards.dataset, slug)


def modes_file(wildcards):
    run = run_of(wildcards)
    if "modes" not in METHODS[run.method].needs:
        return []
    return LAYOUT.modes(wildcards.dataset, run, int(wildcards.ipc), int(wildcards.gen))


def method_teacher_files(wildcards):
    run = run_of(wildcards)
    if "teacher" not in METHODS[run.method].needs:
        return []
    return LAYOUT.files_of_teacher(wildcards.dataset, run.settings["teacher"])


def external_state(wildcards):
    """Images that were made elsewhere may change. As inputs they would be as many as images, and
    their names be taken for patterns."""
    run = run_of(wildcards)
    if run.method != "external":
        return ""
    ipc = int(wildcards.ipc)
    return LAYOUT.external_state(wildcards.dataset, run, ipc, int(wildcards.b))


def generator_options(wildcards):
    run = run_of(wildcards)
    if run.generator is None:
        return []
    return ["--generator", LAYOUT.generator_folder(wildcards.dataset, LAYOUT.slug(run))]


def sample_blocks(wildcards):
    return LAYOUT.sample_blocks(
        wildcards.dataset, run_of(wildcards), int(wildcards.ipc)
    )


def pixels_of(dataset, split, size):
    """The file of a real split; nothing for a validation split that the data set does not have."""
    dataset = LAYOUT.datasets[dataset]
    if split == "validation" and dataset.validation_fraction == 0:
        return []
    return LAYOUT.pixels(dataset, split, size)


def real_split(split):
    def path(wildcards):
        pixels = get_protocol(wildcards.protocol).pixels
        return pixels_of(wildcards.dataset, split, pixels)

    return path


def train_file(wildcards):
    """What networks are trained on: a distilled set, or the whole train split."""
    if METHODS[run_of(wildcards).method].distils:
        return LAYOUT.distilled(
            wildcards.dataset,
            wildcards.run,
            int(wildcards.ipc),
            int(wildcards.gen),
            "images.safetensors",
        )
    return real_split("train")(wildcards)


def teacher_files(wildcards):
    """Of the teacher in the loop, where the protocol has one there."""
    protocol = get_protocol(wildcards.protocol)
    if getattr(protocol, "labels", None) != "online":
        return []
    return LAYOUT.teacher_files(wildcards.dataset, protocol)


def label_files(wildcards):
    ipc, gen = int(wildcards.ipc), int(wildcards.gen)
    return LAYOUT.labels(wildcards.dataset, wildcards.run, ipc, gen, wildcards.protocol)


def teacher_options(files, wildcards):
    classes = get_protocol(wildcards.protocol).teacher_classes(
        LAYOUT.datasets[wildcards.dataset]
    )
    named = [] if classes is None else ["--teacher-classes", compact(classes)]
    return ["--teacher-folder", str(Path(files[0]).parent), *named]


def judged_by(wildcards, input):
    """Options for a teacher's judgement of the sets that are measured."""
    if not input.judged:
        return []
    return ["--judged", *input.judged, "--judged-originals", *input.judged_originals]


def judge_of(wildcards):
    return LAYOUT.files_of_teacher(wildcards.trained_on, wildcards.teacher)


def names_for_judge(wildcards):
    names = LAYOUT.judge(wildcards.dataset).classes
    return [] if names is None else ["--teacher-classes", compact(names)]


def rows_of(runs):
    return compact([{**run.row(), "settings": run.settings} for run in runs])


def unguided_and_stops(wildcards):
    """A run at every t_SG, and the unguided one that it is compared with."""
    return [*LAYOUT.stops(wildcards.run), *LAYOUT.unguided(wildcards.run)]


def traced_runs(wildcards):
    """Some of the values of t_SG; of a single one, it and the unguided run."""
    runs = LAYOUT.traced(wildcards.run)
    return runs if len(runs) > 1 else [*runs, *LAYOUT.unguided(wildcards.run)]


def of_first_seed(path, runs):
    """The artefact of each of some runs, of the first generation seed."""

    def paths(wildcards):
        ipc, gen = int(wildcards.ipc), CONFIG.generation_seeds[0]
        return [path(wildcards.dataset, run.slug, ipc, gen) for run in runs(wildcards)]

    return paths


def distilled_images(dataset, run, ipc, gen):
    return LAYOUT.distilled(dataset, run, ipc, gen, "images.safetensors")


def nearest_options(wildcards, input):
    """Options for the nearest real images, where there is a latent space to seek them in."""
    if not input.embedded:
        return []
    return ["--latents", *input.latents, "--embedded", *input.embedded]


def mode_options(wildcards, input):
    if not input.modes:
        return []
    guided = compact([run.slug for run in LAYOUT.from_modes])
    return ["--guided", guided, "--mode-images", *input.modes]


def own_run(wildcards):
    return [run_of(wildcards)]


def shown_classes(wildcards, count=SHOWN_CLASSES):
    return compact(LAYOUT.classes[wildcards.dataset][:count])


def supervision_of(wildcards, input):
    """Options for what a student learns from beside the images."""
    if input.teacher:
        return teacher_options(input.teacher, wildcards)
    return ["--labels", *input.labels] if input.labels else []


def teacher_split(split):
    def path(wildcards):
        recipe = TEACHERS[wildcards.teacher]
        size = recipe.train_pixels if split == "train" else recipe.test_pixels
        return pixels_of(wildcards.dataset, split, size)

    return path


def flip_of(wildcards):
    return ["--flip"] if LAYOUT.datasets[wildcards.dataset].flip else []


def validation_of(wildcards, input):
    return ["--validation", input.validation] if input.validation else []


def about_set(wildcards):
    """What made a distilled set."""
    run = run_of(wildcards)
    return {
        "dataset": wildcards.dataset,
        "ipc": int(wildcards.ipc),
        "run_settings": run.settings,
        "deterministic": METHODS[run.method].is_deterministic(run.settings),
        **run.row(),
    }


def context(wildcards):
    """What the scores say of the distilled set. Not how tables call it: a label depends on the other
    rows, and trainings must not."""
    about = about_set(wildcards)
    del about["label"]
    return compact(about)


def card_context(wildcards):
    return compact(about_set(wildcards))


def tuning_of(wildcards):
    return LAYOUT.tunings[wildcards.tuning]


def tuning_space(wildcards):
    slug = LAYOUT.slug(tuning_of(wildcards).run)
    return LAYOUT.space(wildcards.dataset, slug)


def recipe(wildcards):
    return str(get_generator(LAYOUT.generators[wildcards.generator]).recipe)


wildcard_constraints:
    dataset="|".join(map(re.escape, LAYOUT.datasets)),
    generator="|".join(map(re.escape, LAYOUT.generators)) or "none",
    run="|".join(map(re.escape, LAYOUT.runs)),
    ipc=r"\d+",
    gen=r"\d+",
    b=r"\d+",
    seed=r"\d+",
    state=r"(@[0-9a-f]{8})?",  # see Layout
    tuning=r"[a-z0-9-]+_[0-9a-f]{8}",
    rung=r"\d+",
    flips=f"({FLIPS})?",
    slot=r"\d+",
    size=r"\d+(-\d+)?(-tensor(-aliased)?)?",
    split="train|test|validation",
    teacher="|".join(map(re.escape, TEACHERS)),
    protocol=r"[A-Za-z0-9._-]+",
    network=r"[A-Za-z0-9._:-]+",  # timm:NAME
