"""The steps a sampler walks, and the numbers it needs at each.

Indices: t is a training timestep (0 .. T - 1), i is a step of the shortened schedule
(0 .. steps - 1). Sampling walks i from steps - 1 down to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..base.errors import UserError


class Coefficients(NamedTuple):
    """What one step needs, each a float32 scalar tensor on the sampler's device.

    x0_hat = x0_from_x * x - x0_from_eps * eps, and the mean of q(x_{i-1} | x_i, x0_hat) is
    mean_from_x0 * x0_hat + mean_from_x * x. `log_posterior` and `log_beta` are the two ends of a
    learned-range variance, as logarithms. The square roots are of abar_i, 1 - abar_i, abar_{i-1}
    and 1 - abar_{i-1}.
    """

    x0_from_x: Tensor
    x0_from_eps: Tensor
    mean_from_x0: Tensor
    mean_from_x: Tensor
    log_posterior: Tensor
    log_beta: Tensor
    sqrt_abar: Tensor
    sqrt_one_minus_abar: Tensor
    sqrt_abar_prev: Tensor
    sqrt_one_minus_abar_prev: Tensor


@dataclass(frozen=True)
class Schedule:
    """A diffusion process on a subset of the training timesteps.

    Attributes:
        timesteps: int64 [steps], ascending: the t that the network is fed at step i.
        alphas_cumprod: float64 [steps], abar_i = the training schedule's abar at timesteps[i].
    """

    timesteps: Tensor
    alphas_cumprod: Tensor

    @property
    def alphas_cumprod_prev(self) -> Tensor:
        """float64 [steps]: abar_{i-1}, and 1 (clean) for i = 0."""
        return torch.cat([self.alphas_cumprod.new_ones(1), self.alphas_cumprod[:-1]])

    @property
    def betas(self) -> Tensor:
        """float64 [steps]: 1 - abar_i / abar_{i-1}."""
        return 1 - self.alphas_cumprod / self.alphas_cumprod_prev

    @property
    def posterior_variance(self) -> Tensor:
        """float64 [steps]: the variance of q(x_{i-1} | x_i, x_0); at i = 0, where it is 0 and its
        logarithm is needed, that of i = 1 stands in (as in the original DiT sampler)."""
        variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return torch.cat([variance[1:2], variance[1:]])

    def table(self, device: torch.device | str) -> Tensor:
        """float32 [steps, columns of `Coefficients`] on the device, made in float64."""
        abar, prev, betas = self.alphas_cumprod, self.alphas_cumprod_prev, self.betas
        columns = Coefficients(
            x0_from_x=(1 / abar).sqrt(),
            x0_from_eps=(1 / abar - 1).sqrt(),
            mean_from_x0=betas * prev.sqrt() / (1 - abar),
            mean_from_x=(1 - prev) * (1 - betas).sqrt() / (1 - abar),
            log_posterior=self.posterior_variance.log(),
            log_beta=betas.log(),
            sqrt_abar=abar.sqrt(),
            sqrt_one_minus_abar=(1 - abar).sqrt(),
            sqrt_abar_prev=prev.sqrt(),
            sqrt_one_minus_abar_prev=(1 - prev).sqrt(),
        )
        return torch.stack(columns, dim=1).to(device=device, dtype=torch.float32)


def _on(timesteps: list[int], alphas_cumprod: Tensor) -> Schedule:
    index = torch.tensor(timesteps)
    return Schedule(index, alphas_cumprod.to("cpu", torch.float64)[index])


def _require_steps(steps: int, alphas_cumprod: Tensor) -> int:
    trained = len(alphas_cumprod)
    if not 2 <= steps <= trained:
        raise UserError(
            f"steps = {steps}, but the generator was trained with {trained} timesteps",
            f"set steps between 2 and {trained}; the paper uses 50",
        )
    return trained


def respaced(alphas_cumprod: Tensor, steps: int) -> Schedule:
    """The DDPM schedule of improved-diffusion and DiT: both ends kept, Python-rounded stride.

    Args:
        alphas_cumprod: abar_t of the training schedule, float64 [T].
        steps: how many timesteps to keep.

    Raises:
        UserError: `steps` is not in 2 .. T.
    """
    trained = _require_steps(steps, alphas_cumprod)
    stride = (trained - 1) / (steps - 1)
    # Summed rather than multiplied: a product may round half-way cases differently.
    timesteps, position = [], 0.0
    for _ in range(steps):
        timesteps.append(round(position))
        position += stride
    return _on(timesteps, alphas_cumprod)


def leading(alphas_cumprod: Tensor, steps: int, offset: int = 0) -> Schedule:
    """The usual DDIM grid: 0, 20, .., 980 for 50 of 1000, shifted by `offset` (1 in latent and
    Stable Diffusion: 1, 21, .., 981).

    Other args and errors: as for `respaced`.
    """
    trained = _require_steps(steps, alphas_cumprod)
    stride = trained // steps
    # An offset that the grid has no room for is left out.
    offset = min(offset, trained - 1 - (steps - 1) * stride)
    return _on([i * stride + offset for i in range(steps)], alphas_cumprod)


def make_schedule(alphas_cumprod: Tensor, steps: int, spacing: str, offset: int = 0) -> Schedule:
    """The schedule of a spacing named as in diffusers: "linspace" or "leading"."""
    if spacing == "linspace":
        return respaced(alphas_cumprod, steps)
    return leading(alphas_cumprod, steps, offset)
