"""Peak memory of the paper's generators, counted from shapes: networks on torch's meta device do
everything but compute. Every stage of the ImageNette preset has to fit a 24 GB card."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel, VQModel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgd3.diffusion.sampling import batch_by_memory
from mgd3.generators.convert_ldm import CIN256_V2, _configurations
from mgd3.generators.vae import _CHUNK_PIXELS

GIB = 2**30
LIMIT = 22 * GIB
# A 24 GB card: what CUDA's context and the driver leave of it.
FREE = 23 * GIB


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.hold(leaf)
        return out


class FusedAttention(TorchFunctionMode):
    """Attention as CUDA's fused kernels do it, which never hold the matrix of weights. They take
    heads of up to 256 channels; the meta device takes the plain way for any."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            query, _, value = args
            assert query.shape[-1] <= 256
            return torch.empty_like(query[..., : value.shape[-1]])
        return function(*args, **(kwargs or {}))


@contextmanager
def counted(network: torch.nn.Module, *inputs: torch.Tensor) -> Iterator[LiveBytes]:
    counter = LiveBytes()
    for tensor in (*network.parameters(), *network.buffers(), *inputs):
        counter.hold(tensor)
    with torch.no_grad(), counter:
        yield counter


def on_meta(make: Callable[[], torch.nn.Module], dtype: torch.dtype) -> torch.nn.Module:
    with torch.device("meta"):
        torch.set_default_dtype(dtype)
        try:
            return make().eval()
        finally:
            torch.set_default_dtype(torch.float32)


def dit_xl_2() -> torch.nn.Module:
    return DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )


def sd_vae() -> torch.nn.Module:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )


def sd_unet() -> torch.nn.Module:
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


def ldm_unet() -> torch.nn.Module:
    return UNet2DConditionModel(**_configurations(CIN256_V2)[0])


def ldm_vae() -> torch.nn.Module:
    return VQModel(**_configurations(CIN256_V2)[1])


def network_peak(make: Callable, dtype: torch.dtype, batch: int, context: int | None) -> int:
    """Of one step with classifier-free guidance: both halves of the batch. Stable Diffusion's
    attention is fused, whose plain form would hold 0.5 GB an image."""
    network = on_meta(make, dtype)
    channels, side = network.config.in_channels, network.config.sample_size
    x = torch.empty(2 * batch, channels, side, side, dtype=dtype, device="meta")
    t = torch.zeros(2 * batch, dtype=torch.int64, device="meta")
    attention = FusedAttention() if context == 768 else nullcontext()
    with attention, counted(network, x) as counter:
        if context is None:
            network(x, timestep=t, class_labels=t)
        else:
            tokens = 77 if context == 768 else 1
            states = torch.empty(2 * batch, tokens, context, dtype=dtype, device="meta")
            network(x, t, encoder_hidden_states=states)
    return counter.peak


def codec_peak(make: Callable, dtype: torch.dtype, size: int, decode: bool) -> int:
    """Of one chunk of images through the VAE."""
    vae = on_meta(make, dtype)
    n, factor = max(1, _CHUNK_PIXELS // size**2), 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (n, vae.config.latent_channels, size // factor, size // factor)
    x = torch.empty(shape if decode else (n, 3, size, size), dtype=dtype, device="meta")
    with counted(vae, x) as counter:
        vae.decode(x) if decode else vae.encode(x)
    return counter.peak


def test_the_counter_counts_what_is_alive_at_once():
    linear = torch.nn.Linear(100, 1000, bias=False, device="meta")
    x = torch.empty(10, 100, device="meta")
    with counted(linear, x) as counter:
        first = linear(x)
        del first
        second = linear(x)
        third = second + 1
    assert third.shape == (10, 1000)
    assert counter.peak == 4 * (100 * 1000 + 10 * 100 + 2 * 10 * 1000)
    assert counter.now == counter.peak


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("make", "side", "context"),
    [(dit_xl_2, 32, None), (ldm_unet, 64, 512), (sd_unet, 64, 768)],
    ids=["dit", "ldm", "sd"],
)
def test_sampling_in_automatic_batches_fits_a_24_gb_card(make, side, context, dtype):
    weights = sum(p.numel() for p in on_meta(make, dtype).parameters()) * dtype.itemsize
    batch = batch_by_memory(FREE - weights, (4, side, side), dtype)
    peak = network_peak(make, dtype, batch, context)
    print(f"batch {batch}: {peak / GIB:.1f} GiB, of which weights {weights / GIB:.1f}")
    assert batch >= 4
    assert peak < LIMIT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("decode", [False, True], ids=["encode", "decode"])
@pytest.mark.parametrize(("make", "size"), [(sd_vae, 256), (sd_vae, 512), (ldm_vae, 256)])
def test_the_vae_fits_a_24_gb_card_beside_the_network(make, size, decode, dtype):
    peak = codec_peak(make, dtype, size, decode)
    print(f"{peak / GIB:.1f} GiB")
    # While images are decoded, the diffusion network's weights are there, too: 3.4 GB at most.
    assert peak < LIMIT - 3.4e9
