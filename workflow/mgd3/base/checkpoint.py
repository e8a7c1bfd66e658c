"""Checkpoints of a training run, so that a killed job goes on where it was.

They are not declared to the workflow, which deletes declared outputs of a job that did not finish.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from . import artifacts


class Checkpoint:
    """Model, average, optimiser and step in one safetensors file, rewritten now and then.

    The draws of step i come from the seed of step i, so nothing else has to be kept.

    Args:
        path: the file.
        identity: what the run is; a checkpoint of another run is not loaded.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, identity: dict[str, Any], every: float = 60) -> None:
        # As it reads after a round trip through JSON (tuples become lists).
        self.path, self.identity, self.every = path, json.loads(json.dumps(identity)), every
        self._last = time.monotonic()

    def restore(self, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> int:
        """Load the file into the modules and the optimiser; the step to go on from (0: anew)."""
        if not self.path.is_file():
            return 0
        metadata = artifacts.tensor_metadata(self.path)
        if metadata["identity"] != self.identity:
            return 0
        tensors = artifacts.load_tensors(self.path)
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}."))
        packed = optimizer.state_dict()
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in _below(tensors, "optimizer.").items():
            index, _, field = key.partition(".")
            state.setdefault(int(index), {})[field] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": packed["param_groups"]})
        return int(metadata["step"])

    def save_if_due(
        self, step: int, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the file if `every` seconds have passed. `step` steps are done."""
        if time.monotonic() - self._last < self.every:
            return
        tensors = {
            f"{name}.{key}": tensor
            for name, module in modules.items()
            for key, tensor in module.state_dict().items()
        }
        for index, fields in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{field}": t for field, t in fields.items()}
        # Weights that are one tensor under two names would be refused by safetensors.
        tensors = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        artifacts.save_tensors(self.path, tensors, {"identity": self.identity, "step": step})
        self._last = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
