"""Stage `finetune-generator`: a DiT goes on training on the data set at hand.

The result is a pipeline folder like any other.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from ..base import artifacts
from ..base.checkpoint import Checkpoint, Unfinished
from ..base.errors import UserError
from ..base.identity import slug_in
from ..base.progress import Progress
from ..base.seeding import Draw, torch_generator
from ..base.threads import computed_by
from ..data.imagenet import imagenet_wnids
from ..data.images import decode_images, settle_undecodable
from ..data.index import Index
from ..data.registry import Dataset
from .difffit import add_scales, fold_scales, is_trained
from .diffusion_loss import HybridLoss
from .dit import DiTGenerator, origin_of
from .folder import vae_files, weight_files
from .minmax import MinMaxLoss
from .pretrained import training_alphas_cumprod
from .recipes import FinetuneRecipe
from .registry import VAE_FILES
from .training import TRAIN_TIMESTEPS, _publish, _require_finite, copy_vae, dit_scheduler

_CHUNK = 256
# Of the whole DiT-XL/2 a checkpoint has 11 GB: weights, average and two moments.
CHECKPOINT_SECONDS = {"difffit": 60.0, "all": 900.0}

# What a further loss is given: clean latents [n, C, h, w] of the step's images, the network's
# prediction of them from its noise output, and the images' labels (positions in the data set's
# classes, before label dropout), int64 [n]. It returns a scalar that is added to DiT's own loss.
# Its buffers (a memory of past latents, say) are part of the checkpoint.
ExtraLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def finetune(
    dataset: Dataset,
    index_path: Path,
    base: Path,
    recipe: FinetuneRecipe,
    folder: Path,
    device: str = "cpu",
    extra: nn.Module | None = None,
) -> None:
    """Fine-tune the DiT in the folder `base` on the train split; write a pipeline to `folder`.

    Its label table has one row for each class of the data set, in label order, and the null row.
    A row starts as the base's row of that class (by name, or by its wnid in a generator of
    ImageNet's 1000 classes); that of a class the base does not know, as the mean of its rows.

    Images enter mirrored with probability 1/2 where the data set allows it, as a draw from the
    VAE's posterior. Every draw of step i comes from the seed of step i, and a killed run goes on
    where it was, to the same weights.

    Args:
        extra: an `ExtraLoss` as a module, on `device`, in place of the recipe's.

    Raises:
        UserError: the base is no DiT trained on DiT's noise schedule, unreadable images, fewer
            images than one batch, or a loss that is not finite.
    """
    index = Index.read(index_path)
    generator = DiTGenerator.load(base, device=device)
    _require_schedule(generator, base)
    identity = {
        "finetune": dataclasses.asdict(recipe),
        "extra": repr(extra) if extra is not None else None,
        "index": artifacts.sha256_of(index_path),
        "base": _weights_of(base, "transformer"),
        "vae": _weights_of(base, "vae"),
    }
    latents = _cached_latents(dataset, index, generator, folder, identity)
    rows = base_rows(base, dataset, index.classes)
    origin = origin_of(base, generator.transformer.config)
    dit = with_label_rows(generator.transformer, rows)
    if recipe.minmax is not None and extra is None:
        size = math.prod(latents.mean.shape[2:])
        extra = MinMaxLoss(recipe.minmax, len(index.classes), size).to(device)
    result = _train(dit, latents, recipe, folder, device, identity, extra, dataset.flip)
    _publish(dit.save_pretrained, folder / "transformer")
    _publish(dit_scheduler().save_pretrained, folder / "scheduler")
    if vae_files(base) == VAE_FILES:
        copy_vae(base, folder)
    else:  # of several files one, as of every generator that is made here
        _publish(generator.codec.vae.save_pretrained, folder / "vae")
    model_index = artifacts.load_json(base / "model_index.json", {"id2label?": dict})
    model_index["id2label"] = {str(row): name for row, name in enumerate(index.classes)}
    artifacts.save_json(folder / "model_index.json", {**model_index, "origin": origin})
    artifacts.save_json(
        folder / "training.json",
        {
            "dataset": dataset.name,
            "images": len(latents.labels),
            "base": slug_in(base.name),
            "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
            "new_classes": [name for name, row in rows.items() if row is None],
            **result,
            **computed_by(),
        },
    )
    for file in (".checkpoint.safetensors", ".latents.safetensors"):
        (folder / file).unlink(missing_ok=True)
    print(f"generator written to {folder}", file=sys.stderr)


def _weights_of(base: Path, part: str) -> list[str]:
    """SHA-256 of each file that holds weights of a part."""
    return [artifacts.sha256_of(base / part / file) for file in weight_files(base / part, part)]


def _require_schedule(generator: DiTGenerator, base: Path) -> None:
    network = generator.transformer.config
    expected = training_alphas_cumprod(dit_scheduler().config)
    same = len(generator.alphas_cumprod) == len(expected) and torch.allclose(
        generator.alphas_cumprod, expected
    )
    if not same or network.out_channels != 2 * network.in_channels:
        raise UserError(
            f"{base} was not trained with DiT's noise schedule and learned variance",
            "only such a DiT can be fine-tuned here",
        )


def base_rows(base: Path, dataset: Dataset, classes: Sequence[str]) -> dict[str, int | None]:
    """The label row of the base for each class, None for a class it does not know."""
    index = artifacts.load_json(base / "model_index.json", {"id2label?": dict})
    count = artifacts.load_json(base / "transformer" / "config.json", {"num_embeds_ada_norm": int})[
        "num_embeds_ada_norm"
    ]
    known = {name: int(row) for row, name in (index.get("id2label") or {}).items()}
    wnids = {wnid: row for row, wnid in enumerate(imagenet_wnids())}
    if count != len(wnids):
        wnids = {}

    def row(name: str) -> int | None:
        meaning = dataset.meanings.get(name)
        return known.get(name, wnids.get(meaning.wnid) if meaning and meaning.wnid else None)

    return {name: row(name) for name in classes}


@torch.no_grad()
def with_label_rows(
    dit: DiTTransformer2DModel, rows: dict[str, int | None]
) -> DiTTransformer2DModel:
    """Give a DiT a label table of `rows` (and its own null row), in place.

    A row that is None starts as the mean of the rows of the old table.
    """
    null = dit.config.num_embeds_ada_norm
    for block in dit.transformer_blocks:
        embedder = block.norm1.emb.class_embedder
        old = embedder.embedding_table.weight
        mean = old[:null].mean(0)
        new = torch.stack([mean if row is None else old[row] for row in (*rows.values(), null)])
        table = nn.Embedding(len(new), new.shape[1], device=old.device, dtype=old.dtype)
        table.weight.copy_(new)
        embedder.embedding_table, embedder.num_classes = table, len(rows)
    dit.register_to_config(num_embeds_ada_norm=len(rows))
    return dit


@dataclasses.dataclass(frozen=True)
class Latents:
    """Posteriors of the train images, scaled: mean and log-variance [n, 2, C, h, w], labels [n].

    The second axis is the image and its mirror image, where the data set allows mirroring.
    """

    mean: Tensor
    logvar: Tensor
    labels: Tensor


def _cached_latents(
    dataset: Dataset,
    index: Index,
    generator: DiTGenerator,
    folder: Path,
    identity: dict[str, object],
) -> Latents:
    """Encoded once, in float16; kept beside the checkpoint until the training is done."""
    what = {"index": identity["index"], "vae": identity["vae"], "flip": dataset.flip}
    unfinished = Unfinished(folder / ".latents.safetensors", what)
    if (state := unfinished.load()) is not None:
        return Latents(**state.tensors)
    images, labels = index.split("train")
    index.require_unchanged(dataset.source, images)
    means, logvars, kept, errors = [], [], [], []
    label_of = dict(zip(images, labels, strict=True))
    for start in range(0, len(images), _CHUNK):
        found = decode_images(dataset.source, images[start : start + _CHUNK], generator.image_size)
        pixels = found.pixels
        errors += found.errors
        kept += [label_of[image] for image in found.images]
        sides = [pixels, pixels.flip(-1)] if dataset.flip else [pixels]
        encoded = [generator.encode(side) for side in sides]
        means.append(torch.stack([mean for mean, _ in encoded], 1).half().cpu())
        logvars.append(torch.stack([logvar for _, logvar in encoded], 1).half().cpu())
        print(f"{min(start + _CHUNK, len(images))}/{len(images)} images encoded", file=sys.stderr)
    whose = f"training images of {dataset.name}"
    settle_undecodable(errors, dataset.undecodable, whose, len(images))
    held = Latents(torch.cat(means), torch.cat(logvars), torch.tensor(kept))
    # In float16 a log-variance below -65504 cannot occur: diffusers clamps it at -30.
    unfinished.save(vars(held), {})
    return held


def _train(
    dit: DiTTransformer2DModel,
    latents: Latents,
    recipe: FinetuneRecipe,
    folder: Path,
    device: str,
    identity: dict[str, object],
    extra: nn.Module | None,
    flip: bool,
) -> dict[str, object]:
    """Train `dit` in place and leave the averaged weights in it."""
    per_epoch = len(latents.labels) // recipe.batch
    if per_epoch == 0:
        raise UserError(
            f"{len(latents.labels)} training images do not fill a batch of {recipe.batch}",
            "lower the recipe's batch",
        )
    steps = recipe.epochs * per_epoch
    if recipe.max_steps_per_class is not None:
        steps = min(steps, recipe.max_steps_per_class * dit.config.num_embeds_ada_norm)
    shared = _share_embedders(dit)
    trained = _trainable(dit, recipe)
    average = nn.ParameterList(
        [nn.Parameter(p.detach().clone(), requires_grad=False) for p in trained.values()]
    )
    if recipe.checkpointing:
        dit.enable_gradient_checkpointing()
    # In train mode each block of diffusers' DiT would drop labels on its own; we drop them once.
    dit.eval()
    optimizer = torch.optim.AdamW(
        trained.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    modules = {"trained": nn.ParameterList(trained.values()), "average": average}
    modules |= {"extra": extra} if extra is not None else {}
    every = CHECKPOINT_SECONDS[recipe.parameters]
    checkpoint = Checkpoint(folder / ".checkpoint.safetensors", identity, every)
    start = checkpoint.restore(modules, optimizer)
    loss_of = HybridLoss(torch.device(device))
    epoch, order = -1, torch.empty(0, dtype=torch.int64)
    loss = torch.zeros((), device=device)
    with Progress(steps, f"Fine-tuning, {recipe.parameters}", "steps", start) as bar:
        for step in range(start, steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                shuffle = torch_generator(Draw.FINETUNE_ORDER, recipe.seed, epoch)
                order = torch.randperm(len(latents.labels), generator=shuffle)
            first = step % per_epoch * recipe.batch
            batch = _draw(latents, order[first : first + recipe.batch], recipe, step, flip)
            loss = _accumulate(dit, loss_of, batch, recipe, device, extra)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch._foreach_lerp_(list(average), list(trained.values()), 1 - recipe.ema)
            bar.update()
            if step % 100 == 0:
                _require_finite(loss, "fine-tuning", step)
                bar.note(loss=f"{loss.item():.4f}")
            checkpoint.save_if_due(step + 1, modules, optimizer)
    with torch.no_grad():
        for parameter, mean in zip(trained.values(), average, strict=True):
            parameter.copy_(mean)
    fold_scales(dit)
    _unshare_embedders(dit, shared)
    dit.requires_grad_(False)
    count = sum(p.numel() for p in trained.values())
    return {
        "steps": steps,
        "trained_parameters": count,
        "final_loss": round(loss.item(), 5) if start < steps else None,
    }


def _trainable(dit: DiTTransformer2DModel, recipe: FinetuneRecipe) -> dict[str, nn.Parameter]:
    if recipe.parameters == "difffit":
        add_scales(dit)
    trained = {
        name: parameter
        for name, parameter in dit.named_parameters()  # each once, also where blocks share it
        if recipe.parameters == "all" or is_trained(name)
    }
    for parameter in trained.values():
        parameter.requires_grad_(True)
    return trained


def _share_embedders(dit: DiTTransformer2DModel) -> bool:
    """Let all blocks use one time and label embedding, as the original DiT does.

    diffusers holds a copy in each block. Where the copies are equal, which they are in weights of
    the original, they were one network and have to stay one.
    """
    embedders = [block.norm1.emb for block in dit.transformer_blocks]
    first = embedders[0].state_dict()
    equal = all(
        torch.equal(tensor, first[name])
        for embedder in embedders[1:]
        for name, tensor in embedder.state_dict().items()
    )
    if equal:
        for block in dit.transformer_blocks:
            block.norm1.emb = embedders[0]
    return equal


def _unshare_embedders(dit: DiTTransformer2DModel, shared: bool) -> None:
    if not shared:
        return
    import copy

    for block in dit.transformer_blocks[1:]:
        block.norm1.emb = copy.deepcopy(block.norm1.emb)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """What one step is computed from, on the CPU."""

    x0: Tensor
    labels: Tensor
    dropped: Tensor
    t: Tensor
    noise: Tensor


def _draw(
    latents: Latents, images: Tensor, recipe: FinetuneRecipe, step: int, flip: bool
) -> _Batch:
    draws = torch_generator(Draw.FINETUNE, recipe.seed, step)
    n = len(images)
    side = torch.randint(2, (n,), generator=draws) * int(flip)
    mean, logvar = (tensor[images, side].float() for tensor in (latents.mean, latents.logvar))
    x0 = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=draws)
    return _Batch(
        x0=x0,
        labels=latents.labels[images],
        dropped=torch.rand(n, generator=draws) < recipe.label_dropout,
        t=torch.randint(TRAIN_TIMESTEPS, (n,), generator=draws),
        noise=torch.randn(x0.shape, generator=draws),
    )


def _accumulate(
    dit: DiTTransformer2DModel,
    loss_of: HybridLoss,
    batch: _Batch,
    recipe: FinetuneRecipe,
    device: str,
    extra: nn.Module | None,
) -> Tensor:
    """Add the batch's gradients, part by part; the mean loss."""
    n = len(batch.labels)
    null = dit.config.num_embeds_ada_norm
    size = math.ceil(n / recipe.accumulate)
    total = torch.zeros((), device=device)
    for start in range(0, n, size):
        part = slice(start, start + size)
        x0, labels, dropped, t, noise = (
            getattr(batch, f.name)[part].to(device) for f in dataclasses.fields(batch)
        )
        x_t = loss_of.add_noise(x0, t, noise)
        with torch.autocast(
            torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
        ):
            output = dit(x_t, timestep=t, class_labels=labels.masked_fill(dropped, null)).sample
        output = output.float()
        loss = loss_of(output, x0, x_t, t, noise)
        if extra is not None:
            loss = loss + extra(x0, loss_of.clean(x_t, t, output.chunk(2, dim=1)[0]), labels)
        loss = loss * (len(labels) / n)
        loss.backward()
        total += loss.detach()
    return total
