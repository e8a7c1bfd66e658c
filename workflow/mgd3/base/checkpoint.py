"""The state of unfinished jobs, so that a killed one goes on where it was.

Each is one hidden file, not declared to the workflow, which deletes declared outputs of a job that
did not finish. It says which job it is of, and carries a hash of its bytes. Where there is any
doubt (damage, another job, another version) the job begins anew and says so in one line: a result
of half old and half new work would look like any other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import __version__
from . import artifacts, headers
from .errors import UserError
from .identity import identity

# Raised when the format of these files changes.
_VERSION = 1
_OPTIMIZER = "optimizer"


class State(NamedTuple):
    """What was kept: tensors, and JSON that says how far the job was."""

    tensors: dict[str, torch.Tensor]
    note: dict[str, Any]


class Unfinished:
    """The file of one unfinished job.

    Args:
        path: the file.
        job: all that its result depends on, as JSON: work of another is not gone on with. The
            identity of the job that is running, which holds the versions of its stage and of what
            it calls, and the versions of this package and of torch are added.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], every: float = 60) -> None:
        # As it reads after a round trip through JSON (tuples become lists).
        more = {
            "running": artifacts.running_job(),
            "mgd3": __version__,
            "torch": torch.__version__,
        }
        settings = json.loads(json.dumps({**job, **more}))
        self.path, self.every = path, every
        self.identity = identity("checkpoint", _VERSION, settings=settings)
        self._last = time.monotonic()

    def load(self) -> State | None:
        """What was kept of this job; None, and a line on stderr, where there is any doubt."""
        if not self.path.is_file():
            return None
        try:
            headers.check(self.path, self.identity)
            note = artifacts.tensor_metadata(self.path)["note"]
            # Copied out of the file: results of kernels depend, in the last bit, on how memory is
            # aligned, and an uninterrupted job's is torch's own.
            held = artifacts.load_tensors(self.path)
            return State({name: tensor.clone() for name, tensor in held.items()}, note)
        except UserError as error:
            self.doubt(error.what)
        except OSError as error:
            self.doubt(str(error))
        return None

    def doubt(self, why: str) -> None:
        """Say that the job begins anew."""
        print(f"begins anew, not from its checkpoint: {why}", file=sys.stderr, flush=True)

    def is_due(self) -> bool:
        return time.monotonic() - self._last >= self.every

    def save(self, tensors: Mapping[str, torch.Tensor], note: Mapping[str, Any]) -> None:
        """Replace what is kept."""
        # Weights that are one tensor under two names would be refused by safetensors.
        own = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        artifacts.save_tensors(self.path, own, {"note": note}, self.identity)
        self._last = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Checkpoint(Unfinished):
    """Model, average, optimiser and step of a training, rewritten now and then.

    The draws of step i come from the seed of step i, so nothing else has to be kept.
    """

    def restore(self, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> int:
        """Load the file into the modules and the optimiser; the step to go on from (0: anew)."""
        state = self.load()
        if state is None:
            return 0
        if why := misfit(state.tensors, modules, optimizer):
            self.doubt(f"{self.path} {why}")
            return 0
        unpack(state.tensors, modules, optimizer)
        return int(state.note["step"])

    def save_if_due(
        self, step: int, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the file if `every` seconds have passed. `step` steps are done."""
        if self.is_due():
            self.save(pack(modules, optimizer), {"step": step})


def pack(
    modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """The state of both in one mapping; the settings of the optimiser are not part of it."""
    tensors = {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    for index, fields in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_OPTIMIZER}.{index}.{field}": value
            for field, value in fields.items()
            if isinstance(value, torch.Tensor)
        }
    return tensors


def misfit(
    tensors: Mapping[str, torch.Tensor],
    modules: Mapping[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
) -> str:
    """A clause that says why `unpack` could not put packed tensors back; "" where it can."""
    for name, module in modules.items():
        held = {key: (t.shape, t.dtype) for key, t in _below(tensors, f"{name}.").items()}
        wanted = {key: (t.shape, t.dtype) for key, t in module.state_dict().items()}
        if held != wanted:
            differ = sorted(k for k in {*held, *wanted} if held.get(k) != wanted.get(k))
            return f"holds another {name}: {differ[0]} differs"
    parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    if any(int(key.partition(".")[0]) >= parameters for key in _below(tensors, f"{_OPTIMIZER}.")):
        return "is of an optimiser of more parameters"
    return ""


def unpack(
    tensors: Mapping[str, torch.Tensor],
    modules: Mapping[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put back what `pack` gave."""
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"{name}."))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in _below(tensors, f"{_OPTIMIZER}.").items():
        index, _, field = key.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
