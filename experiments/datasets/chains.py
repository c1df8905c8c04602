"""Protein chains, and the states of their residues."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

STATES8 = "HGIEBTSC"
"""4-, 3- and 5-turn helices, strand, bridge, turn, bend, and coil, which other files write as blank or L."""


STATES3 = "HEC"
"""Helix, strand, coil."""


REDUCTION = {"H": "H", "G": "H", "I": "H", "E": "E", "B": "E", "T": "C", "S": "C", "C": "C"}
"""The state of the three for each of the eight states."""


AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""The twenty standard amino acids in alphabetical order of their letters, the order of the profiles."""


class Chain(NamedTuple):
    """A protein chain and its secondary structure."""

    id: str
    """The id in the file, or the file and the index of the row, from 0."""
    sequence: str
    """One-letter codes of the amino acids in upper case; X if unknown or not standard."""
    states: str
    """One letter per residue, of `STATES8` or `STATES3`; C may also stand for an unknown state."""
    valid: np.ndarray
    """bool [residues]: whether the state is known and counts."""
    profile: np.ndarray | None
    """float32 [residues, 20], frequencies of `AMINO_ACIDS` at each residue in related sequences; or None."""


def one_hot(sequence: str) -> Float[np.ndarray, "residues 20"]:
    """The amino acid of each residue in one-hot coding, float32; zeros if it is unknown."""
    letters, known = (np.frombuffer(text.encode("ascii"), np.uint8) for text in (sequence, AMINO_ACIDS))
    return (letters[:, None] == known).astype(np.float32)
