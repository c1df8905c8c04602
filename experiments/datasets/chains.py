"""Protein chains, and the states of their residues."""

from typing import NamedTuple

import numpy as np

STATES8 = "HGIEBTSC"
"""Helices of 4, 3 and 5, strand, bridge, turn, bend, and coil, which other files write as blank or L."""


STATES3 = "HEC"
"""Helix, strand, coil."""


REDUCTION = {"H": "H", "G": "H", "I": "H", "E": "E", "B": "E", "T": "C", "S": "C", "C": "C"}
"""Of each of the eight states the one of the three."""


AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""The twenty standard amino acids in the order of their letters, which is that of profiles."""


class Chain(NamedTuple):
    """A protein chain and its secondary structure."""

    id: str
    """As the file has it, or the file and the number of the row, from 0."""
    sequence: str
    """One-letter codes of the amino acids in upper case; X where it is unknown or not standard."""
    states: str
    """One letter a residue, of `STATES8` or `STATES3`; a C may stand where the state is unknown."""
    valid: np.ndarray
    """bool [residues]: whose state is known and counts."""
    profile: np.ndarray | None
    """float32 [residues, 20], how often each of `AMINO_ACIDS` stands there in related sequences; or None."""
