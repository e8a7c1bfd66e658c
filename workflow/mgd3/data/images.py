"""Pictures to uint8 tensors: ADM's centre crop for generators, resize and crop for evaluation.

torchvision is imported where a JPEG is decoded: importing it takes as long as importing torch, and
most stages decode none.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..base.errors import NOTE, UserError

if TYPE_CHECKING:
    from .registry import Source


_SHOWN = 20
# Its successor is a package of its own; the pinned version has both.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision")


def adm_centre_crop(picture: Image.Image, size: int) -> Image.Image:
    """Halve (box) while the short side is at least 2 * size, bicubic resize, centre crop.

    The crop of guided-diffusion (ADM), which DiT and MGD3 use.
    """
    picture = _halved(picture, size)
    width, height = _short_side(picture.width, picture.height, size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def _halved(picture: Image.Image, size: int) -> Image.Image:
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    return picture


def _short_side(width: int, height: int, size: int) -> tuple[int, int]:
    scale = size / min(width, height)
    return round(width * scale), round(height * scale)


def adm_centre_crop_tensor(image: torch.Tensor, size: int) -> torch.Tensor:
    """`adm_centre_crop` of uint8 [3, H, W] in less time: 99 % of the values are equal.

    The others differ by 1 of 255, at most 20 in a million by 2.
    """
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    if min(image.shape[-2:]) >= 2 * size:
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        image = torch.from_numpy(np.array(_halved(picture, size))).permute(2, 0, 1)
    height, width = image.shape[-2:]
    width, height = _short_side(width, height, size)
    if (height, width) != tuple(image.shape[-2:]):
        image = resize(image, [height, width], InterpolationMode.BICUBIC, antialias=True)
    left, top = (width - size) // 2, (height - size) // 2
    return image[..., top : top + size, left : left + size]


def resize_centre_crop(picture: Image.Image, size: int, resized: int | None = None) -> Image.Image:
    """Bilinear (antialiased) resize of the short side to `resized`, then the centre of `size`.

    torchvision's Resize(resized) and CenterCrop(size) on pictures. With `resized` = `size`, the
    default, it is the test transform of the hard-label protocol.
    """
    resized = resized or size
    width, height = picture.size
    if min(width, height) != resized:
        if width <= height:
            width, height = resized, int(resized * height / width)
        else:
            width, height = int(resized * width / height), resized
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def tensor_resize_centre_crop(picture: Image.Image, size: int, how: str = "tensor") -> np.ndarray:
    """`resize_centre_crop` as torchvision does it to float tensors; uint8 [size, size, 3].

    Normalising each channel first, as GLaD does, gives the same: both are linear. The result is
    rounded to uint8, at most half a level off.
    """
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    return resize_tensor(pixels, size, how)[0].permute(1, 2, 0).numpy()


def resize_tensor(images: torch.Tensor, size: int, how: str = "pil") -> torch.Tensor:
    """uint8 [N, 3, H, W] -> [N, 3, size, size]: shorter side to `size` (bilinear), centre square.

    Args:
        how: key of `CROPS`; `pil` is PIL's resize within 1 of 255, with its rounding between the
            two directions.
    """
    height, width = images.shape[-2:]
    short = min(height, width)
    new = (size * height // short, size * width // short)
    top, left = (round((side - size) / 2) for side in new)
    if new != (height, width):
        images = torch.nn.functional.interpolate(
            images if how == "pil" else images.float(),
            new,
            mode="bilinear",
            antialias=how != "tensor-aliased",
        )
        if how != "pil":
            images = images.round_().clamp_(0, 255).to(torch.uint8)
    return images[..., top : top + size, left : left + size].contiguous()


# How an image becomes a square of an evaluation's size: `evaluation.protocols.Resize`.
CROPS: dict[str, Callable[[Image.Image, int], Image.Image | np.ndarray]] = {
    "pil": resize_centre_crop,
    "tensor": tensor_resize_centre_crop,
    "tensor-aliased": partial(tensor_resize_centre_crop, how="tensor-aliased"),
}


def jpeg_components(data: memoryview) -> int | None:
    """Colour components of a JPEG file (1 grey, 3 colour, 4 CMYK); None for any other file."""
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        # SOF0 to SOF15 hold the frame; DHT, JPG and DAC stand among them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def decode(path: Path) -> torch.Tensor | None:
    """A grey or RGB JPEG as uint8 [3, H, W], as PIL decodes it; None for all other files.

    Orientation tags are ignored, as ADM ignores them: see `Source.is_stored_upright`. What cannot
    be decoded is None, too: PIL has the last word.
    """
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    try:
        data = read_file(str(path))
        if jpeg_components(memoryview(data.numpy())) not in (1, 3):
            return None
        return decode_jpeg(data, ImageReadMode.RGB)
    except RuntimeError:
        return None


# How a picture becomes a square of a given side.
Crop = Callable[[Image.Image, int], Image.Image | np.ndarray]
# Those that leave a square of that side as it is.
_KEEPING = (adm_centre_crop, *CROPS.values())


def _pixels(source: Source, image: str, size: int, crop: Crop) -> np.ndarray:
    """uint8 [3, size, size]."""
    path = source.path(image) if crop is adm_centre_crop else None
    fast = path is not None and source.is_stored_upright(image)
    decoded = decode(path) if fast else None
    if decoded is None:
        return np.asarray(crop(source.open(image), size)).transpose(2, 0, 1)
    return adm_centre_crop_tensor(decoded, size).numpy()


def reading_threads() -> int:
    """As many threads as this job was given, or as the process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8 [n, 3, size, size] of those `images` that could be decoded; the other errors."""

    pixels: torch.Tensor
    images: list[str]
    errors: list[UserError]


def decode_images(
    source: Source,
    images: Sequence[str],
    size: int,
    crop: Crop = adm_centre_crop,
    pool: ThreadPoolExecutor | None = None,
) -> Decoded:
    """Decode and crop images by key, in threads (decoding releases the interpreter lock).

    Those that lie in an array at that size already are taken from it as a whole.
    """
    stored = source.stored(images)
    if stored is not None and stored.shape[2:] == (size, size) and crop in _KEEPING:
        return Decoded(torch.from_numpy(stored), list(images), [])
    pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)

    def read(position: int) -> UserError | None:
        try:
            if stored is None:
                pixels[position] = _pixels(source, images[position], size, crop)
            else:
                picture = Image.fromarray(stored[position].transpose(1, 2, 0))
                pixels[position] = np.asarray(crop(picture, size)).transpose(2, 0, 1)
        except UserError as error:
            return error
        return None

    if pool is None:
        with ThreadPoolExecutor(reading_threads()) as own:
            found = list(own.map(read, range(len(images))))
    else:
        found = list(pool.map(read, range(len(images))))
    errors = [error for error in found if error]
    if not errors:
        return Decoded(torch.from_numpy(pixels), list(images), [])
    good = [position for position, error in enumerate(found) if error is None]
    return Decoded(torch.from_numpy(pixels[good]), [images[k] for k in good], errors)


def raise_undecodable(errors: Sequence[UserError]) -> None:
    """Raise one UserError that names every image that cannot be decoded, if there is one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserError(
            f"{len(errors)} images cannot be decoded:\n    {_named(errors)}", errors[0].mend
        )


def settle_undecodable(
    errors: Sequence[UserError], policy: str, whose: str, total: int, *, enough: bool = True
) -> None:
    """Raise for images that cannot be decoded; or say that they are left out, if that is enough.

    Args:
        policy: `Dataset.undecodable`.
        whose: what they are, for instance "test images of own".
        total: how many there are with them.
        enough: whether the others suffice.

    Raises:
        UserError: the policy is to fail, or too few are left; names every image.
    """
    if policy == "fail" or not enough:
        raise_undecodable(errors)
    elif errors:
        print(
            f"{NOTE}{len(errors):,} of {total:,} {whose} left out, which cannot be decoded:\n"
            f"    {_named(errors)}",
            file=sys.stderr,
        )


def _named(errors: Sequence[UserError]) -> str:
    more = f"\n    and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return "\n    ".join(error.what for error in errors[:_SHOWN]) + more


def read_images(
    source: Source, images: Sequence[str], size: int, crop: Crop = adm_centre_crop
) -> torch.Tensor:
    """Images by key, all of them: uint8 [n, 3, size, size], in the order of `images`.

    Raises:
        UserError: images that cannot be decoded, all of them named.
    """
    found = decode_images(source, images, size, crop)
    raise_undecodable(found.errors)
    return found.pixels


def prefetched(
    source: Source, chunks: Sequence[Sequence[str]], size: int, crop: Crop = adm_centre_crop
) -> Iterator[Decoded]:
    """Each chunk of keys decoded, the next one while the caller works on the last."""
    with ThreadPoolExecutor(reading_threads()) as readers, ThreadPoolExecutor(1) as ahead:
        waiting = []
        for chunk in chunks:
            waiting.append(ahead.submit(decode_images, source, chunk, size, crop, readers))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()
