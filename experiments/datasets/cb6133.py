"""CB6133 and CB513 with profiles, in the array format of Zhou & Troyanskaya 2014 (arXiv:1403.1347).

    train  5,278 chains, the first of `cullpdb+profile_6133_filtered.npy.gz`
    valid  256 chains, the rest of that file: the usual split (as in https://github.com/alrojo/CB513)
    test   514 chains: `cb513+profile_split1.npy.gz`; the last two are the overlapping halves of one chain

The files were not available when this was written, and their SHA-256 is not known: they are identified by
their shape and by the constraints on every residue. They are read from the folder `protein`, as `.npy.gz` or
as unpacked `.npy`; nothing is downloaded. The address of the authors,
https://www.princeton.edu/~jzthree/datasets/ICML2014, may not respond; a copy is said to be at
https://zenodo.org/records/7764556. No licence is stated.

A chain is 700 positions of 57 columns, by the authors' description (quoted at
https://github.com/LucaAngioloni/ProteinSecondaryStructure-CNN/tree/master/dataset):

    [0, 22)   amino acid, one-hot: A C E D G F I H K M L N Q P S R T W V Y X, and NoSeq after the end
    [22, 31)  state, one-hot: L B E G I H S T, and NoSeq
    [31, 35)  terminals and solvent accessibilities, which are not read
    [35, 57)  profile, in the other order A C D E F G H I K L M N P Q R S T V W X Y, and NoSeq

L is written C here. A residue whose state is NoSeq does not count. The profile is the PSI-BLAST log-odds
passed through the logistic function, so the values of a residue do not sum to 1. The authors found later that
the file of 6133 has some chains twice, so valid, which is the end of it, may give optimistic results.
"""

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.arrays import read_header
from experiments.datasets.chains import AMINO_ACIDS, Chain
from experiments.datasets.files import VARIABLE, DataError, data_folder, open_file, reading

TRAIN, TEST = "cullpdb+profile_6133_filtered.npy", "cb513+profile_split1.npy"
"""The names of the unpacked files."""
CHAINS = {TRAIN: 5278 + 256, TEST: 514}
"""Number of chains in each file."""
TRAIN_CHAINS = 5278
"""Number of chains of the first file that are for training."""
PLACES, COLUMNS = 700, 57

_RESIDUES = "ACEDGFIHKMLNQPSRTWVYX"
_LABELS = "CBEGIHST"
_PROFILE = "ACDEFGHIKLMNPQRSTVWXY"
_ORDER = [35 + _PROFILE.index(each) for each in AMINO_ACIDS]


def load(data_dir: str | Path | None = None) -> Splits[Chain]:
    """Load the chains, with eight states.

    Raises:
        DataError: a file is missing or damaged or holds something else.
    """
    known = iter(chains(_find(TRAIN, data_dir), CHAINS[TRAIN]))
    train = tuple(islice(known, TRAIN_CHAINS))
    return Splits(train, tuple(known), tuple(chains(_find(TEST, data_dir), CHAINS[TEST])))


def chains(path: Path, count: int) -> Iterator[Chain]:
    """The ``count`` chains of a file, read one after the other.

    Raises:
        DataError: the file is not such an array, or a residue is invalid; the message says which.
    """
    name = path.name.partition("+")[0]
    with reading(path) as place, open_file(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
        dtype = _header(stream, path, count)
        for row in range(count):
            place.text = f"chain {row}"
            values = stream.read(PLACES * COLUMNS * dtype.itemsize)
            if len(values) < PLACES * COLUMNS * dtype.itemsize:
                raise DataError(f"{path} ends in chain {row} of {count}. Download it again.")
            with np.errstate(over="ignore"):  # becomes infinite, which is an error
                places = np.frombuffer(values, dtype).reshape(PLACES, COLUMNS).astype(np.float32)
            yield chain(places, f"{name}-{row}", str(path))
        if stream.read(1):
            raise DataError(f"{path} goes on after its {count} chains. Download it again.")


def chain(places: np.ndarray, name: str, path: str = "an array") -> Chain:
    """The chain of an array float32 [700, 57].

    Raises:
        DataError: a value is not finite, an amino acid or a state is not one-hot, a value of the profile is
            not from 0 to 1, or the chain has a gap.
    """
    where = f"{path}, chain {name}"
    if not np.isfinite(places).all():
        raise DataError(f"{where}: place {_first(~np.isfinite(places).all(axis=1))} has values not finite.")
    residues, labels, profile = places[:, :22], places[:, 22:31], places[:, 35:]
    outside = np.any((profile < 0) | (profile > 1), axis=1, keepdims=False)
    if outside.any():
        raise DataError(f"{where}: the profile of place {_first(outside)} is not from 0 to 1.")
    for title, block in (("amino acid", residues), ("state", labels)):
        wrong = (block.max(axis=1) != 1) | (np.abs(block).sum(axis=1) != 1)
        if wrong.any():
            raise DataError(f"{where}: the {title} of place {_first(wrong)} is not one-hot.")
    over = residues[:, -1] == 1
    length = int(np.argmax(over)) if over.any() else len(over)
    if length == 0 or not over[length:].all():
        raise DataError(f"{where}: it is empty, or goes on after its end at place {length}.")
    known = labels[:, -1] == 0
    if known[length:].any():
        raise DataError(f"{where}: a state at place {length + _first(known[length:])}, where it is over.")
    return Chain(
        name,
        "".join(_RESIDUES[each] for each in residues[:length].argmax(axis=1)),
        "".join((_LABELS + "C")[each] for each in labels[:length].argmax(axis=1)),
        known[:length].copy(),
        places[:length, _ORDER],
    )


def _header(stream: IO[bytes], path: Path, count: int) -> np.dtype:
    """Read the header before the values of an array; returns their dtype."""
    shape, by_columns, dtype = read_header(stream)
    if dtype.kind == "U":
        raise DataError(f"{path} holds {dtype}, not numbers.")
    if by_columns:
        raise DataError(f"{path} is stored by columns. Save it again with numpy.ascontiguousarray.")
    if shape not in ((count, PLACES * COLUMNS), (count, PLACES, COLUMNS)):
        raise DataError(
            f"{path} has the shape {shape}, not that of {count} chains, {(count, PLACES * COLUMNS)}."
        )
    return dtype


def _find(name: str, data_dir: str | Path | None) -> Path:
    folder = data_folder(data_dir) / "protein"
    for each in (folder / f"{name}.gz", folder / name):
        if each.exists():
            return each
    raise DataError(
        f"{name}.gz is not in {folder}. Download it from https://zenodo.org/records/7764556 (or from the "
        "authors, https://www.princeton.edu/~jzthree/datasets/ICML2014) and put it there, packed or not; or "
        f"let the variable {VARIABLE} (or the argument data_dir) name a folder that has protein/{name}.gz."
    )


def _first(flags: np.ndarray) -> int:
    return int(np.argmax(flags))
