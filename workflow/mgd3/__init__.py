"""Dataset distillation with mode-guided diffusion (MGD3): the library behind the workflow.

Nothing here knows of Snakemake. `mgd3.cli` exposes each stage as a command; the rules under
`workflow/rules/` call those commands. The public names below are imported when they are asked for:
`import mgd3` alone costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base.errors import UserError
    from .diffusion.pipelines import (
        ModeGuidedDiTPipeline,
        ModeGuidedLDMPipeline,
        ModeGuidedStableDiffusionPipeline,
    )

__version__ = "0.1.0"

_HOMES = {
    "ModeGuidedDiTPipeline": "diffusion.pipelines",
    "ModeGuidedLDMPipeline": "diffusion.pipelines",
    "ModeGuidedStableDiffusionPipeline": "diffusion.pipelines",
    "UserError": "base.errors",
}
__all__ = [
    "ModeGuidedDiTPipeline",
    "ModeGuidedLDMPipeline",
    "ModeGuidedStableDiffusionPipeline",
    "UserError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
