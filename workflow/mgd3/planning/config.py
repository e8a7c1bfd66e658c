"""The configuration: its schema, made from the registries, and what it resolves to.

Importable without torch, so that every mistake is named before any job starts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import UserError, did_you_mean, is_text, named_paths
from ..data.registry import DATASETS, NAMED, Dataset, make_dataset
from ..diffusion.names import (
    MANIFOLD_RULES,
    MANIFOLD_VARIANTS,
    SPACINGS,
    STOP_RULES,
    STOP_UNITS,
    VARIANT_NAMES,
)
from ..discovery import DISCOVERIES
from ..evaluation.protocols import PROTOCOLS, get_protocol
from ..generators.conditions import require_conditions
from ..generators.registry import GENERATORS, PRECISIONS, get_generator, slug_of
from ..methods import METHODS, OBJECTIVES, external, get_method
from ..networks.names import NETWORKS, TIMM, get_network, network_names
from ..teachers import TEACHERS

# More trainings than these are a slip of the pen, and would only fail after minutes of planning.
_MOST_TRAININGS = 200_000
# Keys of a run that accept a list, in the order of the slug.
SWEPT = (
    *("generator", "objective", "variant", "modes", "lambda", "t_sg", "strength", "cfg", "steps"),
)
# Those of them that `tuning` searches.
TUNED = ("lambda", "t_sg", "strength", "cfg", "steps")
_TUNING = {
    "method": "mgd3",
    "grid": {"lambda": [0.1, 0.3, 1, 3], "t_sg": [0, 10, 25, 40]},
    "keep": 0.5,
    "rungs": [1, 2],
    "first_seed": 1000,
}
_SLUG = {"lambda": "lambda", "t_sg": "stop", "strength": "strength", "cfg": "cfg", "steps": "steps"}


def _list_of(item: dict[str, Any], doc: str, **more: Any) -> dict[str, Any]:
    return {"description": doc, "type": "array", "items": item, "minItems": 1, **more}


def _one_or_list(item: dict[str, Any], doc: str) -> dict[str, Any]:
    array = {"type": "array", "items": item, "minItems": 1}
    return {"description": doc, "if": {"type": "array"}, "then": array, "else": item}


# In Python, `$` alone would let a line feed pass at the end.
_END = r"$(?!\n)"
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*" + _END, "maxLength": 60}
_SEED = {"type": "integer", "minimum": 0}
RUN_KEYS: dict[str, dict[str, Any]] = {
    "generator": _one_or_list(
        {"type": "string"},
        f"a generator ({', '.join(GENERATORS)}), a diffusers folder (./my-dit), or a repository "
        "of the Hub (dit:owner/name@revision, sd:owner/name@revision)",
    ),
    "variant": _one_or_list({"enum": list(VARIANT_NAMES)}, "guidance variant and sampler"),
    "modes": _one_or_list({"enum": list(DISCOVERIES)}, "mode discovery algorithm"),
    "pca": {
        "description": "principal components of a class in which its modes are sought; null for "
        "the latents themselves",
        "type": ["integer", "null"],
        "minimum": 1,
    },
    "flips": {
        "description": "the mirrored training images are clustered, too; only where a mirrored "
        "image keeps its class",
        "type": "boolean",
    },
    "lambda": _one_or_list({"type": "number", "minimum": 0}, "mode guidance scale"),
    "t_sg": _one_or_list(
        {"type": "integer", "minimum": 0},
        "where guidance stops: a step 0..steps, or a timestep (see stop_unit)",
    ),
    "strength": _one_or_list(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "share of the steps by which a prototype is noised and denoised; 1 is pure noise",
    ),
    "manifold_rule": {
        "description": "ManifoldGD: code adds a pull to the tangent plane, as its released code; "
        "paper projects mode guidance onto the plane",
        "enum": list(MANIFOLD_RULES),
    },
    "manifold_scale": {
        "description": "ManifoldGD, rule code: length of the pull to the tangent plane",
        "type": "number",
        "minimum": 0,
    },
    "manifold_radius": {
        "description": "ManifoldGD: radius of a mode's neighbourhood, in scaled latents",
        "type": "number",
        "exclusiveMinimum": 0,
    },
    "tangent_dim": {
        "description": "ManifoldGD: directions of the tangent plane",
        "type": "integer",
        "minimum": 1,
        "maximum": 11,
    },
    "cfg": _one_or_list({"type": "number", "minimum": 0}, "scale of classifier-free guidance"),
    "steps": _one_or_list({"type": "integer", "minimum": 2, "maximum": 1000}, "sampling steps"),
    "stop_rule": {
        "description": "code guides while the step is > t_sg, paper while it is >= t_sg",
        "enum": list(STOP_RULES),
    },
    "stop_unit": {
        "description": "what t_sg counts: steps, or training timesteps 0..1000",
        "enum": list(STOP_UNITS),
    },
    "spacing": {
        "description": "timesteps the sampler walks: linspace keeps both ends, leading is the "
        "usual DDIM grid, auto is what the variant's source used",
        "enum": list(SPACINGS),
    },
    "precision": {
        "description": "of the generator's network; bfloat16 is float16 on a GPU without it",
        "enum": list(PRECISIONS),
    },
    "cfg_channels": {
        "description": "how many of the first latent channels CFG guides, or all",
        "if": {"type": "string"},
        "then": {"const": "all"},
        "else": {"type": "integer", "minimum": 1},
    },
    "clamp": {
        "description": "bound on the predicted clean latent inside the guidance; null for none",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
    },
    "selection": {
        "description": "which real images: drawn with the generation seed, or the first files in "
        "lexicographic order",
        "enum": ["seeded", "first"],
    },
    "path": {
        "description": "folder of images that were made elsewhere, <class>/*",
        "type": "string",
        "minLength": 1,
    },
    "teacher": {
        "description": "the network, trained on the real images, whose features or losses choose",
        "enum": list(TEACHERS),
    },
    "network": {
        "description": "the network that images are matched in; null for a ConvNet as deep as "
        "their size asks for",
        "enum": [None, *NETWORKS["hard"]],
    },
    "size": {
        "description": "side of the images that are optimised, pixels; null for the data set's",
        "type": ["integer", "null"],
        "minimum": 16,
    },
    "init": {
        "description": "what is optimised begins as random real images, or as noise",
        "enum": ["real", "noise"],
    },
    "iterations": {
        "description": "of the optimisation of images; 0 leaves them as they begin",
        "type": "integer",
        "minimum": 0,
    },
    "learning_rate": {
        "description": "of what is optimised; null for IDC's own by the number of classes",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
    },
    "real_batch": {
        "description": "real images of a class in a step of matching; null as learning_rate",
        "type": ["integer", "null"],
        "minimum": 1,
    },
    "objective": _one_or_list(
        {"enum": list(OBJECTIVES)},
        "what is matched through a generator: gradients (dc) or mean features (dm)",
    ),
    "stages": {
        "description": "H-GLaD: of how many the latents and the features after each part of the "
        "decoder are optimised; null for all",
        "type": ["integer", "null"],
        "minimum": 1,
    },
    "outer_loop": {
        "description": "DC: steps with one network; null for DC's own number by IPC",
        "type": ["integer", "null"],
        "minimum": 1,
    },
    "inner_loop": {
        "description": "DC: epochs on the synthetic images between two steps, null for DC's own "
        "number by IPC; IDC: steps with one network, each followed by some of its training",
        "type": ["integer", "null"],
        "minimum": 1,
    },
    "warmup_epochs": {
        "description": "IDC: epochs on the real images before a network is matched; null as "
        "learning_rate",
        "type": ["integer", "null"],
        "minimum": 0,
    },
    "bn_weight": {
        "description": "SRe2L: weight of the distance of batch statistics",
        "type": "number",
        "minimum": 0,
    },
    "dsa": {
        "description": "DC: differentiable siamese augmentation in the steps",
        "type": "boolean",
    },
    "candidates": {
        "description": "real images of a class that crops are taken from; at least 4 ipc are",
        "type": "integer",
        "minimum": 1,
    },
    "crops": {
        "description": "random crops of each candidate, of which the best is kept",
        "type": "integer",
        "minimum": 1,
    },
}


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    run_rules = [
        {
            "if": {"properties": {"method": {"const": name}}, "required": ["method"]},
            "then": {
                "properties": {
                    key: {}
                    for key in (
                        "method",
                        *method.defaults,
                        *(("generator",) if method.takes_generator else ()),
                    )
                },
                "required": [
                    "method",
                    *(["generator"] if method.takes_generator else []),
                    *method.required,
                ],
                "additionalProperties": False,
            },
        }
        for name, method in METHODS.items()
    ]
    dataset = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {**_NAME, "description": "part of the paths of its results"},
            "root": {"type": "string", "description": "folder of train/<class>/, val/<class>/"},
            "classes": {
                "type": "string",
                "description": "classes.tsv: the wnid or the prompt of each class folder",
            },
            "size": {"type": "integer", "minimum": 16, "multipleOf": 8, "description": "pixels"},
            "flip": {"type": "boolean", "description": "a mirrored image keeps its class"},
            "validation_fraction": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            "undecodable": {
                "enum": ["fail", "skip"],
                "description": "images that cannot be decoded: stop and list them, or leave out",
            },
            "incomplete": {
                "enum": ["fail", "warn"],
                "description": "other counts of images than ImageNet's: stop, or go on",
            },
        },
        "if": {"properties": {"name": {"enum": list(NAMED), "description": "has no root"}}},
        "else": {"required": ["name", "root"]},
    }
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": ["protocol", "networks"],
        "properties": {
            "protocol": {"enum": list(PROTOCOLS), "description": "evaluation protocol"},
            "networks": _list_of(
                {
                    "if": {"type": "string", "pattern": f"^{TIMM}"},
                    "then": {"pattern": f"^{TIMM}[A-Za-z0-9][A-Za-z0-9_.-]*$"},
                    "else": {"enum": network_names()},
                },
                f"networks to train, of the protocol's family, or {TIMM}NAME",
                uniqueItems=True,
            ),
            "training_seeds": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "trainings of each network on each distilled set",
            },
        },
    }
    tuning = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "method": {
                "enum": [name for name, m in METHODS.items() if {*TUNED} & {*m.defaults}],
                "description": "whose first run in `runs` is tuned",
            },
            "grid": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    key: _list_of(RUN_KEYS[key]["else"], RUN_KEYS[key]["description"])
                    for key in TUNED
                },
                "description": "values to try, in all combinations",
            },
            "keep": {
                "type": "number",
                "exclusiveMinimum": 0,
                "exclusiveMaximum": 1,
                "description": "share of a rung's settings that the next one takes",
            },
            "rungs": _list_of(
                {"type": "integer", "minimum": 1},
                "after a first rung without training: distilled sets of each setting, a training "
                "on each",
            ),
            "first_seed": {
                **_SEED,
                "description": "generation seeds from here on; none of `generation_seeds`",
            },
            "ipc": {
                "type": "integer",
                "minimum": 1,
                "description": "images per class; the first of `ipc` by default",
            },
            "teacher": {
                "enum": list(TEACHERS),
                "description": "judges the sets of the first rung; resnet18 by default for subsets "
                "of ImageNet, conv3-32 for all else",
            },
        },
    }
    for key, value in _TUNING.items():
        tuning["properties"][key]["default"] = value
    auto = {"if": {"type": "string"}, "then": {"const": "auto"}}
    positive = {**auto, "else": {"type": "integer", "minimum": 1}, "default": "auto"}
    properties = {
        "name": {**_NAME, "description": "reports go to results/reports/{name}"},
        "datasets": _list_of(
            {"if": {"type": "string"}, "then": {"enum": list(NAMED)}, "else": dataset},
            f"{', '.join(NAMED)}; with settings: {{name: mnist, size: 64}}; your own images: "
            "{name: mydata, root: DIR}",
        ),
        "ipc": _list_of({"type": "integer", "minimum": 1}, "images per class", uniqueItems=True),
        "generation_seeds": _list_of(_SEED, "one distilled set for each", uniqueItems=True),
        "runs": _list_of(
            {
                "type": "object",
                "required": ["method"],
                "additionalProperties": False,
                "properties": {"method": {"enum": list(METHODS)}, **RUN_KEYS},
                "allOf": run_rules,
            },
            "rows of the table; a list as a value sweeps",
        ),
        "evaluation": _list_of(entry, "how the distilled sets are judged"),
        "tuning": _list_of(
            tuning, "what `snakemake tune` searches: one entry for each method", default=[{}]
        ),
        "resources": {
            "type": "object",
            "additionalProperties": False,
            "default": {},
            "description": "change no result, except that block size regroups jobs",
            "properties": {
                "device": {
                    "type": "string",
                    "pattern": "^(auto|cpu|cuda(:[0-9]+)?)" + _END,
                    "default": "auto",
                },
                "batch": {**positive, "description": "images per sampling batch"},
                "compile": {
                    "type": "boolean",
                    "default": False,
                    "description": "compile the diffusion network in each sampling job: pays for "
                    "itself where a job samples for minutes; needs a C++ compiler",
                },
                "classes_per_block": {
                    **positive,
                    "description": "classes per sampling job; auto: about 1,000 images",
                },
            },
        },
        "cache_dir": {
            "type": "string",
            "minLength": 1,
            "pattern": "^[^{}]*$",
            "default": "results/cache",
            "description": "latents, generators and pixels, shared by presets",
        },
        "imagenet_root": {
            "type": "string",
            "minLength": 1,
            "default": "data/imagenet",
            "description": "train/<wnid>/ and val/ of ImageNet, for all its subsets; may be a link",
        },
    }
    optional = ("tuning", "resources", "cache_dir", "imagenet_root")
    required = [k for k in properties if k not in optional]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mgd3 configuration",
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


@dataclass(frozen=True)
class Run:
    """One row of the table: a method with every setting resolved.

    Attributes:
        slug: its name in paths; holds every setting that changes its images.
        settings: what the method's `distil` is given.
        generator: the generator's name in the configuration, if it has one.
    """

    slug: str
    method: str
    label: str
    generator: str | None
    settings: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """As the tables want it."""
        return {
            "run": self.slug,
            "label": self.label,
            "method": self.method,
            "generator": self.generator,
        }


@dataclass(frozen=True)
class Config:
    """A checked configuration with every default filled in.

    Attributes:
        run_choices: the runs as written, sweeps not unfolded.
        tuning: with defaults; `tuning.plan` resolves it when it is asked for.
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
    device: str
    batch: int | str
    compile: bool
    classes_per_block: int | str
    cache_dir: str


def _where(path: Any) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the config"


def _explain(error: Any) -> UserError:
    """One sentence for a schema error: the key, the value, what is allowed."""
    where, value = _where(error.absolute_path), error.instance
    if error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        extra = sorted(map(str, set(value) - set(allowed)))[0]
        method = value.get("method") if isinstance(value, dict) else None
        what = f"unknown key {extra!r} in {where}"
        if method in METHODS and extra in RUN_KEYS:
            what = f"{where}: method {method!r} takes no {extra!r}"
        return UserError(what, did_you_mean(extra, allowed))
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in value]
        return UserError(f"{where} lacks the key {missing[0]!r}", "add it; see config.yaml")
    if error.validator in ("enum", "const"):
        allowed = error.validator_value
        known = [str(a) for a in (allowed if isinstance(allowed, list) else [allowed])]
        return UserError(f"{where} is {_short(value)}", did_you_mean(str(value), known))
    message = error.message.replace(repr(value), _short(value))
    return UserError(f"{where}: {message}", "see config.yaml, where every key is explained")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _require_text(value: Any, path: tuple[Any, ...] = ()) -> None:
    """Raises UserError for text that cannot be part of a path, a command line and a log."""
    if isinstance(value, str):
        if not is_text(value) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise UserError(
                f"{_where(path)} is {_short(value)}",
                "remove the line feeds, control characters and broken letters",
            )
    elif isinstance(value, Mapping):
        for key, held in value.items():
            _require_text(key, path)
            _require_text(held, (*path, key))
    elif isinstance(value, list):
        for position, held in enumerate(value):
            _require_text(held, (*path, position))


def check(raw: Mapping[str, Any]) -> None:
    """Raises UserError naming the first key that is wrong, its value and what is allowed."""
    import jsonschema

    # JSON calls 10.0 an integer, too; as part of a path it is not 10.
    base = jsonschema.Draft202012Validator
    whole = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    validator = jsonschema.validators.extend(base, type_checker=whole)(schema())
    try:
        _require_text(raw)
        found = list(validator.iter_errors(raw))
    except RecursionError as error:
        raise UserError("the config holds itself", "remove the YAML alias that does it") from error
    errors = sorted(found, key=lambda e: (len(e.path), list(map(str, e.path))))
    if errors:
        error = errors[0]
        while error.context:
            error = error.context[0]
        raise _explain(error)


def read_configs(paths: Sequence[Path]) -> dict[str, Any]:
    """YAML files merged as Snakemake merges them: mappings by key, of all else the last wins.

    Raises:
        UserError: a file is missing, or is not YAML with keys and values.
    """
    import yaml

    merged: dict[str, Any] = {}
    for path in paths:
        try:
            held = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"cannot read {path}: {error}", "give a YAML file") from error
        if not isinstance(held, dict):
            raise UserError(f"{path} holds no keys", "write keys and values; see config.yaml")
        merged = _merged(merged, held)
    return merged


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **over, **both}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _require_finite(raw: Any, where: str) -> None:
    """Raises UserError for a number that is not finite: NaN passes every bound of the schema."""
    if isinstance(raw, float) and not math.isfinite(raw):
        raise UserError(f"{where} is {raw}", "write a finite number")
    if isinstance(raw, Mapping | list):
        for held in raw.values() if isinstance(raw, Mapping) else raw:
            _require_finite(held, where)


def _require_feasible(raw: Mapping[str, Any]) -> None:
    rows = [[len(_as_list(run[key])) for key in SWEPT if key in run] for run in raw["runs"]]
    sets = len(raw["datasets"]) * len(raw["ipc"]) * len(raw["generation_seeds"])
    each = sum(len(e["networks"]) * e.get("training_seeds", 1) for e in raw["evaluation"])
    if (trainings := sum(map(math.prod, rows)) * sets * each) > _MOST_TRAININGS:
        raise UserError(
            f"the config asks for {trainings:,} trainings", f"ask for at most {_MOST_TRAININGS:,}"
        )


def _expand(choice: Mapping[str, Any]) -> list[Run]:
    swept = {key: _as_list(choice[key]) for key in SWEPT if key in choice}
    fixed = {key: value for key, value in choice.items() if key not in SWEPT}
    return [
        resolve_run({**fixed, **dict(zip(swept, values, strict=True))})
        for values in itertools.product(*swept.values())
    ]


def resolve_run(choice: Mapping[str, Any]) -> Run:
    """A run whose settings are single values, no lists, with every default filled in."""
    method = get_method(choice["method"])
    name = choice.get("generator")
    defaults = method.defaults_of(choice)
    if name is not None:
        own = get_generator(name).defaults
        defaults |= {key: value for key, value in own.items() if key in defaults}
    settings = {key: choice.get(key, value) for key, value in defaults.items()}
    by_step = settings.get("stop_unit") == "step"
    if by_step and settings["t_sg"] > settings["steps"]:
        raise UserError(
            f"t_sg is {settings['t_sg']}, outside 0..{settings['steps']} (steps)",
            "t_sg = 0 guides to the end, t_sg = steps not at all",
        )
    if "manifold_rule" in settings and settings["variant"] not in MANIFOLD_VARIANTS:
        raise UserError(
            f"method {choice['method']!r} has no variant {settings['variant']!r}",
            f"choose {' or '.join(MANIFOLD_VARIANTS)}",
        )
    parts = [choice["method"]]
    if name is not None:
        parts.append(slug_of(name))
    parts += [f"{_SLUG.get(key, '')}{_text(settings[key])}" for key in SWEPT if key in settings]
    rest = {k: _text(v) for k, v in settings.items() if k not in SWEPT and v != defaults[k]}
    if rest:
        text = json.dumps(rest, sort_keys=True)
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
    label = _label(choice["method"], settings, name)
    return Run("_".join(parts), choice["method"], label, name, settings)


def _text(value: Any) -> str:
    """A setting as it stands in paths: equal values have one text, different ones never share it.

    Raises:
        UserError: a number that is not finite.
    """
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        raise UserError(f"{value} is no setting", "write a finite number")
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _label(
    method: str, settings: Mapping[str, Any], generator: str | None, several: bool = False
) -> str:
    """The row's name in tables, with the generator where the table has rows of several."""
    label = get_method(method).label
    if method == "unguided" and generator is not None:
        label = get_generator(generator).method or label
    if several and generator is not None:
        label += f", {generator}"
    parts = []
    if "objective" in settings:
        parts.append(settings["objective"].upper())
    if "path" in settings:
        label += f" {settings['path']}"
    if settings.get("selection") == "first":
        parts.append("first files")
    if "teacher" in settings:
        parts.append(settings["teacher"])
    if settings.get("variant", "ddpm") != "ddpm":
        parts.append(settings["variant"])
    if "modes" in settings and "cfg" in settings:
        if settings["modes"] != get_method(method).defaults["modes"]:
            parts.append(f"{settings['modes']} modes")
        if settings["pca"]:
            parts.append(f"modes in {settings['pca']} components")
        if settings["flips"]:
            parts.append("modes with flips")
    if "iterations" in settings:
        parts.append(f"{settings['iterations']:,} iterations")
    if "strength" in settings:
        parts.append(f"strength {settings['strength']:g}")
    if "lambda" in settings:
        parts += [f"λ={settings['lambda']:g}", f"t_SG={settings['t_sg']}"]
    if settings.get("manifold_rule", "code") != "code":
        parts.append("projected guidance")
    if "cfg" in settings:
        parts.append(f"CFG {settings['cfg']:g}")
    return f"{label} ({', '.join(parts)})" if parts else label


@named_paths()
def resolve(raw: Mapping[str, Any]) -> Config:
    """Check a configuration and fill in every default.

    Raises:
        UserError: one message naming the key, the value and what is allowed.
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"the config is {_short(raw)}", "write keys and values; see config.yaml")
    check(raw)
    for key in raw:
        _require_finite(raw[key], key)
    _require_feasible(raw)
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
        tuning=[{**_TUNING, **entry} for entry in raw.get("tuning", [{}])],
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
    if kind not in ("imagenet", "archive"):
        return choice if isinstance(choice, str) else settings
    if "root" in settings:
        raise UserError(
            f"data set {name!r} takes no root",
            "`imagenet_root` is one for all subsets of ImageNet, and archives lie in `cache_dir`; "
            "give images of your own another `name`",
        )
    root = imagenet if kind == "imagenet" else f"{cache}/datasets/{name}/images"
    return {**settings, "root": root}


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
