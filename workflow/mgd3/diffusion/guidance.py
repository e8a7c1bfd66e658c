"""Mode guidance and stop guidance: pure functions on tensors, one per named variant.

Every step function has the signature of `StepFunction`. Given x_i, the (classifier-free-guided)
noise prediction eps and the coefficients of step i, it returns x_{i-1} and the predicted clean
latent x0_hat before mode guidance. With `mode` None the step is the plain sampler's: the guidance
arithmetic is skipped, not multiplied by zero, so an unguided step is bit-equal to one.

The pull is g = mode - x0_hat, in scaled latents. Variants differ in how far lambda * g moves
x_{i-1}, so lambda is not comparable between them.

The paper's Eq. 6 as printed adds the pull to eps, which pushes away from the mode
(d x0_hat / d eps < 0). None of the variants does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .names import STOP_RULES
from .schedules import Coefficients


def onto(tangent: Tensor, v: Tensor) -> Tensor:
    """U U^T v of each image: `tangent` is U^T, orthonormal rows [n, d, D]; v is [n, D]."""
    along = torch.einsum("ndk,nk->nd", tangent, v)
    return torch.einsum("ndk,nd->nk", tangent, along)


@dataclass(frozen=True)
class Guidance:
    """The pull of one batch.

    Attributes:
        modes: float32 [n, C, h, w], scaled latents.
        scale: lambda.
        tangent: orthonormal rows, float32 [n, d, C * h * w], onto which g is projected; or None.
        shift: float32 [n, C, h, w], what a step adds besides; or None. See `manifold`.
        clamp: bound on |x0_hat| inside g, or None. At the first steps sqrt(abar) is .006, so an
            imperfect eps makes x0_hat huge; the bound keeps small generators stable.
    """

    modes: Tensor
    scale: float
    clamp: float | None = None
    tangent: Tensor | None = None
    shift: Tensor | None = None

    def pull(self, x0_hat: Tensor) -> Tensor:
        """lambda * g, of x0_hat's shape."""
        if self.clamp is not None:
            x0_hat = x0_hat.clamp(-self.clamp, self.clamp)
        g = self.modes - x0_hat
        if self.tangent is not None:
            g = onto(self.tangent, g.flatten(1)).view_as(g)
        return self.scale * g


class StepFunction(Protocol):
    def __call__(
        self,
        x: Tensor,
        eps: Tensor,
        v: Tensor | None,
        c: Coefficients,
        noise: Tensor | None,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """One step from x_i to x_{i-1}.

        Args:
            x: x_i, float32 [n, C, h, w].
            eps: predicted noise, same shape.
            v: raw variance output, same shape, or None for the fixed posterior variance.
            c: coefficients of step i.
            noise: standard normal, same shape; None at i = 0 and in deterministic variants.
            guidance: None where the step is not guided.

        Returns:
            x_{i-1} and x0_hat.
        """
        ...


def predict_x0(x: Tensor, eps: Tensor, c: Coefficients) -> Tensor:
    """The clean latent that eps implies, not clipped."""
    return c.x0_from_x * x - c.x0_from_eps * eps


def log_variance(v: Tensor | None, c: Coefficients) -> Tensor:
    """Log-variance of a reverse step: learned range (Improved DDPM, Eq. 15), or fixed small."""
    if v is None:
        return c.log_posterior
    fraction = (v + 1) / 2
    return fraction * c.log_beta + (1 - fraction) * c.log_posterior


def ddpm(
    x: Tensor,
    eps: Tensor,
    v: Tensor | None,
    c: Coefficients,
    noise: Tensor | None,
    guidance: Guidance | None,
) -> tuple[Tensor, Tensor]:
    """x_{i-1} = mean + lambda sigma_i g + sigma_i z: the released code behind the main tables.

    sigma_i is the model's own standard deviation, per pixel where it is learned.
    """
    x0_hat = predict_x0(x, eps, c)
    result = c.mean_from_x0 * x0_hat + c.mean_from_x * x
    if guidance is None and noise is None:
        return result, x0_hat
    sigma = (0.5 * log_variance(v, c)).exp()
    if guidance is not None:
        result = result + sigma * guidance.pull(x0_hat)
        if guidance.shift is not None:
            result = result + guidance.shift
    if noise is not None:
        result = result + sigma * noise
    return result, x0_hat


def ddim(
    x: Tensor,
    eps: Tensor,
    v: Tensor | None,
    c: Coefficients,
    noise: Tensor | None,
    guidance: Guidance | None,
) -> tuple[Tensor, Tensor]:
    """eps_hat = eps - sqrt(1 - abar_i) lambda g, then a DDIM step: the paper's Algorithm 1.

    eps_hat is used for both the clean latent and the direction; eta = 0.
    """
    x0_hat = guided_x0 = predict_x0(x, eps, c)
    if guidance is not None:
        eps = eps - c.sqrt_one_minus_abar * guidance.pull(x0_hat)
        guided_x0 = predict_x0(x, eps, c)
    return c.sqrt_abar_prev * guided_x0 + c.sqrt_one_minus_abar_prev * eps, x0_hat


def ddim_x0(
    x: Tensor,
    eps: Tensor,
    v: Tensor | None,
    c: Coefficients,
    noise: Tensor | None,
    guidance: Guidance | None,
) -> tuple[Tensor, Tensor]:
    """x0_hat + lambda g, eps recomputed from it, DDIM step: ManifoldGD's MGD3 baseline."""
    x0_hat = guided_x0 = predict_x0(x, eps, c)
    if guidance is not None:
        pull = guidance.pull(x0_hat)
        if guidance.shift is not None:
            pull = pull + guidance.shift
        guided_x0 = x0_hat + pull
        # The eps with which x_i would give guided_x0, as a difference: exact where abar is near 1.
        eps = eps - c.sqrt_abar / c.sqrt_one_minus_abar * pull
    return c.sqrt_abar_prev * guided_x0 + c.sqrt_one_minus_abar_prev * eps, x0_hat


def ddim_sqrt_abar(
    x: Tensor,
    eps: Tensor,
    v: Tensor | None,
    c: Coefficients,
    noise: Tensor | None,
    guidance: Guidance | None,
) -> tuple[Tensor, Tensor]:
    """A DDIM step plus lambda sqrt(abar_i) g: MGD3's released text-to-image DDIM scheduler."""
    x0_hat = predict_x0(x, eps, c)
    result = c.sqrt_abar_prev * x0_hat + c.sqrt_one_minus_abar_prev * eps
    if guidance is not None:
        result = result + c.sqrt_abar * guidance.pull(x0_hat)
    return result, x0_hat


@dataclass(frozen=True)
class Variant:
    """A named sampler.

    Attributes:
        step: its step function.
        spacing: the schedule it walks unless another is asked for; see `schedules.make_schedule`.
        stochastic: whether a step adds noise.
    """

    step: StepFunction
    spacing: str
    stochastic: bool


VARIANTS: dict[str, Variant] = {
    "ddpm": Variant(ddpm, "linspace", stochastic=True),
    "ddim": Variant(ddim, "leading", stochastic=False),
    "ddim-x0": Variant(ddim_x0, "leading", stochastic=False),
    "ddim-sqrt-abar": Variant(ddim_sqrt_abar, "leading", stochastic=False),
}


def is_guided(i: int, t_sg: int, stop_rule: str = "code") -> bool:
    """Stop guidance: whether step i (steps - 1 .. 0) is guided.

    `code` (made the paper's tables): i > t_sg. `paper` (its text): i >= t_sg.
    """
    if stop_rule not in STOP_RULES:
        raise ValueError(f"stop_rule {stop_rule!r}; known: {STOP_RULES}")
    return i > t_sg if stop_rule == "code" else i >= t_sg
