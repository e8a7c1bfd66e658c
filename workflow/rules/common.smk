import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mgd3.base.device import require_writable, visible_gpus
from mgd3.base.errors import UserError
from mgd3.base.headers import FOLDER_HEADER
from mgd3.data.archives import RECEIPT, archive_folder, archives
from mgd3.discovery import DISCOVERIES
from mgd3.generators.registry import DIT_FILES, FAMILY_FILES, VAE_FILES
from mgd3.planning.config import preflight, resolve
from mgd3.planning.layout import ANY_DATASET, FLIPS, SPACES, Layout
from mgd3.planning.notes import notes
from mgd3.planning.overrides import PLAN, reread
from mgd3.planning.reading import require_strict
from mgd3.planning.times import put_right
from mgd3.planning.user_files import UserFiles
from mgd3.planning.why import changes
from mgd3.planning.wiring import Wiring, compact, labels_of, rows_of
from mgd3.stages import VERSIONS
from mgd3.teachers import IMAGENET, TEACHER_FILES, TEACHERS

try:
    # Snakemake has parsed them, and takes what nobody means: a key twice, 010 for 8.
    require_strict(files_read())
    CONFIG = resolve(reread(config, GIVEN))
    if PLANNING:
        preflight(CONFIG)
        for note in notes(CONFIG):
            print(f"note: {note}", file=sys.stderr)
        require_writable("results")
        require_writable(CONFIG.cache_dir)
    # A job elsewhere is told what its plan found.
    FOUND = UserFiles(plan=None if PLANNING else config.get(PLAN))
    LAYOUT = Layout(CONFIG, Path(workflow.basedir), VERSIONS, FOUND)
    if PLANNING:
        for change in [*put_right(LAYOUT), *changes(LAYOUT)]:
            print(f"note: {change}", file=sys.stderr)
except UserError as error:
    raise WorkflowError(str(error)) from None

# What jobs read and are told.
JOBS = Wiring(LAYOUT)

# As many jobs at a time as this machine has GPUs, each of which takes a free one; no limit where
# there is none: its jobs run on the CPU, and a cluster counts its own GPUs.
limit("gpu", len(visible_gpus()) or 10**6)

# Trainings of networks come last: they wait for all the rest, they are equally long, and so no core
# is idle at the end. And a job of several threads is not put off until no small one is left.
FIRST = 1

ON_DEVICE = {"device": CONFIG.device, "gpu": 0 if CONFIG.device == "cpu" else 1}


def timed(path):
    """An input whose time counts only if a training made it, or what it comes of: the path of
    anything else says all that it is."""
    return path if LAYOUT.keeps_time(path) else ancient(path)


def reads(of):
    """The inputs that a function of wildcards names."""

    def paths(wildcards):
        try:
            if digits := wildcards.get("id"):
                LAYOUT.require_own(digits)
            found = of(wildcards)
        except UserError as error:
            raise WorkflowError(str(error)) from None
        return timed(found) if isinstance(found, str) else [*map(timed, found)]

    return paths


def identity(wildcards, output):
    """The description of what a job makes: its path says the same in twelve digits."""
    try:
        return LAYOUT.identity_of(output[0]).text
    except UserError as error:
        raise WorkflowError(str(error)) from None


def folder_of(wildcards, output):
    """Where the first output lies."""
    return str(Path(output[0]).parent)


def above(wildcards, output):
    """The pipeline folder of the first output, which lies in a folder of it."""
    return str(Path(output[0]).parents[1])


def one_of(names):
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    dataset=one_of(LAYOUT.datasets),
    generator=one_of(LAYOUT.generators),
    run=one_of(LAYOUT.runs),
    id="[0-9a-f]{12}",  # of an identity
    ipc=r"\d+",
    gen=r"\d+",
    b=r"\d+",
    seed=r"\d+",
    tuning=r"[a-z0-9-]+_[0-9a-f]{8}",
    rung=r"\d+",
    flips=f"({FLIPS})?",
    slot=r"\d+",
    size=r"\d+(-\d+)?(-tensor(-aliased)?)?",
    split="train|test|validation",
    teacher=one_of(TEACHERS),
    protocol=r"[A-Za-z0-9._-]+",
    network=r"[A-Za-z0-9._:-]+",  # timm:NAME
