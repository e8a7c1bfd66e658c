"""Latents to pictures with gradients: the decoder in stages, LD3M's sampler, gradients by parts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from mgd3.diffusion.synthesis import chunk_size, decoding, sampling
from mgd3.generators.loading import load_generator
from mgd3.generators.vae import VAECodec

FAMILIES = ["dit", "ldm", "sd"]
LABELS = torch.tensor([3, 0, 7])


@pytest.fixture
def generator(request):
    folder = request.getfixturevalue(f"{request.param}_folder")
    made = load_generator(folder, prompts=["a tench", "a crane"] * 4)
    made.freeze()
    return made


EACH = pytest.mark.parametrize("generator", FAMILIES, indirect=True)


def latents_of(generator, n=3) -> Tensor:
    return torch.randn(n, *generator.latent_shape, generator=torch.Generator().manual_seed(1))


@EACH
def test_the_stages_together_are_the_decoder(generator):
    latents = latents_of(generator)
    with torch.no_grad():
        pictures = decoding(generator)(latents)
    as_bytes = ((pictures.clamp(-1, 1) + 1) / 2 * 255 + 0.5).to(torch.uint8)
    assert torch.equal(as_bytes, generator.decode(latents))
    # From anywhere: the features that the stages before give.
    x = latents
    for depth, stage in enumerate(generator.stages()):
        with torch.no_grad():
            again = decoding(generator, depth)(x)
            torch.testing.assert_close(again, pictures, rtol=0, atol=1e-5)
            x = stage(x)
    assert len(generator.stages()) == len(generator.codec.vae.decoder.up_blocks) + 2


def test_a_gradient_through_the_decoder_is_that_of_finite_differences(dit_folder):
    codec = copy.deepcopy(load_generator(dit_folder).codec)
    codec.freeze()
    codec.vae.double()
    codec.dtype = torch.float64
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=draws, dtype=torch.float64)
    for depth, stage in enumerate(codec.stages()):
        decode, x = decoding(codec, depth), x.detach().requires_grad_()
        slopes = torch.randn(2, 3, 32, 32, generator=draws, dtype=torch.float64)
        direction = torch.randn(x.shape, generator=draws, dtype=torch.float64)
        (found,) = torch.autograd.grad(decode(x), x, slopes)
        h = 1e-5
        with torch.no_grad():
            ahead, behind = (decode(x + sign * h * direction) for sign in (1, -1))
        expected = ((ahead - behind) * slopes).sum() / (2 * h)
        torch.testing.assert_close((found * direction).sum(), expected, rtol=1e-6, atol=1e-8)
        x = stage(x)


@EACH
def test_a_label_rows_condition_gives_the_prediction_of_the_label(generator):
    x, timestep = latents_of(generator), torch.tensor([20, 500, 999])
    labels = torch.tensor([1, 0, generator.null_label])
    with torch.no_grad():
        expected, _ = generator.predict(x, timestep, labels)
        conditions = generator.conditions(labels)
        found = generator.predict_noise(x, timestep, conditions)
        other = generator.predict_noise(x, timestep, conditions + 0.5)
    assert conditions.dtype == torch.float32 and len(conditions) == 3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (other - expected).abs().max() > 1e-4


class Linear:
    """eps = a x + b . condition: the whole sampler is linear, and its slopes are known by hand."""

    device, dtype = torch.device("cpu"), torch.float32
    steps_offset, null_label, latent_shape = 1, 1, (1, 1, 1)
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-3, 0.02, 1000, dtype=torch.float64), 0)
    a, b = 0.7, 0.3

    def conditions(self, labels: Tensor) -> Tensor:
        return torch.where(labels == self.null_label, -1.0, 2.0)[:, None, None]

    def predict_noise(self, x: Tensor, timestep: Tensor, conditions: Tensor) -> Tensor:
        assert timestep.shape == (len(x),)
        return self.a * x + self.b * conditions.sum((1, 2))[:, None, None, None]


def by_hand(z: float, shift: float, noise: float, steps: int, cfg: float) -> float:
    """The sampler of the docstring in scalars, float64."""
    model, stride = Linear(), 1000 // steps
    abar = model.alphas_cumprod.numpy()[[i * stride + 1 for i in range(steps)]]
    x = np.sqrt(abar[-1]) * z + np.sqrt(1 - abar[-1]) * noise
    for i in range(steps - 1, -1, -1):
        conditional, null = (model.a * x + model.b * c for c in (2.0 + shift, -1.0))
        eps = null + cfg * (conditional - null)
        x0_hat = (x - np.sqrt(1 - abar[i]) * eps) / np.sqrt(abar[i])
        share = i / (steps - 1)
        x0_hat = (1 - share) * x0_hat + share * z
        before = abar[i - 1] if i else 1.0
        x = np.sqrt(before) * x0_hat + np.sqrt(1 - before) * eps
    return x


@pytest.mark.parametrize(("steps", "cfg"), [(2, 1.0), (10, 1.0), (10, 3.0)])
def test_ld3m_is_the_recursion_by_hand_and_so_are_its_gradients(steps, cfg):
    model = Linear()
    walk = sampling(model, lambda x: 0.01 * x, steps, cfg)
    z, shift, noise = 0.8, 0.25, -1.3
    latents, noises = (torch.full((1, 1, 1, 1), value) for value in (z, noise))
    shifts = torch.full((1, 1, 1), shift)
    leaves = [latents.requires_grad_(), shifts.requires_grad_()]
    pictures = walk(*leaves, model.conditions(torch.tensor([0])), noises)
    expected = by_hand(z, shift, noise, steps, cfg)
    assert pictures.item() == pytest.approx(0.01 * expected, rel=1e-4)
    # Linear, so that a difference of any size is the derivative.
    for found, ahead in zip(
        torch.autograd.grad(pictures, leaves),
        (by_hand(z + 1, shift, noise, steps, cfg), by_hand(z, shift + 1, noise, steps, cfg)),
        strict=True,
    ):
        assert found.item() == pytest.approx(0.01 * (ahead - expected), rel=1e-3, abs=1e-7)


def test_ld3m_clamps_its_pictures_where_no_gradient_passes():
    latents = torch.tensor([0.1, 40.0]).view(2, 1, 1, 1).requires_grad_()
    nothing = torch.zeros(2, 1, 1)
    pictures = sampling(Linear(), lambda x: x, 5, 1.0)(
        latents, nothing, nothing, nothing[..., None]
    )
    (slopes,) = torch.autograd.grad(pictures.sum(), latents)
    assert pictures[1].item() == 1 and abs(pictures[0].item()) < 1
    assert slopes[1].item() == 0 and slopes[0].item() != 0


@EACH
def test_ld3m_reaches_latents_and_conditions_of_every_family(generator):
    """Directional differences; the networks compute in float32, so roughly. Without the decoder,
    which in an LDM quantises."""
    walk = sampling(generator, lambda x: 0.02 * x, steps=3, cfg=1.5)
    draws = torch.Generator().manual_seed(3)
    conditions = generator.conditions(torch.tensor([1, 0]))
    leaves = [
        latents_of(generator, 2).requires_grad_(),
        torch.zeros_like(conditions[:, :1]).requires_grad_(),
    ]
    noise = torch.randn(leaves[0].shape, generator=draws)
    pictures = walk(*leaves, conditions, noise)
    slopes = torch.randn(pictures.shape, generator=draws)
    for k, found in enumerate(torch.autograd.grad(pictures, leaves, slopes)):
        direction, h = found / found.norm(), 2e-2

        def moved(by, k=k, direction=direction):
            near = [x.detach() + by * direction if j == k else x for j, x in enumerate(leaves)]
            with torch.no_grad():
                return walk(*near, conditions, noise)

        ahead, behind = moved(h), moved(-h)
        expected = ((ahead - behind) * slopes).double().sum() / (2 * h)
        assert found.norm().item() == pytest.approx(expected.item(), rel=0.05)


def test_what_a_graph_of_stable_diffusions_decoder_holds():
    """1.4 GiB for an image of 256 px; counted on the meta device, without arithmetic."""
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4,
        ).requires_grad_(False)  # fmt: skip
        latents = torch.empty(1, 4, 32, 32, requires_grad=True)
        held = {}

        def keep(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                storage = tensor.untyped_storage()
                held[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            pictures = decoding(VAECodec(vae, "meta"))(latents)
    assert pictures.shape == (1, 3, 256, 256)
    assert 1.3 < sum(held.values()) / 2**30 < 1.5
    assert (chunk_size(256), chunk_size(512), chunk_size(32)) == (4, 1, 256)
