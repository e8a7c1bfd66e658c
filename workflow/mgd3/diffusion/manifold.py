"""ManifoldGD's guidance (Roy et al., CVPR 2026, arXiv 2602.23295): a tangent plane at each step.

Known from the authors' released code (AyushRoy2001/ManifoldGD, `distribution_aware_guidance`): at
each guided step i, 300 points around the mode are noised to step i; the 12 nearest to x_i have a
mean mu and, by PCA, 3 tangent directions U. To the usual mode guidance it adds

    scale * tanh(distance to the nearest point / bandwidth) * n / |n|,  n = -(I - U U^T)(x_i - mu),

to x_{i-1} when sampling with DDPM (all its scripts do), to x0_hat with DDIM. The points lie on
spheres around the mode: 150 radii evenly from 0.1 to the radius, 150 uniformly below it; the radius
is twice as large at the first step and shrinks to its own value within 5 steps (`exp` schedule).

The paper's abstract says something else: the mode-alignment vector is projected onto the tangent
space. That is rule `paper` here, lambda * U U^T g in place of lambda * g; that U is estimated as in
the code is our reading. Of 4,096 dimensions 3 are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.errors import UserError, did_you_mean
from .guidance import Guidance, onto
from .names import MANIFOLD_RULES
from .schedules import Coefficients

# The released code's constants, and what all its scripts set alike.
_POINTS = 300
_NEIGHBOURS = 12
_INNER_RADIUS = 0.1
_WARM_STEPS = 5
_WARM_FACTOR = 2.0
# 0.2 for ImageNette and ImageWoof, 0.1 for ImageNet-1K: without effect on latents of thousands of
# dimensions, where the nearest noised point is tens away and tanh is 1.
_BANDWIDTH = 0.2


@dataclass(frozen=True)
class ManifoldSettings:
    """ManifoldGD's options.

    Attributes:
        rule: "code" or "paper"; see the module.
        scale: length of the correction (rule `code` only), in units of the scaled latent.
        radius: of the neighbourhood of a mode, in scaled latents.
        tangent_dim: directions of the tangent plane.

    Raises:
        UserError: a value outside its range.
    """

    rule: str = "code"
    scale: float = 0.1
    radius: float = 0.1
    tangent_dim: int = 3

    def __post_init__(self) -> None:
        if self.rule not in MANIFOLD_RULES:
            raise UserError(
                f"manifold_rule = {self.rule!r} is unknown",
                did_you_mean(str(self.rule), MANIFOLD_RULES),
            )
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise UserError(f"manifold_scale = {self.scale}", "set a number >= 0")
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise UserError(f"manifold_radius = {self.radius}", "set a number > 0")
        if not 1 <= self.tangent_dim < _NEIGHBOURS:
            raise UserError(
                f"tangent_dim = {self.tangent_dim}",
                f"set 1..{_NEIGHBOURS - 1}: {_NEIGHBOURS} neighbours span no more directions",
            )

    def radius_at(self, i: int, steps: int, stop: int = 0) -> float:
        """The radius at step i of `steps`, where guidance ends at step `stop`."""
        end = max(stop, steps - 1 - _WARM_STEPS)
        if i <= end:
            return self.radius
        progress = min(1.0, (i - end) / max(1, steps - 1 - end))
        grown = math.expm1(progress) / math.expm1(1.0)
        return self.radius * (1 + (_WARM_FACTOR - 1) * grown)


class Manifold:
    """The clouds of one batch: draws of its own for each image, so that no other image matters.

    The draws are made on the CPU, about 2 * 300 normal numbers for each of a latent's, each guided
    step; the noise of the sampler itself is not touched, so runs stay paired.
    """

    def __init__(
        self, settings: ManifoldSettings, rngs: Sequence[torch.Generator], steps: int, stop: int
    ) -> None:
        self._settings, self._rngs, self._steps, self._stop = settings, list(rngs), steps, stop

    def at(self, guidance: Guidance, x: Tensor, i: int, c: Coefficients) -> Guidance:
        """The guidance of step i.

        Args:
            guidance: that of the batch.
            x: x_i, float32 [n, C, h, w].
            c: coefficients of step i.
        """
        settings = self._settings
        points = self._cloud(guidance.modes, settings.radius_at(i, self._steps, self._stop), c)
        mean, tangent, nearest = tangent_plane(x.flatten(1), points, settings.tangent_dim)
        if settings.rule == "paper":
            return replace(guidance, tangent=tangent)
        away = x.flatten(1) - mean
        normal = -(away - onto(tangent, away))
        direction = normal / (normal.norm(dim=1, keepdim=True) + 1e-8)
        shift = settings.scale * torch.tanh(nearest / _BANDWIDTH)[:, None] * direction
        return replace(guidance, shift=shift.view_as(x))

    def _cloud(self, modes: Tensor, radius: float, c: Coefficients) -> Tensor:
        """Points around each mode, noised to a step: float32 [n, 300, D]."""
        flat = modes.flatten(1)
        drawn = torch.empty(2, len(flat), _POINTS, flat.shape[1])
        outer = torch.empty(len(flat), _POINTS // 2)
        for image, rng in enumerate(self._rngs):
            drawn[0, image] = torch.randn(drawn.shape[2:], generator=rng)
            outer[image] = torch.rand(outer.shape[1], generator=rng)
            drawn[1, image] = torch.randn(drawn.shape[2:], generator=rng)
        directions, noise = drawn.to(modes.device)
        even = torch.linspace(_INNER_RADIUS, radius, _POINTS - _POINTS // 2)
        radii = torch.cat([even.expand(len(flat), -1), outer * radius], dim=1).to(modes.device)
        directions = directions / directions.norm(dim=2, keepdim=True)
        points = flat[:, None] + radii[:, :, None] * directions
        return c.sqrt_abar * points + c.sqrt_one_minus_abar * noise


def tangent_plane(x: Tensor, points: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The plane through the neighbours of each x.

    Args:
        x: float32 [n, D].
        points: float32 [n, points, D], at least 12 of them.
        dim: directions wanted, fewer than the neighbours.

    Returns:
        Mean of the 12 nearest points [n, D]; their first principal directions as orthonormal rows
        [n, dim, D]; the distance to the nearest [n].
    """
    distances = (points - x[:, None]).norm(dim=2)
    near, rows = distances.topk(_NEIGHBOURS, dim=1, largest=False)
    neighbours = points.gather(1, rows[:, :, None].expand(-1, -1, points.shape[2]))
    mean = neighbours.mean(dim=1)
    centred = neighbours - mean[:, None]
    # The right singular vectors by way of the 12 x 12 products. This waits for the device once a
    # guided step, which is nothing beside the network.
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
    values, vectors = values[:, -dim:], vectors[:, :, -dim:]
    tangent = vectors.transpose(1, 2) @ centred
    return mean, tangent / values.clamp_min(1e-12).sqrt()[:, :, None], near[:, 0]
