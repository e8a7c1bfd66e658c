"""Pictures of users' own folders as people see them: turned upright, flattened, 8 bits a channel.

Cameras store a photograph as the sensor lay and note how to turn it; drawings hold transparent
pixels whose colours nobody sees; scanners and microscopes write 16 bits. PIL's `convert("RGB")`
minds none of the three: it ignores the note, shows the hidden colours and cuts 16 bits off at 255.
ImageNet keeps that reading (`ImageNet.open`), which the published figures were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# What is seen behind transparent pixels.
BACKGROUND = "white"
_ORIENTATION = 0x0112
# Modes that `convert("RGB")` shows as people see them, once their transparency is dealt with.
_EIGHT_BITS = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBX",
    "LA",
    "PA",
    "La",
    "RGBA",
    "RGBa",
    "CMYK",
    "YCbCr",
    "HSV",
)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# These write their 16-bit values into PIL's 32-bit mode.
_SIXTEEN_IN_32 = ("PNG", "PPM")
# How many times as long as wide a picture may be.
_LONGEST_STRIP = 100


class Unreadable(ValueError):
    """Why a file cannot be taken as a picture, in words that follow its path."""


@dataclass(frozen=True)
class Header:
    """What the header of a picture tells.

    Attributes:
        width, height: in pixels, as it is seen.
        bytes: size of the file.
        mended: what `to_rgb` does to it beyond decoding: keys of `MENDED`.
    """

    width: int
    height: int
    bytes: int
    mended: tuple[str, ...] = ()


# What is told of the pictures that reading changes, after their count.
MENDED = {
    "turned": "turned upright as their orientation tag says",
    "flattened": f"with a transparency channel, flattened on {BACKGROUND}",
    "scaled": "of 16 bits a channel, scaled to 8 by the whole range (65535 is 255)",
    "first frame": "of several frames or pages, of which the first is taken",
}


def read_header(path: Path, as_stored: bool = False) -> Header:
    """The header of a picture that `to_rgb` can read.

    Args:
        as_stored: of a picture that `convert("RGB")` will read instead.

    Raises:
        Unreadable: it is no picture, too large, a thin strip, or its values have no known range.
        FileNotFoundError: it is gone.
    """
    from PIL import Image

    try:
        picture = Image.open(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # of many kinds, whatever the damaged bytes lead to
        raise Unreadable(unreadable(error)) from error
    with picture:
        _require_no_strip(picture)
        mended = [] if as_stored else [kind for kind, does in _MENDS.items() if does(picture)]
        if not as_stored and picture.mode not in _EIGHT_BITS and "scaled" not in mended:
            raise Unreadable(
                f"holds values of mode {picture.mode}, whose range is not known: save it with 8 or "
                "16 bits a channel"
            )
        width, height = picture.size
        # PIL has turned a TIFF's size already.
        if not as_stored and _orientation(picture) > 4 and picture.format != "TIFF":
            width, height = height, width
        return Header(width, height, path.stat().st_size, tuple(mended))


def _require_no_strip(picture: Image.Image) -> None:
    """Scaled up until its short side fits, a strip would fill the memory."""
    if max(picture.size) > _LONGEST_STRIP * min(picture.size):
        raise Unreadable("is a thin strip of {} x {} pixels".format(*picture.size))


def unreadable(error: Exception) -> str:
    """What PIL's error means for a user."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"has more than {most:,} pixels: scale it down ({error})"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is no picture, or of an unknown format"
    return f"cannot be read: {error}"


def is_upright(path: Path) -> bool:
    """Whether a file is stored as it is seen: its JPEG may be decoded without PIL."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return _orientation(picture) == 1
    except Exception:  # as in `read_header`; who decodes it will say what is wrong
        return False


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture as it is seen: RGB, 8 bits a channel; see the module."""
    picture.load()  # a TIFF is turned while it is loaded, and then has no tag
    orientation = _orientation(picture)
    if _sixteen_bits(picture):
        picture = _scaled(picture)
    if _transparent(picture):
        picture = _flattened(picture)
    return _turned(picture.convert("RGB"), orientation)


def _orientation(picture: Image.Image) -> int:
    """1 to 8 as in EXIF; 1 where there is no tag, or none that makes sense."""
    # Asked for its EXIF, PIL decodes a whole PNG that has none.
    if picture.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & {*picture.info}:
        return 1
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # of many kinds, for a damaged tag: viewers ignore it, too
        return 1
    return value if value in range(1, 9) else 1


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    how = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(how[orientation]) if orientation in how else picture


def _sixteen_bits(picture: Image.Image) -> bool:
    in_32 = picture.mode == "I" and picture.format in _SIXTEEN_IN_32
    return picture.mode in _SIXTEEN_BITS or in_32


def _scaled(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8, rounded; its transparent value, if it has one, to an alpha channel."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture).astype(np.int64)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    hidden = picture.info.get("transparency")
    if not isinstance(hidden, int):
        return grey
    grey.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    return grey


def _transparent(picture: Image.Image) -> bool:
    return picture.has_transparency_data


def _flattened(picture: Image.Image) -> Image.Image:
    from PIL import Image

    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, BACKGROUND), seen)


def _several(picture: Image.Image) -> bool:
    """Frames or pages beside the first; what a telephone puts behind a JPEG is none."""
    if picture.format == "MPO":
        return False
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # as in `read_header`: the frames after the first are damaged
        return False


_MENDS: dict[str, Callable[[Image.Image], bool]] = {
    "turned": lambda picture: _orientation(picture) > 1,
    "flattened": _transparent,
    "scaled": _sixteen_bits,
    "first frame": _several,
}
