"""A user's own videos with captions, as of MSVD or MSR-VTT.

The folder has ``train.tsv``, ``valid.tsv`` and ``test.tsv``, with a video and a caption in each line, parted
by a tab; a video may have many captions. Either there is ``features.npz``, with an array [frames, features]
under the name of each video, or the names are those of files in the folder, see `video_files.py`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.arrays import check_arrays, read_arrays
from experiments.datasets.captioned import load_tables, path_within
from experiments.datasets.files import DataError
from experiments.video_to_text.video_files import read_frames, sampled

FEATURES = "features.npz"
LIMIT = 8 << 30
"""The most bytes of all features."""


class Captioned(NamedTuple):
    """A video with its captions."""

    frames: np.ndarray
    """uint8 [frames, side, side], or float [frames, features]."""
    captions: tuple[str, ...]
    """Words in lower case, parted by spaces; punctuation is left out."""


def load(folder: Path, most: int) -> Splits[Captioned]:
    """The videos of a folder, of longer ones so many frames.

    Raises:
      DataError: a file is missing or damaged, or a part is empty.
    """
    frames_of = _from_features(folder) if (folder / FEATURES).exists() else _from_files(folder)

    def make(name: str, captions: tuple[str, ...]) -> Captioned:
        return Captioned(sampled(frames_of(name), most), tuple(map(normalized, captions)))

    return load_tables(folder, make)


def normalized(caption: str) -> str:
    """A caption in lower case without punctuation."""
    return " ".join(re.findall(r"\w[\w'-]*", caption.lower()))


def _from_features(folder: Path) -> Callable[[str], np.ndarray]:
    path = folder / FEATURES
    arrays = read_arrays(path, LIMIT)
    check_arrays(arrays, dict.fromkeys(arrays, ("f", 2)), str(path))
    sizes = {array.shape[1] for array in arrays.values()}
    if len(sizes) > 1 or not all(array.size for array in arrays.values()):
        raise DataError(
            f"{path}: all arrays must be [frames, features], not empty, with equally many features."
        )

    def frames_of(name: str) -> np.ndarray:
        if name not in arrays:
            raise ValueError(f"{FEATURES} has no array of this name")
        return arrays[name].astype(np.float32)

    return frames_of


def _from_files(folder: Path) -> Callable[[str], np.ndarray]:
    def frames_of(name: str) -> np.ndarray:
        return read_frames(path_within(folder, name))

    return frames_of
