"""One reader of pictures: what a file says exactly in 8 bits, grey or RGB, comes out; whatever would be cut off is refused. It needs no
torch, so that processes that only decode start at once and are small.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataDamaged, DataMissing, Error, UsageError
from .files import opened, replacing, writing

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA")  # Pillow's names of what can be read exactly
MOST_PIXELS = 2**26
BITS = 258  # a TIFF's tag
Resize = Literal["squash", "crop"]


def read_pixels(path: Path | str, resized: Callable[[Image.Image], Image.Image] | None = None) -> NDArray[np.uint8]:
    """A picture as (C, H, W) 8-bit pixels, C = 1 when it is grey, otherwise 3, turned as its EXIF orientation says.

    Args:
        path: the file.
        resized: done to the 8-bit picture before anything else.

    Raises:
        DataMissing: when there is no such file.
        DataDamaged: when it is no readable picture.
        UsageError: when it does not say 8 bits of grey or RGB for each pixel: more bits, CMYK, pixels that are not fully
            opaque, several frames; or has more than 67 million pixels.
    """
    try:
        with opened(path) as file:
            return pixels_in(file, path, resized)
    except Error:
        raise
    except FileNotFoundError:
        raise DataMissing(f"no picture at {path}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; a picture expected ({path}/* names those in it)") from None
    except Exception as e:  # a name that no file can have
        raise DataDamaged(f"{path} cannot be read as a picture: {e}") from None


def pixels_in(
    file: IO[bytes],
    name: Path | str,
    resized: Callable[[Image.Image], Image.Image] | None = None,
    formats: tuple[str, ...] = FORMATS,
    most: int = MOST_PIXELS,
) -> NDArray[np.uint8]:
    """As :func:`read_pixels`, of an open file.

    Args:
        file: that is open.
        name: what errors call it.
        resized: done to the 8-bit picture before anything else.
        formats: Pillow's names of the kinds of file that are read.
        most: pixels that are read; a picture that says that it has more is not decoded.

    Raises:
        DataDamaged: when it is no readable picture.
        UsageError: as of :func:`read_pixels`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is looked at here
            with Image.open(file, formats=formats) as picture:
                if why := _inexact(picture, most):
                    raise UsageError(f"{name} {why}")
                whole = _opaque(picture, name)
    except Error:
        raise
    except UnidentifiedImageError:
        kinds = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise DataDamaged(f"{name} cannot be read as a picture: it is no {kinds} file") from None
    except Exception as e:  # what a damaged file makes the readers raise is anyone's guess
        raise DataDamaged(f"{name} cannot be read as a picture: {e}") from None
    pixels = np.asarray(resized(whole) if resized else whole)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _inexact(picture: Any, most: int) -> str:
    """What its header says that 8 bits of grey or RGB cannot, if anything; no pixel is decoded for it."""
    width, height = picture.size
    if width * height > most:
        return f"has {width} x {height} pixels; {most} at most are read: make it smaller"
    if picture.mode[0] in "IF" or _bits(picture) > 8:
        return f"has pixels of more than 8 bits ({picture.mode}), which would be cut off; 8 bits a channel expected"
    if picture.mode not in GREY + COLOUR:
        return f"is {picture.mode}; grey or RGB expected: convert it, so that it is known how"
    if (frames := getattr(picture, "n_frames", 1)) != 1:
        return f"holds {frames} frames; one picture a file expected"
    return ""


def _bits(picture: Any) -> int:
    """Of a channel, as the file says: Pillow cuts some to 8 without a word."""
    if picture.format == "PNG":
        at = picture.fp.tell()
        picture.fp.seek(24)  # the header chunk always comes first
        depth: int = picture.fp.read(1)[0]
        picture.fp.seek(at)
        return depth
    if picture.format == "TIFF":
        return int(max(picture.tag_v2.get(BITS, (1,))))
    if picture.format == "PPM" and picture.mode != "1" and picture.tile and isinstance(picture.tile[0][3], tuple):
        highest = picture.tile[0][3][1]
        return 8 if not isinstance(highest, int) or highest in (0, 1, 255) else 16
    return 8


def _opaque(picture: Any, path: Path | str) -> Image.Image:
    """As L or RGB, turned; alpha goes, where it hides nothing."""
    turned: Image.Image = ImageOps.exif_transpose(picture)
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        whole = turned.convert("RGBA")
        if (least := int(np.asarray(whole.getchannel("A")).min())) < 255:
            raise UsageError(f"{path} has pixels that are not fully opaque (alpha {least} of 255): lay it over a background first")
        turned = whole
    return turned.convert("L" if picture.mode in GREY else "RGB")


def brought(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """A picture (C, H, W) with so many channels: grey is repeated, colour whose channels are equal is grey.

    Raises:
        UsageError: for a colour picture, when 1 is asked for.
    """
    if channels == 3 and len(pixels) == 1:
        return pixels.repeat(3, 0)
    if channels == 1 and len(pixels) == 3:
        if (pixels != pixels[:1]).any():
            raise UsageError("is a colour picture; grey expected")
        return pixels[:1]
    return pixels


def resized(picture: Image.Image, size: tuple[int, ...], resize: Resize) -> Image.Image:
    """A picture brought to (height, width)."""
    height, width = size
    if resize == "squash":
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    scale = max(width / picture.width, height / picture.height)
    w, h = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    left, top = (w - width) // 2, (h - height) // 2
    return picture.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))


def write_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (C, H, W) 8-bit pixels, grey or RGB, as a PNG, in folders that are made.

    Raises:
        StoreError: when it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as f:
        Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(f, "PNG")


__all__ = ["FORMATS", "MOST_PIXELS", "Resize", "brought", "pixels_in", "read_pixels", "resized", "write_pixels"]
