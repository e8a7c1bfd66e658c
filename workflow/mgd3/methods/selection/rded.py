"""RDED's images: mosaics of the crops that a teacher finds most typical (Sun et al., CVPR 2024).

Facts from LINs-lab/RDED. Here mosaics are kept as they are, where the original writes JPEG files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ... import teachers
from ...base.errors import UserError
from ...base.memory import halving
from ...base.progress import Progress
from ...base.seeding import Draw, torch_generator
from ...data.images import reading_threads, settle_undecodable
from ...networks.augment import normalise
from ...teachers.model import Teacher

if TYPE_CHECKING:
    from ..base import Job

# Area of a crop, as a share of the picture's; its sides are equal.
_SCALE = (0.08, 1.0)
# Draws of a crop before the centre square is taken, as in torchvision's RandomResizedCrop.
_TRIES = 10
_BATCH = 128


def made_of_crops(job: Job) -> dict[str, Tensor]:
    """2 x 2 mosaics of the 4 * `ipc` best crops of each class, crops of half the data set's size.

    Every crop depends on its image and the generation seed. At most one of an image is used.

    Raises:
        UserError: fewer than 4 * `ipc` images; an image that cannot be decoded.
    """
    names = teachers.names_for(job.settings["teacher"], job.dataset, job.index.classes)
    teacher = teachers.load(job.teacher, job.device).slice(names)
    label_of = {name: label for label, name in enumerate(job.index.classes)}
    made = {}
    with Progress(len(job.classes), "Choosing crops", "classes") as bar:
        for name in job.classes:
            crops = _class_crops(job, name)
            losses = crop_losses(teacher, crops.flatten(0, 1), label_of[name], job.device)
            made[name] = mosaics(best_crops(crops, losses.view(crops.shape[:2]), 4 * job.ipc))
            bar.update()
    return made


def best_crops(crops: Tensor, losses: Tensor, count: int) -> Tensor:
    """The best of each image's `crops` [N, C, ...] by `losses` [N, C], and of them the best.

    Returns:
        [count, ...], the lowest loss first.
    """
    lowest, which = losses.min(1)
    order = lowest.argsort(stable=True)[:count].cpu()
    return crops[order, which.cpu()[order]]


def mosaics(patches: Tensor) -> Tensor:
    """[4n, 3, p, p] by rank -> [n, 3, 2p, 2p].

    The best n are top left, the next n top right, then bottom left, then bottom right.
    """
    top_left, top_right, bottom_left, bottom_right = patches.chunk(4)
    top = torch.cat([top_left, top_right], 3)
    return torch.cat([top, torch.cat([bottom_left, bottom_right], 3)], 2)


@torch.inference_mode()
def crop_losses(teacher: Teacher, crops: Tensor, label: int, device: str) -> Tensor:
    """Cross-entropy [N] of crops uint8 [N, 3, p, p] of one class, on the teacher's device.

    The teacher sees a crop at half its own input size, amid zeros (the mean colour).
    """
    inner = teacher.size // 2
    before = (teacher.size - inner) // 2
    pad = (before, teacher.size - inner - before) * 2

    def losses(part: slice) -> Tensor:
        x = normalise(crops[part].to(device), teacher.mean, teacher.std)
        if x.shape[-1] != inner:
            x = F.interpolate(x, (inner, inner), mode="bilinear", antialias=True)
        wanted = torch.full((len(x),), label, device=x.device)
        return F.cross_entropy(teacher(F.pad(x, pad)), wanted, reduction="none")

    return torch.cat(list(halving(len(crops), _BATCH, losses, what="judge one crop")))


def _class_crops(job: Job, name: str) -> Tensor:
    """uint8 [images, crops, 3, p, p] of randomly chosen images of a class."""
    keys = job.training_images(name, at_least=4 * job.ipc)
    draws = torch_generator(Draw.RDED, job.generation_seed, name)
    order = torch.randperm(len(keys), generator=draws).tolist()
    keys = [keys[k] for k in order[: max(job.settings["candidates"], 4 * job.ipc)]]
    job.index.require_unchanged(job.dataset.source, keys)

    def crops_of(key: str) -> np.ndarray | UserError:
        own = torch_generator(Draw.RDED_CROP, job.generation_seed, key)
        drawn = torch.rand(job.settings["crops"], _TRIES, 3, generator=own, dtype=torch.float64)
        try:
            picture = job.dataset.source.open(key)
        except UserError as error:
            return error
        return square_crops(picture, drawn.numpy(), job.dataset.size // 2)

    with ThreadPoolExecutor(reading_threads()) as pool:
        read = list(pool.map(crops_of, keys))
    errors = [found for found in read if isinstance(found, UserError)]
    crops = [found for found in read if not isinstance(found, UserError)]
    whose, enough = f"training images of {name}", len(crops) >= 4 * job.ipc
    settle_undecodable(errors, job.dataset.undecodable, whose, len(keys), enough=enough)
    return torch.from_numpy(np.stack(crops))


def square_crops(picture: Image.Image, draws: np.ndarray, size: int) -> np.ndarray:
    """Square crops of random area and place, resized (bilinear, antialiased).

    Args:
        draws: uniform in [0, 1), float [crops, tries, 3]: area, left, top.

    Returns:
        uint8 [crops, 3, size, size].
    """
    width, height = picture.size
    low, high = _SCALE
    area = width * height * (low + (high - low) * draws[..., 0])
    sides = np.sqrt(area).round().astype(int)
    fits = (sides > 0) & (sides <= min(width, height))
    first = fits.argmax(1)
    rows = np.arange(len(draws))
    fitting = fits[rows, first]
    side = np.where(fitting, sides[rows, first], min(width, height))
    # Where no draw fits, the centre.
    place = np.where(fitting[:, None], draws[rows, first, 1:], 0.5)
    left = (place[:, 0] * (width - side + 1)).astype(int)
    top = (place[:, 1] * (height - side + 1)).astype(int)
    cut = [
        picture.crop((x, y, x + s, y + s)).resize((size, size), Image.Resampling.BILINEAR)
        for x, y, s in zip(left.tolist(), top.tolist(), side.tolist(), strict=True)
    ]
    return np.stack([np.asarray(crop).transpose(2, 0, 1) for crop in cut])
