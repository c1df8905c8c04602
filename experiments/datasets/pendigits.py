"""PenDigits (Alimoglu and Alpaydin 1996): digits as a pen wrote them, 250 of each of 44 writers.

Digits (writers):

    train         valid      test
    6,744 (27)    750 (3)    3,498 (14)

The test split is the official one, by writers of whom nothing else is used; the validation split is that of
the writers 3, 13 and 23 of the official training split. Licence: CC BY 4.0.
"""

import re
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, read_text, reading
from experiments.datasets.ink import Ink, of_strokes

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits"
TRAIN = DataFile(
    "pendigits",
    "pendigits-train",
    f"{UCI}/pendigits-orig.tra.Z",
    "a66225d68d7d68591e62944df1ad33b3f5aa608e2df2505844b41f5568a80da4",
    xz="21b74c3c2e8279c393e418ffdafe137549c8f788fdf196fce9bf515631792d4d",
)
TEST = DataFile(
    "pendigits",
    "pendigits-test",
    f"{UCI}/pendigits-orig.tes.Z",
    "ddb1c19e277a56c7ffe682cc024d6ab73696f9adcc1643ef9ed5aa753007e081",
    xz="065f3be2f402e3e92745e4db711cb6079d39b2ad3a5d528e0acdc5e0247767fb",
)
"""The SHA-256 are those of the unpacked files, and of copies packed by xz."""

_FARTHEST = 1 << 15  # a tablet's coordinates are 16 bits

VALID_WRITERS = ("train-3", "train-13", "train-23")


def load(data_dir: str | Path | None = None) -> Splits[Ink]:
    """Load the digits; raise DataError if a file is missing, damaged or holds something else."""
    known, test = (inks(read_text(file, data_dir), part) for file, part in ((TRAIN, "train"), (TEST, "test")))
    train = tuple(ink for ink in known if ink.writer not in VALID_WRITERS)
    return Splits(train, tuple(ink for ink in known if ink.writer in VALID_WRITERS), test)


def inks(text: str, part: str) -> tuple[Ink, ...]:
    """The digits of a file: a label, a comment with the writer's number, points between pen downs and ups.

    Writers of the two published files are numbered separately: they are called train-1, test-1 and so on.

    Raises:
        DataError: there is no digit, or one lacks its label, its writer or its points.
    """
    found = []
    with reading(f"pendigits-{part}") as place:
        for number, segment in enumerate(text.split(".SEGMENT")[1:], start=1):
            place.text = f"digit {number}"
            label = re.match(r' DIGIT .*"([0-9])"', segment)
            writer = re.search(r"\.COMMENT\s+\d\s+([0-9]{1,4})\s", segment)
            strokes = [
                np.array(stroke.split(), np.float64).reshape(-1, 2)
                for stroke in re.findall(r"\.PEN_DOWN([^.]*)", segment)
            ]
            if label is None or writer is None or not any(map(len, strokes)):
                raise DataError(f"pendigits-{part}: digit {number} has no label, no writer or no points.")
            if not all((np.abs(stroke) < _FARTHEST).all() for stroke in strokes):
                raise ValueError("a point is not on the tablet")
            found.append(of_strokes(strokes, label[1], f"{part}-{writer[1]}"))
    if not found:
        raise DataError(f"pendigits-{part} has no digits. Put the right file in its place.")
    return tuple(found)
