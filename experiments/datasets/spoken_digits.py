"""The Free Spoken Digit Dataset: six speakers say each digit fifty times, in English, at 8 kHz.

Recordings, of which a speaker says each digit:

    train            valid          test
    2,400 (10-49)    300 (5-9)      300 (0-4)

The test split is the official one, by the number of the recording; the validation split is the first ninth of
the official training split. All six speakers are in every split, so results say nothing of new speakers.
Silence at both ends is cut off. Licence: CC BY-SA 4.0.

In place of the published archive its folder may have `recordings-flac.zip`: the same samples, as FLAC.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.audio import samples
from experiments.datasets.files import DataError, DataFile, data_folder, fetch, reading, unarchive

RATE = 8000
"""Samples in a second."""

SHORTEST = RATE // 40
"""Samples of a frame of `audio.log_mel`; published recordings have 1,148 and more."""

PUBLISHED = DataFile(
    "fsdd",
    "free-spoken-digit-dataset-1.0.10.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz",
    "feb479fad3a37883c3d21ed7f982281c2dd1c18d5aefd7e8a5d50f58023392aa",
)

REPACKED = DataFile(
    "fsdd",
    "recordings-flac.zip",
    PUBLISHED.url,
    "c578298fb763b72b946f124742652f04b6c06198e7fe36c60c6024f80428dbac",
)
"""Its 3,000 recordings as FLAC, sample for sample."""


_NAME = r"(?:.*/)?([0-9])_([a-z]+)_([0-9]{1,4})\.(?:wav|flac)"
_LARGEST = 64 << 20  # bytes of all recordings, unpacked


class Recording(NamedTuple):
    """A spoken digit."""

    digit: int
    speaker: str
    number: int
    """Of the speaker's fifty recordings of the digit, from 0."""
    samples: np.ndarray
    """float32 [time], in [-1, 1)."""


def load(data_dir: str | Path | None = None) -> Splits[Recording]:
    """Load the recordings, ordered by number, speaker and digit.

    Raises:
        DataError: the archive is missing, damaged or holds something else.
    """
    repacked = (data_folder(data_dir) / REPACKED.dataset / REPACKED.name).exists()
    path = fetch(REPACKED if repacked else PUBLISHED, data_dir)
    every = recordings(path)
    counts = {part: sum(part_of(each) == part for each in every) for part in Splits._fields}
    if counts != {"train": 2400, "valid": 300, "test": 300}:
        raise DataError(f"{path} has {len(every)} recordings, not 3,000 in parts of 2,400, 300 and 300.")
    return Splits(*(tuple(each for each in every if part_of(each) == part) for part in Splits._fields))


def part_of(recording: Recording) -> str:
    """The split of a recording."""
    return "test" if recording.number < 5 else "valid" if recording.number < 10 else "train"


def recordings(path: Path) -> tuple[Recording, ...]:
    """The recordings of an archive, DIGIT_SPEAKER_NUMBER.wav or .flac, by number, speaker and digit.

    Raises:
        DataError: the archive cannot be read, or a recording is there twice, or not mono, at 8 kHz.
    """
    found = {}
    with reading(path) as place:
        for name, content in unarchive(path, _NAME, _LARGEST).items():
            place.text = name
            matched = re.fullmatch(_NAME, name)
            assert matched is not None
            key = int(matched[3]), matched[2], int(matched[1])
            if key in found:
                raise ValueError("the recording is there twice")
            found[key] = Recording(key[2], key[1], key[0], samples(content, RATE))
            if len(found[key].samples) < SHORTEST:
                raise ValueError(f"it has fewer than {SHORTEST} samples")
    return tuple(recording for _, recording in sorted(found.items()))
