"""Pictures with captions, the common form of the data sets of image captioning; reading of picture files."""

import functools
import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.datasets import Item, Splits
from experiments.datasets.files import DataError, open_file, read_bytes, reading

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is read, by the names of Pillow."""

DAMAGED = (SyntaxError, LookupError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises if a picture is damaged, beside what `reading` knows."""

_LONGEST = 1 << 16  # the most bytes of a line of a table of captions
_OPENING = threading.Lock()  # filters of warnings are those of all threads


class PictureFile(NamedTuple):
    """A picture that stays in its file until it is asked for."""

    path: Path
    side: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the picture."""
        return (self.side, self.side, 3)

    def read(self) -> np.ndarray:
        """The picture, uint8 ``[side, side, 3]``."""
        return read_picture(self.path, self.side)


class Captioned(NamedTuple):
    """A picture and what people said of it."""

    name: str
    picture: np.ndarray | PictureFile
    """uint8 ``[side, side, 3]``, RGB; or precomputed features, float32 ``[regions, features]``."""
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures, or features, as one array, of which files are read when they are asked for, and not kept.

    Example:
        >>> pictures = Pictures([np.full((2, 2, 3), number, np.uint8) for number in range(5)])
        >>> len(pictures), pictures[1:3].shape, pictures[np.array([4, 0])][:, 0, 0, 0].tolist()
        (5, (2, 2, 2, 3), [4, 0])
    """

    items: Sequence[np.ndarray | PictureFile]

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.items)

    def __getitem__(self, chosen: slice | Int[np.ndarray, " chosen"]) -> np.ndarray:
        """Some of them, ``[chosen, side, side, 3]`` or ``[chosen, regions, features]``.

        Raises:
            DataError: a file cannot be read.
        """
        numbers = range(len(self))[chosen] if isinstance(chosen, slice) else chosen
        items = [self.items[number] for number in numbers]
        in_files = any(isinstance(item, PictureFile) for item in items)
        return np.stack(list((_readers().map if in_files else map)(_array, items)))


def _array(item: np.ndarray | PictureFile) -> np.ndarray:
    return item.read() if isinstance(item, PictureFile) else item


@functools.cache
def _readers() -> ThreadPoolExecutor:
    """Threads that read: Pillow decodes without Python's lock."""
    return ThreadPoolExecutor(os.cpu_count(), "pictures")


def read_picture(path: Path, side: int) -> np.ndarray:
    """A picture file as `picture` gives it.

    Raises:
        DataError: it cannot be read, or is no picture.
    """
    content = read_bytes(path)
    with reading(path, *DAMAGED):
        return picture(content, side)


def picture(content: bytes, side: int) -> np.ndarray:
    """The picture in a JPEG, PNG or WebP, as uint8 ``[side, side, 3]``; to be called within `reading`.

    Turned as its EXIF orientation says, the first frame of an animation, transparent parts on white, 16-bit
    greys scaled to 8; both sides are scaled to ``side``, so that all of the picture is seen.

    Raises:
        ValueError, OSError, SyntaxError: it is damaged, or something else.
    """
    with _OPENING, warnings.catch_warnings():
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


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """The captions of each file that a table names: in each line a name, a tab and a caption.

    Raises:
        DataError: the table is missing, damaged or empty, or a line is something else.
    """
    found: dict[str, tuple[str, ...]] = {}
    with reading(path) as place, open_file(path) as stream:
        for number, line in enumerate(iter(functools.partial(stream.readline, _LONGEST), b""), start=1):
            place.text = f"line {number}"
            name, tab, caption = line.decode("utf-8" if number > 1 else "utf-8-sig").partition("\t")
            if not tab or not name or not re.search(r"\w", caption):
                raise ValueError("it is not the name of a file, a tab and a caption")
            found[name] = (*found.get(name, ()), caption.strip())
    if not found:
        raise DataError(f"{path} is empty: give a line with name, tab and caption for each caption.")
    return found


def path_within(folder: Path, name: str) -> Path:
    """The path of a file in a folder; raise ValueError if the name leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"it is not in {folder}")
    return path


def load_tables(folder: Path, make: Callable[[str, tuple[str, ...]], Item]) -> Splits[Item]:
    """What ``make`` gives of each name with its captions in ``train.tsv``, ``valid.tsv`` and ``test.tsv``.

    Raises:
        DataError: a table is missing, damaged or empty, or ``make`` cannot read what is named.
    """
    parts = []
    for part in Splits._fields:
        table = folder / f"{part}.tsv"
        items = []
        for name, captions in read_captions(table).items():
            with reading(table) as place:
                place.text = repr(name)
                items.append(make(name, captions))
        parts.append(tuple(items))
    return Splits(*parts)


def load_folder(folder: Path, side: int) -> Splits[Captioned]:
    """A user's own pictures, which the tables of a folder name, see `load_tables`.

    The pictures stay in their files, so that a folder may be larger than memory.

    Raises:
        DataError: as `load_tables` does, or a table names a file that is not there.
    """

    def make(name: str, captions: tuple[str, ...]) -> Captioned:
        path = path_within(folder, name)
        if not path.is_file():
            raise ValueError("there is no such file")
        return Captioned(name, PictureFile(path, side), captions)

    return load_tables(folder, make)
