"""Frames of people's own videos: animated GIF, PNG and WebP, MP4 and its like, and folders of pictures."""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from experiments.datasets import captioned
from experiments.datasets.files import DataError, read_bytes, reading
from experiments.video_to_text.rendering import SIDE

PICTURES = (".gif", ".png", ".webp", ".jpg", ".jpeg")
LIMIT = 256 << 20
"""The most bytes of a file."""
PIXELS = 1 << 26
"""The most pixels of a frame."""
FRAMES = 10_000
"""The most frames of a video."""


def read_frames(path: Path) -> UInt8[np.ndarray, "frames side side"]:
    """The frames of a video, in grey, fitted into squares with borders of paper; light ink on dark paper.

    Args:
      path: a GIF, PNG or WebP, animated or not; a folder of pictures, in order of their names and the numbers
        in them; anything else is given to ffmpeg, of the package imageio-ffmpeg.

    Raises:
      DataError: it cannot be read, or has too many frames or pixels.
    """
    with reading(path, *captioned.DAMAGED):
        pictures = list(_bounded(_pictures(path)))
        if not pictures:
            raise ValueError("it has no frames")
        return np.stack(pictures)


def sampled(frames: np.ndarray, most: int) -> np.ndarray:
    """At most so many frames, evenly, the first and the last among them."""
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).round().astype(int)]


def _pictures(path: Path) -> Iterator[np.ndarray]:
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in PICTURES]
        for file in sorted(files, key=lambda each: _in_order(each.name)):
            yield next(_stills(file))
    elif path.suffix.lower() in PICTURES:
        yield from _stills(path)
    else:
        yield from _film(path)


def _in_order(name: str) -> list[Any]:
    """The sort key with which frame-10 comes after frame-9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _stills(path: Path) -> Iterator[np.ndarray]:
    content = read_bytes(path, LIMIT)
    with reading(path, *captioned.DAMAGED), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=("GIF", "PNG", "WEBP", "JPEG")) as image:
            for frame in ImageSequence.Iterator(image):
                yield _fitted(frame)


def _film(path: Path) -> Iterator[np.ndarray]:
    """The frames that ffmpeg decodes."""
    try:
        import imageio_ffmpeg  # noqa: PLC0415 (only for these files)
    except ImportError:
        raise DataError(
            f"{path} needs the package imageio-ffmpeg. Install it, or give a GIF, or a folder of its "
            "frames as pictures."
        ) from None
    if not path.is_file():
        raise FileNotFoundError(2, "there is no such file")
    try:
        decoded = imageio_ffmpeg.read_frames(path, pix_fmt="gray", bits_per_pixel=8)
        width, height = next(decoded)["size"]
        _check_size(width, height)
        for frame in decoded:
            yield _fitted(Image.frombytes("L", (width, height), frame))
    except (OSError, RuntimeError, StopIteration):
        raise ValueError("ffmpeg cannot decode it as a video") from None


def _check_size(width: int, height: int) -> None:
    if width * height > PIXELS:
        raise ValueError(f"its frames have {width} x {height} pixels, more than {PIXELS}")


def _bounded(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        if number == FRAMES:
            raise ValueError(f"it has more than {FRAMES} frames")
        yield frame


def _fitted(image: Image.Image) -> UInt8[np.ndarray, "side side"]:
    """A picture in grey, of the size that the model takes; what is transparent is black."""
    _check_size(*image.size)
    if image.mode.startswith(("I", "F")):  # 16 bits and more
        values = np.asarray(image, np.float64)
        scale = 65535 if values.max() > 255 else 255
        image = Image.fromarray((np.clip(values / scale, 0, 1) * 255).astype(np.uint8))
    elif image.mode != "L":
        flat = Image.new("RGBA", image.size, "black")
        flat.alpha_composite(image.convert("RGBA"))
        image = flat.convert("L")
    share = SIDE / max(image.size)
    width, height = (max(round(side * share), 1) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    square = Image.new("L", (SIDE, SIDE))
    square.paste(small, ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(square)
