"""Protein chains with their secondary structure (being written: nr25 first)."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, fetch, unknown_name

STATES8 = "HGIEBTSC"
STATES3 = "HEC"
REDUCTION = {"H": "H", "G": "H", "I": "H", "E": "E", "B": "E", "T": "C", "S": "C", "C": "C"}
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"

NR25 = DataFile(
    "protein",
    "promod3_nr25.npz",
    "https://git.scicore.unibas.ch/schwede/ProMod3",
    "f8eb1caf31dc866f08d9e9e3246a9db2f1837fb83d1a5c0d907d2dbab7b034c8",
)


class Chain(NamedTuple):
    """A protein chain and its secondary structure."""

    id: str
    sequence: str
    states: str
    valid: np.ndarray
    profile: np.ndarray | None


def load(name: str, data_dir: str | Path | None = None) -> Splits[Chain]:
    """Load the chains of `name`."""
    if name == "nr25":
        return nr25(data_dir)
    raise unknown_name("set of proteins", name, ("nr25",))


def nr25(data_dir: str | Path | None = None) -> Splits[Chain]:
    """The chains of promod3's structure database."""
    path = fetch(NR25, data_dir)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    sequence, states = (arrays[name].tobytes().decode("ascii") for name in ("sequence", "dssp8"))
    profile = arrays["profile"].astype(np.float32) / 255
    parts: dict[str, list[Chain]] = {"train": [], "valid": [], "test": []}
    bounds = arrays["offsets"].tolist()
    for name, part, start, stop in zip(
        arrays["ids"].tolist(), arrays["split"].tolist(), bounds, bounds[1:], strict=False
    ):
        chain = Chain(
            name, sequence[start:stop], states[start:stop], np.ones(stop - start, bool), profile[start:stop]
        )
        parts[part].append(chain)
    return Splits(*(tuple(parts[part]) for part in ("train", "valid", "test")))
