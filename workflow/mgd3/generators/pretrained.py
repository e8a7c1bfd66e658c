"""Loading parts of a diffusers folder, with errors that name the folder and the mend."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError

from ..base.errors import UserError
from ..base.shapes import misfit

Model = TypeVar("Model", bound=ModelMixin)

_PARTS = (
    "a diffusers folder holds model_index.json, transformer/ or unet/, vae/ and scheduler/, "
    "Stable Diffusion's also text_encoder/ and tokenizer/"
)


def is_local(folder_or_id: str | Path) -> bool:
    """Whether the name is a folder here; otherwise it is taken for an id on the Hugging Face Hub.

    Raises:
        UserError: it is neither (a path that does not exist, say).
    """
    if Path(folder_or_id).is_dir():
        return True
    if (
        isinstance(folder_or_id, str)
        and folder_or_id.count("/") == 1
        and folder_or_id[0] not in "./"
    ):
        return False
    raise UserError(
        f"generator folder not found: {folder_or_id}",
        "give a folder in diffusers' format, or an id of the Hub such as facebook/DiT-XL-2-256",
    )


def load_model(
    cls: type[Model],
    folder_or_id: str | Path,
    subfolder: str | None,
    *,
    dtype: torch.dtype,
) -> Model:
    """One network of a diffusers folder or Hub id, from safetensors, on the CPU, in eval mode.

    Args:
        cls: its class in diffusers.
        subfolder: the part of the pipeline folder, for instance "vae"; None for the folder itself.
        dtype: of the weights.

    Raises:
        UserError: the part or its weights are missing, truncated, or of other shapes than its
            config.json says.
    """
    local = is_local(folder_or_id)
    where = f"{folder_or_id}/{subfolder}" if subfolder else str(folder_or_id)
    if local:
        _require_part(Path(where), subfolder or "model")
    try:
        with _quiet():
            model, report = cls.from_pretrained(
                str(folder_or_id),
                subfolder=subfolder,
                torch_dtype=dtype,
                use_safetensors=True,
                local_files_only=local,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"cannot load {cls.__name__} from {where}: {_first_sentence(error)}",
            "the weights are damaged or do not fit its config.json: fetch or train it again"
            if local
            else "check the id and the connection, or give a folder fetched beforehand",
        ) from error
    missing = sorted(report["missing_keys"])
    # Old DiT folders hold the fixed position embedding, which diffusers now computes.
    left = sorted(set(report["unexpected_keys"]) - {"pos_embed.pos_embed"})
    if missing or left:
        count, fault = (len(missing), "lacks") if missing else (len(left), "holds too many")
        raise UserError(
            f"{where}: the file {fault} weights of {cls.__name__} ({count}, "
            f"the first {(missing or left)[0]!r})",
            "the weights do not fit its config.json: fetch or train it again",
        )
    return model.eval().requires_grad_(False)


def load_text_parts(folder: str | Path, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and CLIP text encoder of a Stable Diffusion folder, on the CPU.

    Raises:
        UserError: a part is missing or damaged.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    _require_part(Path(folder) / "text_encoder", "text_encoder")
    tokens = Path(folder) / "tokenizer"
    if not any((tokens / file).is_file() for file in ("vocab.json", "tokenizer.json")):
        raise UserError(
            f"no tokenizer in the generator's folder: {tokens} lacks vocab.json", _PARTS
        )
    try:
        with _quiet():
            tokenizer = CLIPTokenizer.from_pretrained(str(tokens), local_files_only=True)
            encoder, report = CLIPTextModel.from_pretrained(
                str(Path(folder) / "text_encoder"),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"cannot load the text encoder from {folder}: {_first_sentence(error)}",
            "the files are damaged or do not fit their config.json: fetch it again",
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{folder}/text_encoder: the file lacks weights ({len(missing)}, "
            f"the first {missing[0]!r})",
            "the weights do not fit its config.json: fetch it again",
        )
    return tokenizer, encoder.eval().requires_grad_(False)


def _require_part(folder: Path, part: str) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"no {part} in the generator's folder: {folder}/config.json not found",
            _PARTS,
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"no weights in {folder}: there is no .safetensors file",
            "fetch or train the generator again; weights in other formats are not read",
        )


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    # What diffusers warns of here (weights left at random) is raised as an error below.
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)


def scheduler_config(folder_or_id: str | Path) -> dict[str, Any]:
    """The scheduler's configuration of a diffusers folder or Hub id.

    Raises:
        UserError: it is missing or not JSON.
    """
    return _json_of(folder_or_id, "scheduler/scheduler_config.json", "scheduler")


def part_config(folder_or_id: str | Path, part: str | None) -> dict[str, Any]:
    """The configuration of one network of a diffusers folder or Hub id; errors as above.

    Args:
        part: for instance "vae"; None for a folder that is one network.
    """
    file = f"{part}/config.json" if part else "config.json"
    return _json_of(folder_or_id, file, part or "model")


def _json_of(folder_or_id: str | Path, file: str, part: str) -> dict[str, Any]:
    if is_local(folder_or_id):
        path = Path(folder_or_id) / file
    else:
        path = _from_hub(str(folder_or_id), file)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no {part} in the generator's folder: {path} not found", _PARTS) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}", "fetch the generator again") from error
    if clause := misfit(found, dict):
        raise UserError(f"{path} is no configuration: it {clause}", "fetch the generator again")
    return found


def _from_hub(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot fetch {file} of {repo}: {_first_sentence(error)}",
            "check the id and the connection, or give a folder fetched beforehand",
        ) from error


def training_alphas_cumprod(config: dict[str, Any]) -> torch.Tensor:
    """abar_t of a scheduler's training schedule, float64 [T], from its configuration.

    Computed here because diffusers' schedulers hold it in float32.

    Raises:
        UserError: a schedule or a prediction type that the samplers do not know.
    """
    if (prediction := config.get("prediction_type", "epsilon")) != "epsilon":
        raise UserError(
            f"the generator's scheduler has prediction_type {prediction!r}",
            "the samplers need a generator that predicts noise (epsilon)",
        )
    if config.get("rescale_betas_zero_snr"):
        raise UserError(
            "the generator's scheduler rescales its betas to zero terminal SNR",
            "the samplers divide by sqrt(abar): use a generator trained without it",
        )
    steps = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
    elif (kind := config.get("beta_schedule", "linear")) == "linear":
        betas = torch.linspace(start, end, steps, dtype=torch.float64)
    elif kind == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    else:
        raise UserError(
            f"the generator's scheduler has beta_schedule {kind!r}",
            "known: linear, scaled_linear, or trained_betas in scheduler_config.json",
        )
    return torch.cumprod(1 - betas, dim=0)
