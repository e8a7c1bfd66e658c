"""Whitened latents: unit covariance, and the same reconstructions."""

from __future__ import annotations

import copy

import pytest
import torch

from mgd3.generators.recipes import VaeRecipe
from mgd3.generators.training import _posteriors, build_vae
from mgd3.generators.whitening import whiten


@pytest.fixture(scope="module")
def vaes():
    """A VAE with channels of unlike scales, and the same after whitening; images."""
    torch.manual_seed(0)
    vae = build_vae(VaeRecipe(channels=(8, 8, 8), latent_channels=3, attention=False)).eval()
    with torch.no_grad():
        vae.quant_conv.weight[:3] *= torch.tensor([5.0, 1.0, 0.3])[:, None, None, None]
        vae.quant_conv.bias[:3] = torch.tensor([2.0, -1.0, 0.5])
    pixels = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    whitened = copy.deepcopy(vae)
    whiten(whitened, *_posteriors(vae, pixels, "cpu"))
    return vae, whitened, pixels


def test_latents_have_mean_0_variance_1_and_no_correlation(vaes):
    _, whitened, pixels = vaes
    means, _ = _posteriors(whitened, pixels, "cpu")
    cells = means.double().movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(cells.mean(0), torch.zeros(3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(cells.T), torch.eye(3).double(), atol=1e-3, rtol=0)


def test_reconstructions_stay_what_they_were(vaes):
    vae, whitened, pixels = vaes
    x = pixels.float() / 127.5 - 1
    with torch.no_grad():
        before, after = (v.decode(v.encode(x).latent_dist.mean).sample for v in (vae, whitened))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1e-9])
def test_a_channel_that_holds_nothing_stays_so(vaes, scale):
    """Neither infinite nor magnified; and reconstructions stay."""
    vae, _, pixels = vaes
    dead = copy.deepcopy(vae)
    with torch.no_grad():
        dead.quant_conv.weight[1] *= scale
    whitened = copy.deepcopy(dead)
    whiten(whitened, *_posteriors(dead, pixels, "cpu"))
    means, log_variances = _posteriors(whitened, pixels, "cpu")
    assert means.isfinite().all() and log_variances.isfinite().all()
    assert means[:, 1].var() < 0.1
    x = pixels.float() / 127.5 - 1
    with torch.no_grad():
        before, after = (v.decode(v.encode(x).latent_dist.mean).sample for v in (dead, whitened))
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-2)


def test_posterior_variances_are_those_of_the_turned_latents(vaes):
    """Against draws: noise of the old posterior, turned as the means are, has the new variances."""
    vae, whitened, pixels = vaes
    (old, old_log), (new, new_log) = (_posteriors(v, pixels, "cpu") for v in (vae, whitened))
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(1))
    moved = old + (old_log / 2).exp() * noise
    # The linear map between the two, from the means themselves.
    cells = torch.cat([old, torch.ones_like(old[:, :1])], 1).movedim(1, -1).reshape(-1, 4)
    turn = torch.linalg.lstsq(cells, new.movedim(1, -1).reshape(-1, 3)).solution
    with_one = torch.cat([moved, torch.ones_like(old[:, :1])], 1).movedim(1, -1)
    spread = (with_one @ turn).movedim(-1, 1) - new
    torch.testing.assert_close(
        new_log.exp().mean((0, 2, 3)), spread.square().mean((0, 2, 3)), rtol=0.1, atol=0
    )
