"""The training loss of a DiT: noise prediction plus the variational bound for its variance."""

from __future__ import annotations

import math

import torch

TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 1e-4, 0.02


class HybridLoss:
    """L_simple + L_vlb of Improved DDPM (Nichol & Dhariwal 2021, Eqs. 14-16), as DiT uses it.

    The bound trains the learned-range variance only: the mean enters it detached. At t = 0 it is
    the negative log-likelihood of the clean latents, elsewhere a KL divergence.

    Args:
        device: of the tensors it will be given.
        min_snr: gamma of the Min-SNR weights min(SNR, gamma) / SNR of L_simple (Hang et al., ICCV
            2023, arXiv 2303.09556, section 3.4, for noise prediction), SNR = abar / (1 - abar);
            None for equal weights.
    """

    def __init__(self, device: torch.device, min_snr: float | None = None) -> None:
        betas = torch.linspace(BETA_START, BETA_END, TRAIN_TIMESTEPS, dtype=torch.float64)
        abar = torch.cumprod(1 - betas, 0)
        previous = torch.cat([abar.new_ones(1), abar[:-1]])
        posterior = betas * (1 - previous) / (1 - abar)
        posterior[0] = posterior[1]  # it is 0 at t = 0, and its logarithm is needed
        snr = abar / (1 - abar)
        weight = torch.ones_like(snr) if min_snr is None else (min_snr / snr).clamp(max=1)
        columns = [
            abar.sqrt(),
            (1 - abar).sqrt(),
            betas.log(),
            posterior.log(),
            previous.sqrt() * betas / (1 - abar),
            (1 - betas).sqrt() * (1 - previous) / (1 - abar),
            weight,
        ]
        self._table = torch.stack(columns, 1).float().to(device)

    def add_noise(self, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_t for clean latents [n, C, h, w], steps [n] in 0..999 and noise of x0's shape."""
        signal, sigma = self._table[t][:, :2].view(-1, 2, 1, 1, 1).unbind(1)
        return signal * x0 + sigma * noise

    def clean(self, x_t: torch.Tensor, t: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """The clean latents that a noise prediction amounts to, of x_t's shape."""
        signal, sigma = self._table[t][:, :2].view(-1, 2, 1, 1, 1).unbind(1)
        return (x_t - sigma * eps) / signal

    def __call__(
        self,
        output: torch.Tensor,
        x0: torch.Tensor,
        x_t: torch.Tensor,
        t: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """The loss, a scalar, of the network's output [n, 2C, h, w] (noise, then variance)."""
        eps, v = output.chunk(2, dim=1)
        row = self._table[t].view(-1, self._table.shape[1], 1, 1, 1).unbind(1)
        signal, sigma, log_beta, log_posterior, to_x0, _to_x_t, weight = row
        fraction = (v + 1) / 2
        log_variance = fraction * log_beta + (1 - fraction) * log_posterior
        x0_hat = (x_t - sigma * eps.detach()) / signal
        # KL between the true posterior and the model's step; both share the x_t term of the mean.
        gap = to_x0 * (x0 - x0_hat)
        kl = 0.5 * (
            log_variance
            - log_posterior
            - 1
            + (log_posterior - log_variance).exp()
            + gap.square() * (-log_variance).exp()
        )
        # At t = 0 the model's mean is its prediction of x0 itself.
        first = (t == 0).view(-1, 1, 1, 1)
        bound = torch.where(first, -_log_likelihood(x0, x0_hat, log_variance), kl)
        return (weight * (eps - noise).square()).mean() + bound.mean() / math.log(2)


def _log_likelihood(
    x: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """The decoder's log-likelihood in nats, of x's shape, as DiT has it for latents, too.

    The mass that a Gaussian has within 1/255 of x, as of 8-bit values in [-1, 1]; beyond .999 on
    either side, all that lies there. Its distribution function is approximated by a tanh.
    """
    gap, precision = x - mean, (-0.5 * log_variance).exp()
    above, below = (_normal_cdf(precision * (gap + side / 255)) for side in (1, -1))
    mass = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


def _normal_cdf(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
