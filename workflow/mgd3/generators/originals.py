"""Reading checkpoints in the formats of the original code, which are pickles.

Nothing in them is executed: tensors are read with `weights_only=True`, and objects of other
classes (a training script's arguments, callbacks) become empty stand-ins.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ..base.errors import UserError


class _StandIn:
    """In place of an object of a class that is not torch's."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def load_pickled(path: Path) -> dict[str, Tensor]:
    """The weights in a `.pt`, `.ckpt` or `.bin` file, on the CPU: by name, without copies.

    Averaged weights (`ema`) are preferred where a checkpoint holds several sets.

    Raises:
        UserError: the file is missing, truncated, no checkpoint, or holds no weights.
    """
    if not path.is_file():
        raise UserError(f"checkpoint not found: {path}", "check the path")
    try:
        # Files written before PyTorch 1.6 are no archives, and can be neither searched nor mapped.
        archive = zipfile.is_zipfile(path)
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if archive else []
        with torch.serialization.safe_globals([(_StandIn, name) for name in foreign]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except UnpicklingError as error:
        raise UserError(
            f"{path} is truncated or not a PyTorch checkpoint, or it would run code when loaded",
            "download it again, from its authors",
        ) from error
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} is truncated or not a PyTorch checkpoint: {first}", "download it again"
        ) from error
    for key in ("ema", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    weights = {
        name: tensor.detach()
        for name, tensor in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(tensor, Tensor)
    }
    if not weights:
        raise UserError(f"{path} holds no weights", "give a checkpoint of a generator")
    return weights
