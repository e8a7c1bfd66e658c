"""Stage `train-teacher`: a classifier of real images, from scratch."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..base.artifacts import load_tensors, sha256_of, tensor_metadata
from ..base.checkpoint import Checkpoint
from ..base.errors import UserError
from ..base.seeding import Draw, seed_of, torch_generator
from ..base.threads import computed_by
from ..networks.architectures import create_network
from ..networks.augment import normalise
from ..networks.names import IMAGENET_MEAN, IMAGENET_STD
from ..networks.resampling import draw_views, resampled
from . import VERSION, TeacherRecipe
from .model import save

_CHECKPOINT_SECONDS = 60.0
_TEST_BATCH = 256


def train_teacher(
    name: str,
    recipe: TeacherRecipe,
    train: Path,
    test: Path | None,
    validation: Path | None,
    *,
    flip: bool,
    device: str,
    folder: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a teacher on the train split and record its accuracy; nothing is chosen by it.

    Args:
        train, test, validation: pixels at the recipe's sizes, as `mgd3 pixels` writes them. A
            teacher that helps to choose settings is given no test images.
        flip: whether a mirrored image keeps its class.
        folder: where the teacher's files go. An unfinished training is kept beside them and
            continued.

    Returns:
        The teacher's card.

    Raises:
        UserError: files do not agree or are damaged, or training diverged.
    """
    classes = tensor_metadata(train)["classes"]
    files = {
        name: path
        for name, path in (("train", train), ("validation", validation), ("test", test))
        if path is not None
    }
    hashes = {name: sha256_of(path) for name, path in files.items()}
    for path in files.values():
        if tensor_metadata(path)["classes"] != classes:
            raise UserError(
                f"{path} lists other classes than {train}", "make both from the same data set"
            )
    images, labels = _split(train)
    # Validated here: what reads the pixels last should not be the first to say they do not fit.
    if images.shape[-1] < recipe.size and images.shape[-1] != recipe.test_resize:
        raise UserError(
            f"{train} holds images of {images.shape[-1]} px", f"make them at {recipe.test_resize}"
        )
    identity = {"version": VERSION, "settings": recipe.settings(), "seed": seed, "flip": flip}
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        torch.manual_seed(seed_of(Draw.TEACHER, seed, "initial weights"))
        model = create_network(recipe.network, len(classes), recipe.size, "soft")
        model = model.to(device)
        seconds = _fit(model, images, labels, recipe, flip, seed, device, folder, identity | hashes)
    del images, labels
    accuracy = {}
    for split, path in files.items():
        if split != "train":
            accuracy[split] = _accuracy(model, *_split(path), device)
    print(
        f"teacher {name}: "
        + ", ".join(f"{split} {value:.2f} %" for split, value in accuracy.items()),
        file=sys.stderr,
    )
    card = {
        "teacher": name,
        "network": recipe.network,
        "classes": classes,
        "size": recipe.size,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "accuracy": accuracy,
        "settings": {**recipe.settings(), "flip": flip, "seed": seed},
        "files": hashes,
        "seconds": seconds,
        "device": device,
        **computed_by(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    save(folder, model.state_dict(), card)
    return card


def _split(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    tensors, known = load_tensors(path, ("images", "labels")), tensor_metadata(path)["classes"]
    labels = tensors["labels"].long()
    if len(outside := labels[(labels < 0) | (labels >= len(known))]):
        raise UserError(
            f"{path} has label {int(outside[0])}, and {len(known)} classes",
            "delete it and run the workflow again to remake it",
        )
    return tensors["images"], labels


def rates(recipe: TeacherRecipe, steps: int) -> list[float]:
    """The learning rate of each step: a linear warm-up, then a cosine to 0."""
    warmup = max(1, round(steps * recipe.warmup))
    return [
        recipe.learning_rate
        * min((step + 1) / warmup, 1.0)
        * (0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup))))
        for step in range(steps)
    ]


def epochs_of(recipe: TeacherRecipe, n: int) -> int:
    return max(recipe.min_epochs, math.ceil(recipe.steps * recipe.batch_size / n))


def _fit(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: TeacherRecipe,
    flip: bool,
    seed: int,
    device: str,
    folder: Path,
    identity: dict[str, Any],
) -> float:
    started = time.monotonic()
    n, per_epoch = len(labels), math.ceil(len(labels) / recipe.batch_size)
    schedule = rates(recipe, epochs_of(recipe, n) * per_epoch)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
        fused=True,
    )
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".teacher.checkpoint.safetensors"
    kept = Checkpoint(path, {"digest": digest}, _CHECKPOINT_SECONDS)
    done = begin = kept.restore({"model": model}, optimiser)
    labels = labels.to(device)
    # Of activations only: a fused optimiser takes weights and restored momenta to lie alike.
    layout = torch.channels_last
    images = _resident(images, device)
    model.train()
    # Checkpoints are at epoch ends: an epoch's draws are made at once.
    for epoch in range(begin // per_epoch, len(schedule) // per_epoch):
        draws = torch_generator(Draw.TEACHER, seed, epoch)
        order = torch.randperm(n, generator=draws)
        views = draw_views(
            n, images.shape[-1], draws, crop_scale=recipe.crop_scale, flip=0.5 if flip else 0.0
        ).to(device)
        torch.manual_seed(seed_of(Draw.TEACHER, seed, "network", epoch))
        total = torch.zeros((), device=device)
        here = order.to(images.device)
        for start in range(0, n, recipe.batch_size):
            part = slice(start, start + recipe.batch_size)
            batch = images[here[part]].to(device, non_blocking=True)
            x = resampled(batch, views[part], recipe.size, IMAGENET_MEAN, IMAGENET_STD)
            for group in optimiser.param_groups:
                group["lr"] = schedule[done]
            logits = model(x.contiguous(memory_format=layout))
            loss = F.cross_entropy(logits, labels[order[part].to(device)])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(x)
            done += 1
        mean = (total / n).item()
        if not math.isfinite(mean):
            raise UserError(
                f"training the teacher diverged: the loss is {mean} in epoch {epoch + 1}",
                "check the training images",
            )
        spent = time.monotonic() - started
        left = round(spent / (done - begin) * (len(schedule) - done))
        print(
            f"epoch {epoch + 1}/{len(schedule) // per_epoch}  loss {mean:.4f}  "
            f"{(done - begin) * recipe.batch_size / spent:.0f} images/s  "
            f"ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}",
            file=sys.stderr,
            flush=True,
        )
        kept.save_if_due(done, {"model": model}, optimiser)
    kept.remove()
    return time.monotonic() - started


def _resident(images: torch.Tensor, device: str) -> torch.Tensor:
    """On the device where they take up at most half of its free memory, else pinned."""
    if not device.startswith("cuda"):
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images.pin_memory()


@torch.inference_mode()
def _accuracy(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, device: str
) -> float:
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    for part, wanted in zip(images.split(_TEST_BATCH), labels.split(_TEST_BATCH), strict=True):
        x = normalise(part.to(device), IMAGENET_MEAN, IMAGENET_STD)
        right += (model(x).argmax(1) == wanted.to(device)).sum()
    return 100 * right.item() / len(labels)
