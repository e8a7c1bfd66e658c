"""The one reading of a generator's folder, for the plan, the rules and the loader.

What is said of a folder here is known before any job: which files of it are read, what is missing
and how to get it, which configuration cannot be sampled from. Importable without torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.paths import expanded
from .registry import FAMILY_FILES, PIPELINES, VAE_FILES

# Name of the weights of a part, without the ending.
_STEMS = {"text_encoder": "model"}
_STEM = "diffusion_pytorch_model"
# What git leaves of a large file where git-lfs is not installed.
_POINTER = b"version https://git-lfs"
# No network has more of anything; a slip of a digit would fill the memory before it is found.
_MOST = 10_000_000
_MOST_OF = {"num_layers": 1000, "num_attention_heads": 1000, "layers_per_block": 1000}
_LARGEST_SIDE = 10_000
_TIMESTEPS = 100_000


def parts_of(family: str) -> list[str]:
    """The folders of a family's networks, those that have weights."""
    return [f.split("/")[0] for f in FAMILY_FILES[family] if f.endswith(".safetensors")]


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file: an object whose numbers are finite.

    Raises:
        UserError: it is missing, or holds anything else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} not found", "fetch or train the generator again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}", "fetch the generator again") from error
    if not isinstance(value, dict):
        raise UserError(
            f"{path} is not JSON of keys and values, but {_kind(value)}", "fetch it again"
        )
    for key, number in _numbers(value):
        if not math.isfinite(number):
            raise UserError(
                f"{path}: {key} is {number}", "write a finite number, or fetch it again"
            )
    return value


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), "a single value")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield from _numbers(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from _numbers(held, key)
    elif isinstance(value, float):
        yield key, value


def weight_files(folder: Path, part: str) -> tuple[str, ...]:
    """The files that the weights of a part are read from, relative to the part's folder.

    Args:
        folder: of the part, for instance my-dit/vae.
        part: its name; of a folder that is one network, any other.

    Raises:
        UserError: there are none that are read here, a shard is missing, or a file is only a
            pointer to one.
    """
    stem = _STEMS.get(part, _STEM)
    single, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    # Of both, diffusers takes the shards, transformers the single file.
    order = [index, single] if stem == _STEM else [single, index]
    found = next((name for name in order if (folder / name).is_file()), None)
    if found is None:
        raise _no_weights(folder, part, stem)
    files = _shards(folder, index) if found == index else (single,)
    for file in files:
        with (folder / file).open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise UserError(
                    f"{folder / file} holds no weights, but git's pointer to them",
                    "install git-lfs and run `git lfs pull` in the repository",
                )
    return files


def _shards(folder: Path, index: str) -> tuple[str, ...]:
    shard_of = read_json(folder / index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(
        isinstance(name, str) and "/" not in name for name in shard_of.values()
    ):
        raise UserError(
            f"{folder / index} does not say which file holds which weight", "fetch it again"
        )
    shards = sorted(set(shard_of.values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(shards)} files of its weights: {missing[0]}",
            "fetch the missing ones",
        )
    return (index, *shards)


def _no_weights(folder: Path, part: str, stem: str) -> UserError:
    what = f"no weights in {folder}: there is no {stem}.safetensors"
    held = sorted(path.name for path in folder.iterdir() if path.is_file())
    variants = [n for n in held if n.startswith(f"{stem}.") and ".safetensors" in n]
    pickled = [n for n in held if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if variants:
        variant = variants[0].removeprefix(f"{stem}.").partition(".safetensors")[0]
        # A sharded variant is called {stem}.safetensors.index.fp16.json.
        variant = (variant or variants[0].split(".")[-2]).partition("-")[0]
        return UserError(
            f"{what}, only the variant {variants[0]}",
            f"write it under the usual name: {_conversion(folder, part, f'variant={variant!r}')}",
        )
    if f"{stem}.bin" in held or f"pytorch_{stem}.bin" in held:
        return UserError(
            f"{what}, only {pickled[0]}, a pickle, which is not read here",
            f"if you trust it, convert it: {_conversion(folder, part, 'use_safetensors=False')}",
        )
    if others := [
        *pickled,
        *(n for n in held if n.endswith((".safetensors", ".msgpack", ".onnx"))),
    ]:
        return UserError(
            f"{what}, only {others[0]}",
            "give a folder as diffusers' save_pretrained writes it",
        )
    return UserError(what, "fetch or train the generator again: its weights are not there")


def _conversion(folder: Path, part: str, how: str) -> str:
    """A command that writes a part's weights as they are read here."""
    config = read_json(folder / "config.json")
    library = "transformers" if part == "text_encoder" else "diffusers"
    name = config.get("_class_name") or (config.get("architectures") or ["CLIPTextModel"])[0]
    return (
        f'python -c "from {library} import {name} as M; '
        f'M.from_pretrained({str(folder)!r}, {how}).save_pretrained({str(folder)!r})"'
    )


def vae_files(folder: Path | str) -> tuple[str, ...]:
    """The files of a pipeline folder's VAE: those that are there, or will be when it is made."""
    folder = Path(folder)
    if not (folder / "vae" / f"{_STEM}.safetensors.index.json").is_file():
        return VAE_FILES
    return (VAE_FILES[0], *(f"vae/{file}" for file in weight_files(folder / "vae", "vae")))


def pipeline_files(folder: Path, family: str) -> tuple[str, ...]:
    """All files of a user's pipeline folder that are read, relative to it.

    Raises:
        UserError: one is missing.
    """
    files = [f for f in FAMILY_FILES[family] if not f.endswith(".safetensors")]
    for file in (f for f in files if f.endswith("/config.json")):
        _require(folder, family, file)
    for part in parts_of(family):
        files += [f"{part}/{file}" for file in weight_files(folder / part, part)]
    tokens = [f for f in files if f.startswith("tokenizer/")]
    if tokens and (folder / "tokenizer" / "tokenizer.json").is_file():
        files = [f for f in files if f not in tokens or (folder / f).is_file()]
        files.append("tokenizer/tokenizer.json")
    for file in files:
        _require(folder, family, file)
    return tuple(sorted(files))


def _require(folder: Path, family: str, file: str) -> None:
    if not (folder / file).is_file():
        parts = sorted({f"{Path(f).parent}/" for f in FAMILY_FILES[family] if "/" in f})
        raise UserError(
            f"generator folder {_named(folder)} has no {file}",
            f"give the whole pipeline folder, with {', '.join(parts)}",
        )


def _named(folder: Path) -> str:
    """As a configuration names it: a path with a slash."""
    return str(folder) if folder.is_absolute() else f"./{folder}"


def family_of(folder: Path) -> str:
    """The family of a pipeline folder, by its model_index.json.

    Raises:
        UserError: it has none, or it is of a pipeline that is none of ours.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        hint = (
            ""
            if folder.exists()
            else " A repository of the Hub is written dit:owner/name or sd:owner/name."
        )
        raise UserError(
            f"generator folder {_named(folder)} has no {index.name}",
            "give a diffusers pipeline folder: model_index.json, transformer/ or unet/, vae/, "
            f"scheduler/.{hint}",
        )
    pipeline = read_json(index).get("_class_name")
    if pipeline not in PIPELINES:
        raise UserError(
            f"generator folder {_named(folder)} holds a {pipeline}",
            f"give a folder of one of {', '.join(PIPELINES)}",
        )
    return PIPELINES[pipeline]


def check_folder(folder: Path) -> str:
    """The family of a user's pipeline folder that can be loaded, as far as its files tell.

    Raises:
        UserError: a file is missing or says what cannot be; names it and what to do.
    """
    folder = expanded(folder)
    family = family_of(folder)
    pipeline_files(folder, family)
    for part in parts_of(family):
        path = folder / part / "config.json"
        check_network(read_json(path), str(path))
    check_scheduler(read_json(folder / "scheduler" / "scheduler_config.json"), str(folder))
    return family


def check_network(config: Mapping[str, Any], where: str) -> None:
    """Raise UserError for a network's configuration that no weights can fit."""
    for key, value in config.items():
        most = _MOST_OF.get(key, _MOST)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and number > most:
                raise UserError(
                    f"{where}: {key} is {number:,}, more than any network has",
                    "mend it, or fetch the generator again",
                )
    is_vae = "latent_channels" in config  # what it says of its sample's size is not read
    for key in ("num_layers", "in_channels", "latent_channels", *["sample_size"][is_vae:]):
        if key in config and not _is_count(config[key]):
            raise UserError(f"{where}: {key} is {config[key]!r}", "write a whole number from 1 on")
    widths = config.get("block_out_channels", [1])
    if not isinstance(widths, list) or not widths or not all(map(_is_count, widths)):
        raise UserError(
            f"{where}: block_out_channels is {widths!r}", "write a list of whole numbers from 1 on"
        )
    if _is_count(side := config.get("sample_size")) and side > _LARGEST_SIDE:
        raise UserError(f"{where}: sample_size is {side:,}", f"it is at most {_LARGEST_SIDE:,}")
    for key, zero in (("scaling_factor", False), ("shift_factor", True)):
        value = config.get(key)
        if key not in config or (value is None and zero):
            continue
        if not _is_number(value) or not (zero or value > 0):
            raise UserError(
                f"{where}: {key} is {value!r}",
                "latents are multiplied and divided by it: write the VAE's own"
                if not zero
                else "write a number, or null",
            )


def check_scheduler(config: Mapping[str, Any], where: str) -> None:
    """Raise UserError for a scheduler that was not trained on a schedule of betas, or whose
    numbers make none."""
    name, what = config.get("_class_name"), f"{where}: the generator's scheduler"
    flow = "FlowMatch" in str(name) or config.get("use_flow_sigmas")
    if flow or (name and not {"beta_schedule", "beta_start", "trained_betas"} & set(config)):
        why = ": it is of flow matching" if flow else ""
        raise UserError(
            f"{what}, {name}, has no schedule of betas{why}",
            "the samplers need a generator that was trained to predict the noise of a diffusion",
        )
    betas = config.get("trained_betas")
    steps = config.get("num_train_timesteps", 1000)
    if not _is_count(steps) or steps > _TIMESTEPS:
        raise UserError(
            f"{what} has num_train_timesteps {steps!r}",
            f"write a whole number up to {_TIMESTEPS:,}",
        )
    if betas is not None:
        if not isinstance(betas, list) or not betas or not all(map(_is_share, betas)):
            raise UserError(f"{what} has trained_betas that are no numbers between 0 and 1", "mend")
        return
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    for key, value in (("beta_start", start), ("beta_end", end)):
        if not _is_share(value):
            raise UserError(f"{what} has {key} {value!r}", "write a number between 0 and 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1
