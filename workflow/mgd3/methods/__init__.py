"""Methods: everything that yields a distilled set. One file each; importable without torch.

A method's module has `distil(job) -> {class: uint8 [ipc, 3, S, S]}` for the classes of one block.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from ..data.index import Index
    from ..data.registry import Dataset
    from ..diffusion.trajectories import Trajectory

_SAMPLING = {
    "variant": "ddpm",
    "cfg": 4.0,
    "cfg_channels": 3,
    "steps": 50,
    "spacing": "auto",
    "precision": "float32",
}
_MODE_GUIDANCE = {
    "modes": "kmeans",
    "pca": None,
    "flips": False,
    "lambda": 0.1,
    "t_sg": 25,
    "stop_rule": "code",
    "stop_unit": "step",
    "clamp": None,
}

_FEATURES = {"teacher": "resnet18"}
_MATCHING = {"network": None, "size": None, "real_batch": 256}
_PRIOR = {**_MATCHING, "objective": "dc", "iterations": 1_000, "learning_rate": 1.0}
# What is matched through a generator: mgd3.methods.priors.
OBJECTIVES: tuple[str, ...] = ("dc", "dm")
# Of `Method.together`: all classes of the data set.
EVERY = sys.maxsize


@dataclass(frozen=True)
class Method:
    """A registry line.

    Attributes:
        label: what tables call it.
        module: its file in this package.
        needs: of "modes", "generator", "vae" (the generator's alone) and "teacher", what its
            `distil` is given.
        settings: its settings and their defaults; a generator's own defaults come first.
        by_objective: defaults that differ with the setting `objective`.
        required: those of its settings that the user must give.
        deterministic: whether generation seeds change nothing; or the settings with which they do
            not.
        distils: whether it makes images. One that does not has networks trained on the whole train
            split, and IPC does not enter.
        together: classes, one after another in the data set's order, whose images depend on each
            other. A sampling job has whole groups of as many.
    """

    label: str
    module: str
    needs: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None
    by_objective: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    deterministic: bool | Mapping[str, Any] = False
    distils: bool = True
    together: int = 1

    @property
    def defaults(self) -> dict[str, Any]:
        return self.settings or {}

    def defaults_of(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of a run that has these settings."""
        objective = choice.get("objective", self.defaults.get("objective"))
        return {**self.defaults, **self.by_objective.get(objective, {})}

    @property
    def takes_generator(self) -> bool:
        """Modes live in the latent space of a generator's VAE, so they need one, too."""
        return any(part in self.needs for part in ("modes", "generator", "vae"))

    def is_deterministic(self, settings: Mapping[str, Any]) -> bool:
        """Whether generation seeds change nothing with these settings."""
        if isinstance(self.deterministic, bool):
            return self.deterministic
        return all(settings.get(key) == value for key, value in self.deterministic.items())


METHODS: dict[str, Method] = {
    "full": Method("Full (all real images)", "", deterministic=True, distils=False),
    "random": Method(
        "random real images",
        "random_real",
        settings={"selection": "seeded"},
        deterministic={"selection": "first"},
    ),
    "external": Method(
        "images of", "external", settings={"path": ""}, required=("path",), deterministic=True
    ),
    "herding": Method(
        "herding", "herding", needs=("teacher",), settings=_FEATURES, deterministic=True
    ),
    "k-center": Method("k-center", "k_center", needs=("teacher",), settings=_FEATURES),
    "rded": Method(
        "RDED mosaics",
        "rded",
        needs=("teacher",),
        settings={**_FEATURES, "candidates": 300, "crops": 5},
    ),
    "nearest": Method(
        "nearest real images",
        "nearest_real",
        needs=("modes",),
        settings={"modes": "nearest", "pca": None},
        deterministic=True,
    ),
    "decoded-modes": Method(
        "decoded modes",
        "decoded_modes",
        needs=("modes", "generator"),
        settings={"modes": "kmeans", "pca": None, "flips": False},
        deterministic=True,
    ),
    "unguided": Method("unguided", "mgd3", needs=("generator",), settings=_SAMPLING),
    "d4m": Method(
        "D4M",
        "d4m",
        needs=("modes", "generator"),
        settings={**_SAMPLING, "modes": "d4m", "pca": None, "flips": False, "strength": 0.7},
    ),
    "mgd3": Method(
        "MGD3",
        "mgd3",
        needs=("modes", "generator"),
        settings={**_SAMPLING, **_MODE_GUIDANCE},
    ),
    "manifoldgd": Method(
        "ManifoldGD",
        "manifoldgd",
        needs=("modes", "generator"),
        settings={
            **_SAMPLING,
            **_MODE_GUIDANCE,
            "modes": "divisive",
            "manifold_rule": "code",
            "manifold_scale": 0.1,
            "manifold_radius": 0.1,
            "tangent_dim": 3,
        },
    ),
    "dm": Method(
        "DM",
        "dm",
        settings={**_MATCHING, "init": "real", "iterations": 20_000, "learning_rate": 1.0},
    ),
    "dc": Method(
        "DC",
        "dc",
        settings={
            **_MATCHING,
            "init": "noise",
            "iterations": 1_000,
            "learning_rate": 1.0,
            "outer_loop": 1,
            "inner_loop": 1,
            "dsa": True,
        },
        together=EVERY,
    ),
    "idc": Method(
        "IDC-1",
        "idc",
        settings={
            "network": "resnetap10",
            "size": 224,
            "real_batch": None,
            "init": "real",
            "iterations": 500,
            "learning_rate": None,
            "inner_loop": 100,
            "warmup_epochs": None,
        },
    ),
    "sre2l": Method(
        "SRe2L",
        "sre2l",
        needs=("teacher",),
        settings={**_FEATURES, "iterations": 4_000, "learning_rate": 0.25, "bn_weight": 0.01},
        together=100,
    ),
    "glad-vae": Method(
        "GLaD on the VAE's decoder",
        "glad_vae",
        needs=("vae",),
        settings=_PRIOR,
        by_objective={"dm": {"learning_rate": 10.0}},
    ),
    "h-glad-vae": Method(
        "H-GLaD on the VAE's decoder",
        "h_glad_vae",
        needs=("vae",),
        settings={**_PRIOR, "iterations": 100, "stages": None},
        by_objective={"dm": {"iterations": 10, "learning_rate": 10.0}},
    ),
    "ld3m": Method(
        "LD3M",
        "ld3m",
        needs=("generator",),
        settings={**_PRIOR, "iterations": 10_000, "learning_rate": 0.1, "cfg": 3.0, "steps": 10},
        by_objective={"dm": {"learning_rate": 1.0}},
    ),
}


@dataclass(frozen=True)
class Job:
    """What a method is given to make the images of some classes.

    Attributes:
        version: of the stage that makes the images; unfinished work of another is not gone on with.
        compile: the network that samples is compiled first.
        unfinished: a file in which it may keep the state of an interrupted job.
        trajectory: is told, by methods that sample, what they predict on the way; most need none.
    """

    dataset: Dataset
    index: Index
    classes: list[str]
    ipc: int
    generation_seed: int
    settings: dict[str, Any]
    generator: Path | None
    modes: Path | None
    device: str
    batch: int | str
    version: int = 0
    compile: bool = False
    teacher: Path | None = None
    unfinished: Path | None = None
    trajectory: Trajectory | None = None

    def training_images(self, name: str, at_least: int) -> list[str]:
        """Sorted keys of the training images of a class.

        Raises:
            UserError: they are fewer than `at_least`.
        """
        images = self.index.images(name, "train")
        if len(images) < at_least:
            needed = "" if at_least == self.ipc else f", for which the method needs {at_least}"
            raise UserError(
                f"class {name!r} has {len(images)} training images, but ipc is {self.ipc}{needed}",
                "lower `ipc`, or add images",
            )
        return images


def get_method(name: str) -> Method:
    """Raises UserError for a name that is not in the registry."""
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}", did_you_mean(name, METHODS))
    return METHODS[name]


def distiller(name: str) -> Callable[[Job], dict[str, torch.Tensor]]:
    """The `distil` function of a method, its module imported now.

    Raises:
        UserError: the method is unknown, or makes no images.
    """
    method = get_method(name)
    if not method.distils:
        raise UserError(
            f"method {name!r} makes no images: networks are trained on the whole train split",
            "evaluate with --train set to what `mgd3 pixels --split train` writes",
        )
    return importlib.import_module(f"{__name__}.{method.module}").distil
