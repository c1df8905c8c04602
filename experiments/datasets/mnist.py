"""MNIST (LeCun et al. 1998): handwritten digits, 28 x 28 pixels.

Images:

    train    valid    test
    55,000   5,000    10,000

The test split is the official one; the validation split is the last 5,000 of the official training split.
The files are downloaded from the mirror of CVDF. Licence: CC BY-SA 3.0.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, fetch, read_bytes, reading, unpack

CVDF = "https://storage.googleapis.com/cvdf-datasets/mnist"
SIDE = 28
VALID = 5000
LIMIT = 64 << 20  # the training images unpack to 47 million bytes


def _file(name: str, sha256: str) -> DataFile:
    return DataFile("mnist", f"{name}.gz", f"{CVDF}/{name}.gz", sha256)


FILES = {
    "train": (
        _file(
            "train-images-idx3-ubyte",
            "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
        ),
        _file(
            "train-labels-idx1-ubyte",
            "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
        ),
    ),
    "test": (
        _file(
            "t10k-images-idx3-ubyte",
            "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
        ),
        _file(
            "t10k-labels-idx1-ubyte",
            "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
        ),
    ),
}
"""Images and labels of each part, with the SHA-256 of the packed files."""


class Digit(NamedTuple):
    """A handwritten digit."""

    pixels: np.ndarray
    """uint8 [28, 28]: 0 is paper, 255 ink."""
    label: int


def load(data_dir: str | Path | None = None) -> Splits[Digit]:
    """Load the digits; raise DataError if a file is missing, damaged or holds something else."""
    known, test = (digits(*(fetch(file, data_dir) for file in FILES[part])) for part in ("train", "test"))
    return Splits(known[:-VALID], known[-VALID:], test)


def digits(images: Path, labels: Path) -> tuple[Digit, ...]:
    """The digits of a file of images and one of labels.

    Raises:
        DataError: a file is damaged, or they are not 28 x 28 pixels and a label each.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.shape[1:] != (SIDE, SIDE) or classes.ndim != 1 or len(pixels) != len(classes):
        raise DataError(
            f"{images} and {labels.name} have shapes {pixels.shape} and {classes.shape}, not "
            f"[images, {SIDE}, {SIDE}] and [images]. Put the right files in their places."
        )
    if len(classes) and classes.max() > 9:
        raise DataError(f"{labels} has the label {classes.max()}, which is no digit.")
    return tuple(map(Digit, pixels, classes.tolist()))


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a file in the idx format, packed by gzip: uint8, of the shape in its header.

    Raises:
        DataError: the file is damaged, or holds something else than bytes.
    """
    packed = read_bytes(path, LIMIT)
    with reading(path):
        content = unpack(packed, LIMIT)
        axes = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
        if not axes:
            raise ValueError("it has no header of idx with bytes")
        start = 4 + 4 * axes
        shape = tuple(np.frombuffer(content[:start], ">u4", offset=4, count=axes).tolist())
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
