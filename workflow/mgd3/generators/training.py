"""Stages `train-vae` and `train-generator`: small generators from scratch, in diffusers' format."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiTTransformer2DModel
from torch.nn import functional as F
from torchvision.transforms import v2

from ..base import artifacts
from ..base.checkpoint import Checkpoint
from ..base.errors import UserError
from ..base.memory import SplitBackward, halving
from ..base.progress import Progress
from ..base.seeding import Draw, seed_of, torch_generator
from ..base.threads import computed_by
from ..data.images import decode_images, settle_undecodable
from ..data.index import Index
from ..data.registry import Dataset
from .diffusion_loss import BETA_END, BETA_START, TRAIN_TIMESTEPS, HybridLoss
from .latent import why_uncompiled
from .recipes import DitRecipe, Recipe, VaeRecipe
from .registry import VAE_FILES
from .vae import load_vae
from .whitening import whiten

# The small rotations, shifts (share of the side) and scales of the affine copies.
_DEGREES, _SHIFT, _SCALE = 8.0, 0.04, (0.92, 1.08)
# Compiling takes a GPU about a minute, which so many steps win back.
_COMPILED_FROM = 10_000
# The same steps and noise for each of the averages that are compared on the validation split.
_VALIDATION_BATCH = 1024


def _publish(save: Callable[[str], None], folder: Path) -> None:
    """Let diffusers write a folder, then move its files into place, each whole."""
    temporary = artifacts.temporary_beside(folder)
    with artifacts.named_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        artifacts.discard_leftovers(folder)
        try:
            save(str(temporary))
            folder.mkdir(exist_ok=True)
            mode = artifacts.new_file_mode(temporary / ".mode")
            for file in temporary.iterdir():
                file.chmod(mode)
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _images(
    dataset: Dataset, index: Index, split: str = "train"
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [n, 3, size, size] and labels [n] of a split."""
    images, labels = index.split(split)
    index.require_unchanged(dataset.source, images)
    found = decode_images(dataset.source, images, dataset.size)
    whose = f"{split} images of {dataset.name}"
    settle_undecodable(found.errors, dataset.undecodable, whose, len(images))
    label_of = dict(zip(images, labels, strict=True))
    return found.pixels, torch.tensor([label_of[key] for key in found.images])


def _learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return peak * (0.01 + 0.99 * cosine)


def _set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def _batch_rows(n: int, batch: int, draws: torch.Generator) -> torch.Tensor:
    return torch.randint(n, (batch,), generator=draws)


def _require_finite(loss: torch.Tensor, what: str, step: int) -> None:
    if not math.isfinite(loss.item()):
        raise UserError(
            f"{what} training diverged at step {step} (loss {loss.item()})",
            "lower the recipe's learning rate",
        )


def build_vae(recipe: VaeRecipe) -> AutoencoderKL:
    """A small AutoencoderKL with random weights, for RGB images in [-1, 1]."""
    depth = len(recipe.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        scaling_factor=1.0,
        mid_block_add_attention=recipe.attention,
    )


def train_vae(
    dataset: Dataset, index_path: Path, recipe: Recipe, folder: Path, device: str = "cpu"
) -> None:
    """Train a VAE on the train split and write it to `folder`/vae in diffusers' format.

    The loss is the mean squared error plus a small KL term, of images that are mirrored at random
    where the data set allows. Then the latents of the training images are whitened, see `whiten`.

    Raises:
        UserError: unreadable images, or a loss that is not finite.
    """
    settings = recipe.vae
    pixels, _ = _images(dataset, Index.read(index_path))
    torch.manual_seed(seed_of(Draw.INIT_VAE, recipe.seed))
    vae = build_vae(settings).to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    identity = {
        "vae": dataclasses.asdict(settings),
        "seed": recipe.seed,
        "flip": dataset.flip,
        "index": artifacts.sha256_of(index_path),
    }
    side = dataset.size // 2 ** (len(settings.channels) - 1)
    latent = (settings.latent_channels, side, side)
    backward = SplitBackward(vae)
    checkpoint = Checkpoint(folder / ".vae-checkpoint.safetensors", identity)
    modules = {"vae": vae}
    start = checkpoint.restore(modules, optimizer)
    with Progress(settings.steps, f"VAE of {dataset.name}", "steps", start) as bar:
        for step in range(start, settings.steps):
            _set_learning_rate(
                optimizer, _learning_rate(step, settings.steps, settings.learning_rate, 100)
            )
            draws = torch_generator(Draw.TRAIN_VAE, recipe.seed, step)
            batch = pixels[_batch_rows(len(pixels), settings.batch, draws)]
            x = batch.to(device).float() / 127.5 - 1
            noise = torch.randn((len(x), *latent), generator=draws).to(device)
            if dataset.flip:
                mirrored = torch.rand((len(x), 1, 1, 1), generator=draws).to(device) < 0.5
                x = torch.where(mirrored, x.flip(-1), x)
            loss = backward(len(x), partial(_vae_loss, vae, settings.kl_weight, x, noise))
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            bar.update()
            if step % 100 == 0:
                _require_finite(loss, "VAE", step)
                bar.note(loss=f"{loss.item():.4f}")
            checkpoint.save_if_due(step + 1, modules, optimizer)
    vae.eval()
    whiten(vae, *_posteriors(vae, pixels, device))
    _publish(_saved_as(settings.saved_as, vae), folder / "vae")
    checkpoint.remove()


def _vae_loss(
    vae: AutoencoderKL, kl_weight: float, images: torch.Tensor, noise: torch.Tensor, part: slice
) -> torch.Tensor:
    """Mean loss of a part of a batch: images [n, 3, H, W] in [-1, 1], noise [n, C, h, w]."""
    x = images[part]
    posterior = vae.encode(x).latent_dist
    reconstruction = vae.decode(posterior.mean + posterior.std * noise[part]).sample
    mse = F.mse_loss(reconstruction, x)
    return mse + kl_weight * posterior.kl().mean() / posterior.mean[0].numel()


def _saved_as(dtype: str, network: torch.nn.Module) -> Callable[[str], None]:
    # torch's own: diffusers' warns of parts to be kept in float32 also where there are none.
    return torch.nn.Module.to(network, getattr(torch, dtype)).save_pretrained


@torch.no_grad()
def _posteriors(
    vae: AutoencoderKL, pixels: torch.Tensor, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and log-variances [n, C, h, w] as the network gives them, on the CPU."""

    def posterior(part: slice) -> torch.Tensor:
        found = vae.encode(pixels[part].to(device).float() / 127.5 - 1).latent_dist
        return torch.stack([found.mean, found.logvar]).cpu()

    parts = halving(len(pixels), 256, posterior, what="encode one image")
    means, log_variances = torch.cat(list(parts), dim=1)
    return means, log_variances


def _affine_copies(pixels: torch.Tensor, copies: int, seed: int) -> torch.Tensor:
    """The images and `copies` slightly transformed versions of each, uint8."""
    versions = [pixels]
    for copy in range(copies):
        draws = torch_generator(Draw.AFFINE, seed, copy)
        unit = torch.rand((len(pixels), 4), generator=draws) * 2 - 1
        angle = torch.deg2rad(unit[:, 0] * _DEGREES)
        low, high = _SCALE
        # grid_sample maps output to input, so an enlarging scale divides.
        zoom = 1 / (low + (high - low) * (unit[:, 1] + 1) / 2)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        # The grid's unit is half the side.
        shift = unit[:, 2:] * 2 * _SHIFT
        theta = torch.stack(
            [
                torch.stack([cos, -sin, shift[:, 0]], 1),
                torch.stack([sin, cos, shift[:, 1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        moved = F.grid_sample(
            pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        versions.append(moved.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(versions)


def build_dit(recipe: DitRecipe, latent: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """A small DiT with random weights: eps and variance out; row `classes` is the null label.

    Args:
        latent: (channels, height, width) of the latents.
    """
    channels, height, _ = latent
    return DiTTransformer2DModel(
        num_attention_heads=recipe.heads,
        attention_head_dim=recipe.head_dim,
        in_channels=channels,
        out_channels=2 * channels,
        num_layers=recipe.layers,
        sample_size=height,
        patch_size=recipe.patch,
        num_embeds_ada_norm=classes,
    )


def _zero_start(dit: torch.nn.Module) -> None:
    """adaLN-Zero of the DiT paper: every block starts as the identity, the output as zero."""
    for block in dit.transformer_blocks:
        torch.nn.init.zeros_(block.norm1.linear.weight)
        torch.nn.init.zeros_(block.norm1.linear.bias)
    for layer in (dit.proj_out_1, dit.proj_out_2):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Clean latents [n, C, h, w], steps [n], noise of the latents' shape, and shown labels [n]."""

    x0: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def drawn(
        cls,
        x0: torch.Tensor,
        labels: torch.Tensor,
        label_dropout: float,
        null: int,
        draws: torch.Generator,
    ) -> _Batch:
        """Latents with their labels, and drawn steps and noise.

        Steps are stratified: one from each n-th of the schedule, since the loss differs between
        steps more than between images. Which image gets which is chance, as images are.
        """
        n, device = len(x0), x0.device
        strata = (torch.arange(n) + torch.rand(n, generator=draws)) * (TRAIN_TIMESTEPS / n)
        noise = torch.randn(x0.shape, generator=draws)
        dropped = torch.rand(n, generator=draws) < label_dropout
        return cls(
            x0,
            # A float32 sum can round up to the end of the last stratum.
            strata.long().clamp(max=TRAIN_TIMESTEPS - 1).to(device),
            noise.to(device),
            labels.masked_fill(dropped.to(device), null),
        )


def _dit_loss(
    dit: torch.nn.Module, loss_of: HybridLoss, precision: str, batch: _Batch, part: slice
) -> torch.Tensor:
    """Mean loss of a part of a batch."""
    x0, t, noise = batch.x0[part], batch.t[part], batch.noise[part]
    x_t = loss_of.add_noise(x0, t, noise)
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        output = dit(x_t, timestep=t, class_labels=batch.labels[part]).sample
    return loss_of(output.float(), x0, x_t, t, noise)


def train_generator(
    dataset: Dataset,
    index_path: Path,
    recipe: Recipe,
    vae_folder: Path,
    folder: Path,
    device: str = "cpu",
) -> None:
    """Train a class-conditional DiT on the latents of a VAE, `vae_folder`/vae.

    `folder` becomes a pipeline folder of diffusers (model_index.json, scheduler/, transformer/, and
    the VAE's files in vae/). model_index.json names the class of each label row (`id2label`).

    Raises:
        UserError: unreadable images, several averages and no validation images to compare them
            on, or a loss that is not finite.
    """
    settings = recipe.dit
    index = Index.read(index_path)
    vae = load_vae(vae_folder, device=device).vae
    latents, labels = _latents(vae, dataset, index, recipe, "train", device)
    compared = len(settings.ema) > 1
    held_out = _latents(vae, dataset, index, recipe, "validation", device) if compared else None

    classes = len(index.classes)
    torch.manual_seed(seed_of(Draw.INIT_GENERATOR, recipe.seed))
    dit = build_dit(settings, tuple(latents.shape[1:]), classes).to(device)
    _zero_start(dit)
    # In train mode each block of diffusers' DiT would drop labels on its own; we drop them once.
    dit.eval()
    weights = list(dit.parameters())
    averages = {
        decay: torch.nn.ParameterList(p.detach().clone() for p in weights) for decay in settings.ema
    }
    optimizer = torch.optim.AdamW(dit.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    identity = {
        "dit": dataclasses.asdict(settings),
        "seed": recipe.seed,
        "index": artifacts.sha256_of(index_path),
        "vae": artifacts.sha256_of(vae_folder / VAE_FILES[1]),
    }
    checkpoint = Checkpoint(folder / ".dit-checkpoint.safetensors", identity)
    modules = {"dit": dit, **{f"average-{decay}": held for decay, held in averages.items()}}
    start = checkpoint.restore(modules, optimizer)
    if device != "cpu" and settings.steps - start >= _COMPILED_FROM:
        if why := why_uncompiled(torch.device(device)):
            print(f"trains without compiling the network: {why}", file=sys.stderr, flush=True)
        else:
            dit.compile()
    backward = SplitBackward(dit)
    loss_of = HybridLoss(torch.device(device), settings.min_snr)
    with Progress(settings.steps, f"DiT of {dataset.name}", "steps", start) as bar:
        for step in range(start, settings.steps):
            _set_learning_rate(
                optimizer,
                _learning_rate(step, settings.steps, settings.learning_rate, settings.warmup),
            )
            draws = torch_generator(Draw.TRAIN_GENERATOR, recipe.seed, step)
            rows = _batch_rows(len(latents), settings.batch, draws).to(device)
            batch = _Batch.drawn(
                latents[rows], labels[rows], settings.label_dropout, classes, draws
            )
            loss = backward(
                settings.batch, partial(_dit_loss, dit, loss_of, settings.precision, batch)
            )
            torch.nn.utils.clip_grad_norm_(dit.parameters(), 1.0)
            optimizer.step()
            for decay, average in averages.items():
                _average(average, weights, decay, step)
            bar.update()
            if step % 100 == 0:
                _require_finite(loss, "generator", step)
                bar.note(loss=f"{loss.item():.4f}")
            checkpoint.save_if_due(step + 1, modules, optimizer)
    losses = {}
    if held_out is not None:
        for decay, average in averages.items():
            _put(average, weights)
            losses[decay] = _validation_loss(dit, loss_of, *held_out, settings, recipe.seed)
    best = min(averages, key=lambda decay: losses.get(decay, 0.0))
    _put(averages[best], weights)
    _publish(_saved_as(settings.saved_as, dit), folder / "transformer")
    _publish(dit_scheduler().save_pretrained, folder / "scheduler")
    copy_vae(vae_folder, folder)
    artifacts.save_json(folder / "model_index.json", _model_index(index.classes))
    artifacts.save_json(
        folder / "training.json",
        {
            "dataset": dataset.name,
            "images": len(index.split("train")[0]),
            "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
            "final_loss": round(loss.item(), 5) if start < settings.steps else None,
            "ema": best,
            "validation_loss": {str(decay): loss for decay, loss in losses.items()},
            **computed_by(),
        },
    )
    checkpoint.remove()
    print(f"generator written to {folder}", file=sys.stderr)


def copy_vae(source: Path, folder: Path) -> None:
    """The VAE of one pipeline folder into another, file by file."""
    for file in VAE_FILES:
        if (source / file).absolute() != (folder / file).absolute():
            with artifacts.atomic(folder / file) as temporary:
                shutil.copyfile(source / file, temporary)


def _latents(
    vae: AutoencoderKL, dataset: Dataset, index: Index, recipe: Recipe, split: str, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [n, C, h, w] and labels [n] of a split, on the device; of the train split also those
    of its mirrored and slightly moved copies.

    Raises:
        UserError: unreadable images, or a split without any.
    """
    pixels, labels = _images(dataset, index, split)
    if not len(pixels):
        raise UserError(
            f"{dataset.name} has no {split} images, on which the averages of this recipe are "
            "compared",
            "set the data set's validation_fraction above 0",
        )
    if split == "train":
        flips = v2.functional.horizontal_flip(pixels) if dataset.flip else pixels[:0]
        copies = recipe.dit.affine_copies
        pixels = _affine_copies(torch.cat([pixels, flips]), copies, recipe.seed)
        labels = labels.repeat(len(pixels) // len(labels))
    means, _ = _posteriors(vae, pixels, device)
    scaled = (means - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    return scaled.to(device), labels.to(device)


@torch.no_grad()
def _average(
    average: torch.nn.ParameterList, weights: list[torch.nn.Parameter], decay: float, step: int
) -> None:
    """Let the average follow the weights. Early on it forgets faster, else it would hold on to
    the random weights that training began with."""
    kept = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average), weights, 1 - kept)


@torch.no_grad()
def _put(values: torch.nn.ParameterList, weights: list[torch.nn.Parameter]) -> None:
    torch._foreach_copy_(weights, list(values))


@torch.no_grad()
def _validation_loss(
    dit: torch.nn.Module,
    loss_of: HybridLoss,
    latents: torch.Tensor,
    labels: torch.Tensor,
    settings: DitRecipe,
    seed: int,
) -> float:
    """The training loss on held-out latents [n, C, h, w], with steps and noise of their own."""
    total = 0.0
    for number, first in enumerate(range(0, len(latents), _VALIDATION_BATCH)):
        rows = slice(first, first + _VALIDATION_BATCH)
        draws = torch_generator(Draw.VALIDATE_GENERATOR, seed, number)
        batch = _Batch.drawn(latents[rows], labels[rows], 0.0, 0, draws)
        whole = slice(0, len(batch.x0))
        with torch.compiler.set_stance("force_eager"):  # few batches, of another length at the end
            loss = _dit_loss(dit, loss_of, settings.precision, batch, whole)
        total += loss.item() * len(batch.x0) / len(latents)
    return round(total, 6)


def dit_scheduler() -> DDPMScheduler:
    """The scheduler that walks the respaced grid of the original DiT (linspace, learned range)."""
    return DDPMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="linear",
        variance_type="learned_range",
        timestep_spacing="linspace",
        clip_sample=False,
    )


def _model_index(classes: list[str]) -> dict[str, object]:
    import diffusers

    return {
        "_class_name": "DiTPipeline",
        "_diffusers_version": diffusers.__version__,
        "id2label": {str(row): name for row, name in enumerate(classes)},
        "scheduler": ["diffusers", "DDPMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
