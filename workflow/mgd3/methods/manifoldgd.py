"""ManifoldGD (Roy et al., CVPR 2026, arXiv 2602.23295): see `mgd3.diffusion.manifold`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..base.errors import UserError
from ..base.settings import NonNegative, Positive, Setting
from ..diffusion.names import MANIFOLD_RULES, MANIFOLD_VARIANTS
from .base import GuidedSampling, Job, Modes

if TYPE_CHECKING:
    from torch import Tensor


class Settings(GuidedSampling):
    """MGD3 with a tangent plane at each guided step."""

    label: ClassVar = "ManifoldGD"
    needs: ClassVar = ("modes", "generator")
    modes: Modes = "divisive"
    manifold_rule: Annotated[
        Literal[MANIFOLD_RULES],
        Setting(
            "code adds a pull to the tangent plane, as its released code; paper projects mode "
            "guidance onto the plane",
            place=120,
            label=lambda _: "projected guidance",
        ),
    ] = "code"
    manifold_scale: Annotated[
        NonNegative, Setting("with the rule code: length of the pull to the tangent plane")
    ] = 0.1
    manifold_radius: Annotated[
        Positive, Setting("radius of a mode's neighbourhood, in scaled latents")
    ] = 0.1
    tangent_dim: Annotated[int, Field(ge=1, le=11), Setting("directions of the tangent plane")] = 3

    @classmethod
    def require_feasible(cls, settings: Mapping[str, Any]) -> None:
        super().require_feasible(settings)
        if settings["variant"] not in MANIFOLD_VARIANTS:
            raise UserError(
                f"method 'manifoldgd' has no variant {settings['variant']!r}",
                f"choose {' or '.join(MANIFOLD_VARIANTS)}",
            )


def distil(job: Job) -> dict[str, Tensor]:
    """Image k of a class has its mode k."""
    from ..diffusion.manifold import ManifoldSettings
    from ..diffusion.sampling import Item
    from .sampling.classes import sample_classes

    settings = dict(job.settings)
    manifold = ManifoldSettings(
        rule=settings.pop("manifold_rule"),
        scale=settings.pop("manifold_scale"),
        radius=settings.pop("manifold_radius"),
        tangent_dim=settings.pop("tangent_dim"),
    )
    return sample_classes(replace(job, settings=settings), Item, manifold)
