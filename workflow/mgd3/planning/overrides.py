"""What a command line says of a configuration, in the form that files have.

`--config set='{lambda: [0.1, 0.3]}'` gives every run that takes a setting its value; a scalar
stands for a list of one (`--config ipc=10`); and text inside what came by `--config` is read as
YAML, for Snakemake reads only its outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..base.errors import UserError, did_you_mean
from ..methods import METHODS
from .reading import read_yaml
from .schema import SET

PRESET = "preset"
# What the planning process found out, for its jobs elsewhere: see `planning.user_files`.
PLAN = "plan_file"
# Keys of a configuration, and of an entry of `evaluation`, that hold lists.
_LISTS = ("datasets", "ipc", "generation_seeds", "runs", "evaluation", "tuning")
_NETWORKS = "networks"
# What a file must not say beside a preset: it would be another configuration.
_OWN = ("name", "runs")


def preset_file(folder: Path, name: Any, files: Sequence[str | Path]) -> Path:
    """The file of a preset.

    Args:
        folder: of the presets.
        files: of the configuration that are given beside it.

    Raises:
        UserError: there is no such preset, or one of `files` is a configuration of its own.
    """
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(f"no preset {name!r}", did_you_mean(str(name), known))
    for file in files:
        if own := [key for key in _OWN if key in read_yaml(file)]:
            raise UserError(
                f"the preset {name!r} and {file}, which sets {own[0]!r}, are two configurations",
                f"give one of them, or remove {' and '.join(map(repr, _OWN))} from {file}",
            )
    return folder / f"{name}.yaml"


def reread(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which the text of `--config` is read as YAML.

    Args:
        given: what came by `--config`, as Snakemake reads it; it is part of `config`.
    """
    read: dict[str, Any] = dict(config)
    for key, value in given.items():
        inner = read.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            read[key] = reread(inner, value)
        else:
            read[key] = _read(value)
    return read


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _read(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_read(held) for held in value]
    if not isinstance(value, str):
        return value
    try:
        found = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return value
    # A date, say, is meant as text.
    plain = found is None or isinstance(found, bool | int | float | str | list | dict)
    return found if plain else value


def applied(raw: Any) -> Any:
    """A configuration with lists where scalars stood for one, and `set` carried out.

    Raises:
        UserError: `set` names what no run takes.
    """
    if not isinstance(raw, Mapping):
        return raw
    config = {key: _listed(value) if key in _LISTS else value for key, value in raw.items()}
    if isinstance(evaluation := config.get("evaluation"), list):
        config["evaluation"] = [
            {**e, _NETWORKS: _listed(e[_NETWORKS])}
            if isinstance(e, Mapping) and _NETWORKS in e
            else e
            for e in evaluation
        ]
    for key in (PRESET, PLAN):  # have been read
        config.pop(key, None)
    chosen = config.pop(SET, None)
    if chosen is None or not isinstance(config.get("runs"), list):
        return config
    if not isinstance(chosen, Mapping):
        raise UserError(f"set is {chosen!r}", "write keys and values: {lambda: 0.1}")
    takes = [_taken_by(run) for run in config["runs"]]
    known = sorted({key for taken in takes for key in taken})
    if unknown := [key for key in chosen if key not in known]:
        raise UserError(f"set: no run takes {unknown[0]!r}", did_you_mean(str(unknown[0]), known))
    config["runs"] = [
        {**run, **{key: value for key, value in chosen.items() if key in taken}} if taken else run
        for run, taken in zip(config["runs"], takes, strict=True)
    ]
    return config


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def _taken_by(run: Any) -> set[str]:
    """The settings of a run's method; none where the run is no run, which its check says."""
    method = run.get("method") if isinstance(run, Mapping) else None
    return set(METHODS[method].fields()) if method in METHODS else set()
