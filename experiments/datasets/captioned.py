"""Pictures with captions, the common form of the data sets of image captioning; reading of picture files."""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.datasets.files import DataError, read_bytes, reading

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is read, by the names of Pillow."""


class Captioned(NamedTuple):
    """A picture and what people said of it."""

    name: str
    picture: np.ndarray
    """uint8 ``[side, side, 3]``, RGB; or precomputed features, float32 ``[regions, features]``."""
    captions: tuple[str, ...]


def read_picture(path: Path, side: int) -> np.ndarray:
    """A picture file as `picture` gives it.

    Raises:
        DataError: it cannot be read, or is no picture.
    """
    content = read_bytes(path)
    with reading(path, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return picture(content, side)


def picture(content: bytes, side: int) -> np.ndarray:
    """The picture in a JPEG, PNG or WebP, as uint8 ``[side, side, 3]``; to be called within `reading`.

    Turned as its EXIF orientation says, the first frame of an animation, transparent parts on white, 16-bit
    greys scaled to 8; both sides are scaled to ``side``, so that all of the picture is seen.

    Raises:
        ValueError, OSError, SyntaxError: it is damaged, or something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ValueError(f"it is none of {', '.join(FORMATS)}") from error
    with opened as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16-bit greys
            grey = np.clip(np.asarray(upright, np.int64), 0, 65_535) // 257
            upright = Image.fromarray(grey.astype(np.uint8))
        shown = upright.convert("RGBA").resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        white = Image.new("RGBA", shown.size, "white")
        return np.asarray(Image.alpha_composite(white, shown).convert("RGB"))


def check_captions(name: str, captions: tuple[str, ...]) -> tuple[str, ...]:
    """The captions without outer spaces; raise `DataError` unless there is one, and none is empty."""
    stripped = tuple(caption.strip() for caption in captions)
    if not stripped or not all(stripped):
        raise DataError(f"{name} has no caption, or an empty one.")
    return stripped
