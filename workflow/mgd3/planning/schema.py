"""What a configuration may hold: its typed classes, their check, and the schema made from them.

The settings of a run are the method's own (`mgd3.methods`); of all else the classes stand here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ..base.errors import UserError, did_you_mean
from ..base.settings import (
    ABSENT,
    Count,
    ListOf,
    Matches,
    OneOf,
    Setting,
    SettingField,
    Settings,
    UniqueListOf,
    read,
    schema_of,
    schema_of_field,
    short,
)
from ..data.registry import NAMED, ROOTED
from ..discovery import DISCOVERIES
from ..evaluation.protocols import PROTOCOLS
from ..generators.registry import GENERATORS
from ..methods import METHODS, get_method
from ..networks.names import TIMM, network_names
from ..teachers import TEACHERS

# The key that `mgd3.planning.overrides` carries out.
SET = "set"
# More trainings than these are a slip of the pen, and would only fail after minutes of planning.
_MOST_TRAININGS = 200_000


def _form(pattern: str, words: str, mend: str = "") -> Matches:
    found = re.compile(pattern)
    # In Python, `$` alone would let a line feed pass at the end.
    schema = {"type": "string", "pattern": f"^{pattern}$(?!\\n)"}
    return Matches(lambda text: None if found.fullmatch(text) else mend or f"give {words}",
                   schema, words)  # fmt: skip


def _known_network(name: str) -> str | None:
    if name.startswith(TIMM):
        plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name.removeprefix(TIMM))
        return None if plain else f"write {TIMM}NAME, NAME a network of timm"
    return None if name in network_names() else did_you_mean(name, network_names())


_NETWORK = Matches(
    _known_network,
    {
        "if": {"type": "string", "pattern": f"^{TIMM}"},
        "then": {"pattern": f"^{TIMM}[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\\n)"},
        "else": {"enum": network_names()},
    },
    f"a network, or {TIMM}NAME",
)
Name = Annotated[
    str,
    _form(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", "a name of letters, digits, '_', '.' and '-'"),
]
Text = Annotated[str, Field(min_length=1)]
Ipc = Annotated[int, Field(ge=1, le=1_000_000)]
# Seeds enter a hash, but stand in paths, too.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Side of a data set's images, pixels.
Side = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]
Auto = Literal["auto"] | Count


class DatasetChoice(Settings):
    """A data set with settings, or images of one's own."""

    name: Annotated[Name, Setting("part of the paths of its results")]
    root: Annotated[
        str,
        Setting(
            "folder of train/<class>/, val/<class>/; of cifar10 and cifar100, their archive, or "
            "the folder that it was unpacked to"
        ),
    ] = ABSENT
    classes: Annotated[str, Setting("classes.tsv: the wnid or the prompt of each class folder")] = (
        ABSENT
    )
    size: Annotated[Side, Setting("pixels")] = ABSENT
    flip: Annotated[bool, Setting("a mirrored image keeps its class")] = ABSENT
    validation_fraction: Annotated[
        Annotated[float, Field(ge=0, lt=1)],
        Setting("share of the training images that is held out"),
    ] = ABSENT
    undecodable: Annotated[
        Literal["fail", "skip"],
        Setting("images that cannot be decoded: stop and list them, or leave out"),
    ] = ABSENT
    incomplete: Annotated[
        Literal["fail", "warn"],
        Setting("other images than were published: stop, or go on"),
    ] = ABSENT

    @classmethod
    def read(cls, values: Any, where: str = "", **how: Any) -> dict[str, Any]:
        found = super().read(values, where, **how)
        if found["name"] not in NAMED and "root" not in found:
            raise UserError(
                f"{where} lacks the key 'root'",
                ROOTED.get(found["name"])
                or f"add it for your own images, or name one of {', '.join(NAMED)}",
            )
        return found

    @classmethod
    def schema(cls) -> dict[str, Any]:
        named = {"properties": {"name": {"enum": list(NAMED), "description": "needs no root"}}}
        return {**super().schema(), "if": named, "else": {"required": ["name", "root"]}}


class EvaluationChoice(Settings):
    """How distilled sets are judged."""

    protocol: Annotated[Annotated[str, OneOf(lambda: PROTOCOLS)], Setting("evaluation protocol")]
    networks: Annotated[
        UniqueListOf[Annotated[str, _NETWORK]],
        Setting(f"networks to train, of the protocol's family, or {TIMM}NAME"),
    ]
    training_seeds: Annotated[Count, Setting("trainings of each network on each distilled set")] = 1


def tunable() -> dict[str, SettingField]:
    """The settings that `tuning` searches: numbers that sweep, of any method that samples."""
    return {
        key: field
        for method in METHODS.values()
        for key, field in method.fields().items()
        if field.sweeps and isinstance(field.default, int | float)
    }


class Grid(Settings):
    """Values to try of each setting that `tuning` can search."""

    @classmethod
    def fields(cls) -> dict[str, SettingField]:
        return {
            key: field._replace(
                kind=ListOf[field.kind], setting=Setting(field.setting.doc),
                sweeps=False, required=False, default=ABSENT,
            )
            for key, field in tunable().items()
        }  # fmt: skip

    @classmethod
    def read(cls, values: Any, where: str = "", **how: Any) -> dict[str, Any]:
        if not (found := super().read(values, where, **how)):
            raise UserError(f"{where} is empty", f"give values of {', '.join(cls.fields())}")
        return found

    @classmethod
    def schema(cls) -> dict[str, Any]:
        return {**super().schema(), "minProperties": 1}


def _can_be_tuned() -> list[str]:
    return [name for name, method in METHODS.items() if tunable().keys() & method.fields().keys()]


class TuningChoice(Settings):
    """What `snakemake tune` searches."""

    method: Annotated[
        Annotated[str, OneOf(_can_be_tuned)], Setting("whose first run in `runs` is tuned")
    ] = "mgd3"
    grid: Annotated[Grid, Setting("values to try, in all combinations")] = {  # noqa: RUF012
        "lambda": [0.1, 0.3, 1, 3],
        "t_sg": [0, 10, 25, 40],
    }
    keep: Annotated[
        Annotated[float, Field(gt=0, lt=1)],
        Setting("share of a rung's settings that the next one takes"),
    ] = 0.5
    rungs: Annotated[
        ListOf[Count],
        Setting(
            "after a first rung without training: distilled sets of each setting, a training on "
            "each"
        ),
    ] = [1, 2]  # noqa: RUF012, pydantic copies
    first_seed: Annotated[
        Seed, Setting("generation seeds from here on; none of `generation_seeds`")
    ] = 1000
    ipc: Annotated[Ipc, Setting("images per class; the first of `ipc` by default")] = ABSENT
    teacher: Annotated[
        Annotated[str, OneOf(lambda: TEACHERS)],
        Setting(
            "judges the sets of the first rung; resnet18 by default for subsets of ImageNet, "
            "conv3-32 for all else"
        ),
    ] = ABSENT


class Resources(Settings):
    """Change no result, except that block size regroups jobs."""

    device: Annotated[
        str,
        _form(r"(auto|cpu|cuda(:[0-9]{1,4})?)", "auto, cpu, cuda or cuda:N"),
        Setting("where the jobs compute"),
    ] = "auto"
    batch: Annotated[Auto, Setting("images per sampling batch")] = "auto"
    compile_: Annotated[
        bool,
        Setting(
            "compile the diffusion network in each sampling job: pays for itself where a job "
            "samples for minutes; needs a C++ compiler"
        ),
    ] = False
    classes_per_block: Annotated[
        Auto, Setting("classes per sampling job; auto: about 1,000 images")
    ] = "auto"


class RunChoice(Settings):
    """A row of the table, or the rows of a sweep: a method, its generator and its settings."""

    method: Annotated[str, OneOf(lambda: METHODS)]

    @classmethod
    def read(cls, values: Any, where: str = "", **how: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            raise UserError(f"{where} is {short(values)}", "write keys and values")
        if "method" not in values:
            raise UserError(f"{where} lacks the key 'method'", "add it; see config.yaml")
        name = read(cls.fields()["method"].kind, values["method"], f"{where}.method")
        method = METHODS[name]
        known = {**method.also_taken(), **method.fields()}
        for key in values:
            if key not in known and key in _run_keys():
                raise UserError(
                    f"{where}: method {name!r} takes no {key!r}", did_you_mean(key, known)
                )
        return method.read(values, where, sweeps=True, beside=method.also_taken())

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """One rule a method; what a key is stands once where it is the same for all of them."""
        keys = _run_keys()
        rules = []
        for name, method in METHODS.items():
            known = {**method.also_taken(), **method.fields()}
            own = {
                key: {} if keys[key] in ({}, found) else found
                for key, field in known.items()
                if key != "method" and (found := _without_default(field)) is not None
            }
            needed = [key for key, field in known.items() if field.required]
            rules.append(
                {
                    "if": {"properties": {"method": {"const": name}}, "required": ["method"]},
                    "then": {
                        "properties": {"method": {}, **own},
                        "required": needed,
                        "additionalProperties": False,
                    },
                }
            )
        return {
            "type": "object",
            "required": ["method"],
            "additionalProperties": False,
            "properties": {"method": {"enum": list(METHODS)}, **keys},
            "allOf": rules,
        }


def _without_default(field: SettingField) -> dict[str, Any]:
    """Of a setting of a run: its default may be the generator's."""
    return schema_of_field(field._replace(default=ABSENT))


def _run_keys() -> dict[str, dict[str, Any]]:
    """What may stand in a run of any method: its schema, or only what it is where methods differ in
    the values that they take."""
    found: dict[str, list[dict[str, Any]]] = {}
    for method in METHODS.values():
        for key, field in {**method.also_taken(), **method.fields()}.items():
            if key != "method":
                found.setdefault(key, []).append(_without_default(field))
    return {
        key: schemas[0]
        if all(schema == schemas[0] for schema in schemas)
        else {"description": "; or ".join(dict.fromkeys(s["description"] for s in schemas))}
        for key, schemas in found.items()
    }


Datasets = ListOf[Annotated[str, OneOf(lambda: NAMED, lambda: ROOTED)] | DatasetChoice]


class Configuration(Settings):
    """A configuration."""

    name: Annotated[Name, Setting("reports go to results/reports/{name}")]
    datasets: Annotated[
        Datasets,
        Setting(
            f"{', '.join(NAMED)}; with settings: {{name: mnist, size: 64}}; your own images: "
            "{name: mydata, root: DIR}; JPEG copies of CIFAR-10: {name: cifar10-jpeg, root: DIR}"
        ),
    ]
    ipc: Annotated[UniqueListOf[Ipc], Setting("images per class")]
    generation_seeds: Annotated[UniqueListOf[Seed], Setting("one distilled set for each")]
    runs: Annotated[ListOf[RunChoice], Setting("rows of the table; a list as a value sweeps")]
    evaluation: Annotated[ListOf[EvaluationChoice], Setting("how the distilled sets are judged")]
    judge: Annotated[
        Annotated[str, OneOf(lambda: TEACHERS)],
        Setting(
            "network on whose features sets are measured; by default one that is quick to train, "
            "or that a protocol or method has anyway"
        ),
    ] = ABSENT
    tuning: Annotated[
        ListOf[TuningChoice],
        Setting("what `snakemake tune` searches: one entry for each method"),
    ] = [{}]  # noqa: RUF012
    resources: Annotated[
        Resources, Setting("change no result, except that block size regroups jobs")
    ] = {}  # noqa: RUF012
    cache_dir: Annotated[
        str,
        _form(r"[^{}]+", "a folder, without braces"),
        Setting("latents, generators and pixels, shared by presets"),
    ] = "results/cache"
    imagenet_root: Annotated[
        Text, Setting("train/<wnid>/ and val/ of ImageNet, for all its subsets; may be a link")
    ] = "data/imagenet"


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    held = schema_of(Configuration)
    held["properties"][SET] = {
        "description": "settings of every run that takes them, over its own: {lambda: [0.1, 0.3]}",
        "type": "object",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mgd3 configuration",
        **held,
    }


def check(raw: Any) -> None:
    """Raises UserError naming the first key that is wrong, its value and what is allowed."""
    for registry in (METHODS, DISCOVERIES, GENERATORS, PROTOCOLS):
        registry.require_no_clash()
    Configuration.read(raw)
    _require_feasible(raw)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _require_feasible(raw: Mapping[str, Any]) -> None:
    rows = sum(
        math.prod(len(as_list(run[key])) for key in get_method(run["method"]).swept() & run.keys())
        for run in raw["runs"]
    )
    sets = len(raw["datasets"]) * len(raw["ipc"]) * len(raw["generation_seeds"])
    each = sum(len(e["networks"]) * e.get("training_seeds", 1) for e in raw["evaluation"])
    if (trainings := rows * sets * each) > _MOST_TRAININGS:
        raise UserError(
            f"the config asks for {trainings:,} trainings", f"ask for at most {_MOST_TRAININGS:,}"
        )
