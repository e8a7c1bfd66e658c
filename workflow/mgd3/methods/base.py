"""What every method has: its class of settings, the settings that several share, and its job."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..base.errors import UserError
from ..base.settings import (
    Count,
    Natural,
    NonNegative,
    OneOf,
    Positive,
    Setting,
    SettingField,
    Settings,
    Sweep,
)
from ..diffusion.names import SPACINGS, STOP_RULES, STOP_UNITS, VARIANT_NAMES
from ..discovery import DISCOVERIES
from ..generators.registry import GENERATORS, PRECISIONS
from ..networks.names import NETWORKS
from ..teachers import TEACHERS

if TYPE_CHECKING:
    from ..data.index import Index
    from ..data.registry import Dataset
    from ..diffusion.trajectories import Trajectory

# Of `MethodSettings.together`: all classes of the data set.
EVERY = sys.maxsize

# Settings that several methods share, each with its own default.
Variant = Annotated[
    Sweep[Literal[VARIANT_NAMES]],
    Setting("guidance variant and sampler", place=40, slug="", label="{}"),
]
Modes = Annotated[
    Sweep[Annotated[str, OneOf(lambda: DISCOVERIES)]],
    Setting("mode discovery algorithm", place=50, slug="", label="{} modes"),
]
Pca = Annotated[
    Count | None,
    Setting(
        "principal components of a class in which its modes are sought; null for the latents "
        "themselves",
        place=60,
        label="modes in {} components",
    ),
]
Flips = Annotated[
    bool,
    Setting(
        "the mirrored training images are clustered, too; only where a mirrored image keeps its "
        "class",
        place=70,
        label=lambda _: "modes with flips",
    ),
]
Cfg = Annotated[
    Sweep[NonNegative],
    Setting(
        "scale of classifier-free guidance", place=130, slug="cfg", label="CFG {:g}", always=True
    ),
]
Steps = Annotated[
    Sweep[Annotated[int, Field(ge=2, le=1000)]], Setting("sampling steps", place=140, slug="steps")
]
Teacher = Annotated[
    Annotated[str, OneOf(lambda: TEACHERS)],
    Setting(
        "the network, trained on the real images, whose features or losses choose",
        place=30,
        label="{}",
        always=True,
    ),
]
Network = Annotated[str, OneOf(lambda: NETWORKS["hard"])]
_NETWORK = "the network that images are matched in"
OwnNetwork = Annotated[Network, Setting(_NETWORK)]
AnyNetwork = Annotated[
    Network | None, Setting(f"{_NETWORK}; null for a ConvNet as deep as their size asks for")
]
Size = Annotated[
    Annotated[int, Field(ge=16, le=4096)] | None,
    Setting("side of the images that are optimised, pixels; null for the data set's"),
]
RealBatch = Annotated[Count, Setting("real images of a class in a step of matching")]
Init = Annotated[
    Literal["real", "noise"],
    Setting("what is optimised begins as random real images, or as noise"),
]
Iterations = Annotated[
    Natural,
    Setting(
        "of the optimisation of images; 0 leaves them as they begin",
        place=80,
        label="{:,} iterations",
        always=True,
    ),
]
LearningRate = Annotated[Positive, Setting("of what is optimised")]


class MethodSettings(Settings):
    """A method: what it is called, what it is given, and its settings.

    The class is `Settings` of the method's own module, or of a package's entry point in the group
    `mgd3.methods`; beside it stands `distil(job)`, which gives uint8 [ipc, 3, S, S] by class.

    Attributes:
        label: what tables call it.
        needs: of "modes", "generator", "vae" (the generator's alone) and "teacher", what its
            `distil` is given.
        by_objective: defaults that differ with the setting `objective`.
        deterministic: whether generation seeds change nothing; or the settings with which they do
            not.
        mirrors: whether its images depend on whether mirrored images keep their class (`flip`).
        distils: whether it makes images. One that does not has networks trained on the whole train
            split, and IPC does not enter.
        asks_for_classes: whether its teacher must know the classes, and not have features alone.
        together: classes, one after another in the data set's order, whose images depend on each
            other. A sampling job has whole groups of as many.
    """

    label: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    by_objective: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    deterministic: ClassVar[bool | Mapping[str, Any]] = False
    mirrors: ClassVar[bool] = True
    distils: ClassVar[bool] = True
    asks_for_classes: ClassVar[bool] = False
    together: ClassVar[int] = 1

    @classmethod
    def defaults_of(cls, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of a run that has these settings."""
        objective = choice.get("objective", cls.defaults().get("objective"))
        return {**cls.defaults(), **cls.by_objective.get(objective, {})}

    @classmethod
    def takes_generator(cls) -> bool:
        """Modes live in the latent space of a generator's VAE, so they need one, too."""
        return any(part in cls.needs for part in ("modes", "generator", "vae"))

    @classmethod
    def is_deterministic(cls, settings: Mapping[str, Any]) -> bool:
        """Whether generation seeds change nothing with these settings."""
        if isinstance(cls.deterministic, bool):
            return cls.deterministic
        return all(settings.get(key) == value for key, value in cls.deterministic.items())

    @classmethod
    def also_taken(cls) -> dict[str, SettingField]:
        """In `runs`, the method's name, how it was tuned, and its generator."""
        return {
            "method": _METHOD,
            "trials": _TRIALS,
            **({"generator": GENERATOR} if cls.takes_generator() else {}),
        }

    @classmethod
    def swept(cls) -> set[str]:
        """What a list of values sweeps in `runs`: some of the settings, and the generator."""
        return {k for k, f in {**cls.also_taken(), **cls.fields()}.items() if f.sweeps}

    @classmethod
    def whole(cls, settings: Any) -> dict[str, Any]:
        """Settings as they were written, checked, and the defaults of what they leave out.

        Raises:
            UserError: see `read`; or settings that do not go together.
        """
        cls.read(settings, "settings")
        left_out = {k: v for k, v in cls.defaults_of(settings).items() if k not in settings}
        found = {**settings, **left_out}
        cls.require_feasible(found)
        return found

    @classmethod
    def require_feasible(cls, settings: Mapping[str, Any]) -> None:
        """Raise UserError for settings that do not go together; they are complete and checked."""

    @classmethod
    def title(cls, settings: Mapping[str, Any], generator: str | None) -> str:
        """What tables call the method with these settings."""
        return cls.label

    @classmethod
    def slug_parts(cls, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
        """What tells settings apart in paths: the swept ones, and a digest of the others.

        Args:
            defaults: of the run, with its generator's own; a required setting has none.
        """
        swept = [field for field in cls._in_place() if field.sweeps]
        parts = [
            (field.key if field.setting.slug is None else field.setting.slug)
            + text_of(settings[field.key])
            for field in swept
        ]
        said = {field.key for field in swept}
        rest = {
            key: text_of(value)
            for key, value in settings.items()
            if key not in said and (key not in defaults or value != defaults[key])
        }
        if rest:
            text = json.dumps(rest, sort_keys=True)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
        return parts

    @classmethod
    def label_parts(cls, settings: Mapping[str, Any]) -> list[str]:
        """What a label says of the settings."""
        parts = []
        for field in cls._in_place():
            value, say = settings[field.key], field.setting.label
            if say is None or (value == field.default and not field.setting.always):
                continue
            parts.append(say.format(value) if isinstance(say, str) else say(value))
        return parts

    @classmethod
    def _in_place(cls) -> list[SettingField]:
        return sorted(cls.fields().values(), key=lambda field: field.setting.place)


_METHOD = SettingField("method", str, Setting("of `runs`"), False, True, None)
_TRIALS = SettingField(
    "trials",
    Count | None,
    Setting(
        "how many settings were compared on the validation split before these were chosen, which "
        "tables print; changes no result"
    ),
    False,
    False,
    None,
)
GENERATOR = SettingField(
    "generator",
    str,
    Setting(
        f"a generator ({', '.join(GENERATORS)}), a diffusers folder (./my-dit), or a repository "
        "of the Hub (dit:owner/name@revision, sd:owner/name@revision)",
        place=0,
    ),
    True,
    True,
    None,
)


def text_of(value: Any) -> str:
    """A setting as it stands in paths: equal values have one text, different ones never share it.

    Raises:
        UserError: a number that is not finite.
    """
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        raise UserError(f"{value} is no setting", "write a finite number")
    brief = f"{value:g}"
    return brief if float(brief) == value else repr(value)


class Sampling(MethodSettings):
    """Settings of a walk of the diffusion model."""

    mirrors: ClassVar = False
    variant: Variant = "ddpm"
    cfg: Cfg = 4.0
    cfg_channels: Annotated[
        Literal["all"] | Count,
        Setting("how many of the first latent channels CFG guides, or all"),
    ] = 3
    steps: Steps = 50
    spacing: Annotated[
        Literal[SPACINGS],
        Setting(
            "timesteps the sampler walks: linspace keeps both ends, leading is the usual DDIM "
            "grid, auto is what the variant's source used"
        ),
    ] = "auto"
    precision: Annotated[
        Literal[PRECISIONS],
        Setting("of the generator's network; bfloat16 is float16 on a GPU without it"),
    ] = "float32"


class GuidedSampling(Sampling):
    """Settings of a walk that is guided to modes."""

    modes: Modes = "kmeans"
    pca: Pca = None
    flips: Flips = False
    lambda_: Annotated[
        Sweep[NonNegative],
        Setting("mode guidance scale", place=100, slug="lambda", label="λ={:g}", always=True),
    ] = 0.1
    t_sg: Annotated[
        Sweep[Natural],
        Setting(
            "where guidance stops: a step 0..steps, or a timestep (see stop_unit)",
            place=110,
            slug="stop",
            label="t_SG={}",
            always=True,
        ),
    ] = 25
    stop_rule: Annotated[
        Literal[STOP_RULES],
        Setting("code guides while the step is > t_sg, paper while it is >= t_sg"),
    ] = "code"
    stop_unit: Annotated[
        Literal[STOP_UNITS], Setting("what t_sg counts: steps, or training timesteps 0..1000")
    ] = "step"
    clamp: Annotated[
        Positive | None,
        Setting("bound on the predicted clean latent inside the guidance; null for none"),
    ] = None

    @classmethod
    def require_feasible(cls, settings: Mapping[str, Any]) -> None:
        if settings["stop_unit"] == "step" and settings["t_sg"] > settings["steps"]:
            raise UserError(
                f"t_sg is {settings['t_sg']}, outside 0..{settings['steps']} (steps)",
                "t_sg = 0 guides to the end, t_sg = steps not at all",
            )


class Matched(MethodSettings):
    """Settings of images that are matched in networks."""

    network: AnyNetwork = None
    size: Size = None
    real_batch: RealBatch = 256


class MatchedPixels(Matched):
    """Pixels that are optimised."""

    init: Init = "real"
    iterations: Iterations = 1_000
    learning_rate: LearningRate = 1.0


# What is matched through a generator: mgd3.methods.matching.priors.
OBJECTIVES: tuple[str, ...] = ("dc", "dm")


class Prior(Matched):
    """What a generator makes images of is optimised."""

    objective: Annotated[
        Sweep[Literal[OBJECTIVES]],
        Setting(
            "what is matched through a generator: gradients (dc) or mean features (dm)",
            place=10,
            slug="",
            label=str.upper,
            always=True,
        ),
    ] = "dc"
    iterations: Iterations = 1_000
    learning_rate: LearningRate = 1.0


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
