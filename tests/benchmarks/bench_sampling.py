"""Mode-guided sampling against the usual one: an image at a time in float32, a PNG for each.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_sampling.py

Both arms have the same random-weight network, noise, modes and steps, decode and save, and make the
same images: the largest difference is printed. The plain arm is a loop as published samplers have
it: batch 1 (2 with classifier-free guidance), coefficients looked up on the host and sent to the
device at each step. It has `no_grad`, the same attention and the same threads. The limit is the
counted operations at the fastest rate of such products here, in the same dtype.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from PIL import Image
from timing import Row, arguments, fastest, flops, interleaved, one_thread, report
from torch import nn

from mgd3.base import artifacts
from mgd3.base.device import keep_freed_memory
from mgd3.base.seeding import torch_generator
from mgd3.diffusion.sampling import Item, SamplingSettings, sample
from mgd3.diffusion.schedules import respaced
from mgd3.generators.dit import DiTGenerator
from mgd3.generators.vae import VAECodec

SCHEDULER = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


@dataclass(frozen=True)
class Size:
    """A DiT on latents 4 x side x side, and its VAE's channels, one halving between two."""

    layers: int
    heads: int
    head_dim: int
    side: int
    vae: tuple[int, ...]
    vae_layers: int = 1
    classes: int = 10


# `mid` has XL/2's tokens, and decoding the same small share of its operations.
SIZES = {
    "tiny": Size(2, 2, 16, 8, (8, 8, 8)),
    "mid": Size(6, 6, 64, 32, (16, 16, 32, 32)),
    "xl": Size(28, 16, 72, 32, (128, 256, 512, 512), vae_layers=2, classes=1000),
}


def make_vae(size: Size) -> AutoencoderKL:
    levels = len(size.vae)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.vae,
        layers_per_block=size.vae_layers,
        latent_channels=4,
        norm_num_groups=min(32, size.vae[0] // 2),
    )


def make_dit(size: Size) -> DiTTransformer2DModel:
    return DiTTransformer2DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.head_dim,
        in_channels=4,
        out_channels=8,
        num_layers=size.layers,
        sample_size=size.side,
        patch_size=2,
        num_embeds_ada_norm=size.classes,
    )


def make_generator(
    size: Size, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> DiTGenerator:
    """Random weights, drawn on the device; the same in each dtype, to its rounding."""
    torch.manual_seed(0)
    with torch.device(device):
        dit, vae = make_dit(size), make_vae(size)
    for part in (dit, vae):
        # diffusers' own `to` warns of nothing.
        nn.Module.to(part, device=device, dtype=dtype)
        part.eval().requires_grad_(False)
    return DiTGenerator(dit, VAECodec(vae), SCHEDULER)


def make_items(generator: DiTGenerator, count: int) -> list[Item]:
    draws = torch.Generator().manual_seed(1)
    classes = [k % generator.null_label for k in range(count)]
    modes = torch.randn(count, *generator.latent_shape, generator=draws)
    return [Item(f"class {c}", c, modes[k], k) for k, c in enumerate(classes)]


@torch.no_grad()
def plain(
    generator: DiTGenerator, items: list[Item], settings: SamplingSettings, folder: Path
) -> list[np.ndarray]:
    """Image after image; uint8 [H, W, 3] each, written as PNG."""
    device, network, vae = generator.device, generator.transformer, generator.codec.vae
    dtype = network.dtype
    schedule = respaced(generator.alphas_cumprod, settings.steps)
    abar = schedule.alphas_cumprod.numpy()
    before = np.append(1.0, abar[:-1])
    beta = 1 - abar / before
    posterior = beta * (1 - before) / (1 - abar)
    tables = {
        "from_x": np.sqrt(1 / abar),
        "from_eps": np.sqrt(1 / abar - 1),
        "mean_x0": beta * np.sqrt(before) / (1 - abar),
        "mean_x": (1 - before) * np.sqrt(1 - beta) / (1 - abar),
        "least": np.log(np.append(posterior[1], posterior[1:])),
        "most": np.log(beta),
    }
    pictures = []
    for item in items:
        rng = torch_generator("noise", 0, item.class_key, item.k)
        shape = (1, *generator.latent_shape)
        x = torch.randn(shape, generator=rng).to(device)
        mode = item.mode[None].to(device)
        labels = torch.tensor([item.label, generator.null_label], device=device)
        for i in reversed(range(settings.steps)):
            c = {name: torch.from_numpy(values).to(device)[i].float()
                 for name, values in tables.items()}  # fmt: skip
            t = torch.tensor([int(schedule.timesteps[i])] * 2, device=device)
            both = torch.cat([x, x]).to(dtype)
            output = network(both, timestep=t, class_labels=labels).sample.float()
            eps, v = output.chunk(2, dim=1)
            wanted, null = eps[:1, :3], eps[1:, :3]
            eps = torch.cat([null + settings.cfg * (wanted - null), eps[:1, 3:]], dim=1)
            x0 = c["from_x"] * x - c["from_eps"] * eps
            share = (v[:1] + 1) / 2
            sigma = torch.exp(0.5 * (share * c["most"] + (1 - share) * c["least"]))
            x = c["mean_x0"] * x0 + c["mean_x"] * x
            if i > settings.t_sg:
                x = x + settings.lambda_ * sigma * (mode - x0)
            if i > 0:
                x = x + sigma * torch.randn(shape, generator=rng).to(device)
        decoded = vae.decode((x / vae.config.scaling_factor).to(dtype)).sample.float()
        grey = ((decoded.clamp(-1, 1) + 1) / 2 * 255 + 0.5).to(torch.uint8)
        pictures.append(grey[0].permute(1, 2, 0).cpu().numpy())
        Image.fromarray(pictures[-1]).save(folder / f"{item.class_key}_{item.k}.png")
    return pictures


def ours(
    generator: DiTGenerator,
    items: list[Item],
    settings: SamplingSettings,
    folder: Path,
    batch: int | str = "auto",
) -> torch.Tensor:
    """All images in batches; uint8 [n, 3, H, W], written as one file."""
    images = torch.empty(len(items), 3, generator.image_size, generator.image_size,
                         dtype=torch.uint8)  # fmt: skip
    for made in sample(generator, items, settings, generation_seed=0, batch=batch):
        images[made.indices] = made.images
    artifacts.save_tensors(folder / "images.safetensors", {"images": images}, {})
    return images


def operations(generator: DiTGenerator, steps: int) -> int:
    """Of one image with classifier-free guidance, decoded."""
    x = torch.zeros(2, *generator.latent_shape, device=generator.device)
    labels = torch.zeros(2, dtype=torch.int64, device=generator.device)
    with torch.no_grad():
        step = flops(lambda: generator.predict(x, labels, labels))
        return steps * step + flops(lambda: generator.decode(x[:1]))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean difference of pixels, in grey levels."""
    return (a.float() - b.float()).abs().mean().item()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--size", choices=SIZES, default="mid")
    options = parser.parse_args()
    settings = SamplingSettings(steps=options.steps, t_sg=options.steps // 2)
    exact, rounded = (make_generator(SIZES[options.size], dtype)
                      for dtype in (torch.float32, torch.bfloat16))  # fmt: skip
    items = make_items(exact, options.images)
    keep_freed_memory()
    with one_thread(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        usual = plain(exact, items, settings, folder)
        pictures = torch.from_numpy(np.stack(usual)).permute(0, 3, 1, 2)
        full, half = (ours(generator, items, settings, folder) for generator in (exact, rounded))
        taken = interleaved(
            {
                "plain": lambda: plain(exact, items, settings, folder),
                "float32": lambda: ours(exact, items, settings, folder),
                "bfloat16": lambda: ours(rounded, items, settings, folder),
            },
            options.repeats,
            warm_up=False,
        )
        counted = options.images * operations(exact, options.steps)
        rows = [
            Row(
                f"synthesis in {dtype}, {options.images} images of {options.steps} steps",
                taken["plain"],
                taken[dtype],
                gate,
                counted / fastest(getattr(torch, dtype)),
                f"{dtype} products",
                f"{distance(images, pictures):.2g} grey levels from the plain images",
            )
            for dtype, gate, images in (("float32", 1.0, full), ("bfloat16", 1.4, half))
        ]
    report(options, rows)


if __name__ == "__main__":
    main()
