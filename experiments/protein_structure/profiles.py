"""Profiles of a user's sequences: frequencies of the amino acids at each residue, from an A3M alignment.

A3M is the format of HHblits (``hhblits -oa3m``): FASTA whose first record is the sequence itself; the others
have a capital letter or a hyphen for each of its residues, and lower case letters for insertions, which are
ignored.

The training profiles of a model were made by another search, with other sequence weights; how much its
accuracy drops on these profiles is not known.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from experiments.datasets.chains import AMINO_ACIDS
from experiments.datasets.files import DataError
from experiments.protein_structure.fasta import OTHERS, records

GAP = "-"

NO_SEQUENCE = ("ss_", "sa_", "aa_", "Consensus")
"""Prefixes of the names of records that HH-suite puts into alignments and that are not sequences."""


def read(lines: Iterable[str], name: str, sequence: str) -> Float[np.ndarray, "residues 20"]:
    """The profile of a sequence.

    Sequences are weighted by `weights`, since many similar ones add little information. Gaps and unknown
    amino acids do not count; where there is nothing else, the row is zero.

    Args:
      lines: lines of an A3M file.
      name: name of the file, for errors.
      sequence: the sequence; the first record of the file must be the same.

    Returns:
      Frequencies, float32, amino acids in the order of `AMINO_ACIDS`.

    Raises:
      DataError: there is no record; the first one is another sequence; a record has other columns or
        characters.
    """
    rows = []
    for line, head, body in records(lines, name):
        if head.startswith(NO_SEQUENCE):
            continue
        letters = "".join(text for _, text in body)
        columns = "".join(letter for letter in letters if not letter.islower() and letter != ".")
        unknown = sorted(set(columns) - set(AMINO_ACIDS) - set(OTHERS) - {GAP})
        if unknown or len(columns) != len(sequence):
            fault = f"has {', '.join(map(repr, unknown))}" if unknown else f"has {len(columns)} columns"
            raise DataError(
                f"{name}, line {line}: {head[:30]!r} {fault}; an alignment in A3M has a capital or a hyphen "
                f"for each of the {len(sequence)} residues, and small letters between them."
            )
        rows.append([AMINO_ACIDS.find(letter) for letter in columns])
    if not rows or rows[0] != [AMINO_ACIDS.find(letter) for letter in sequence]:
        raise DataError(
            f"{name}: the first record of an alignment must be the sequence that it is given for."
        )
    aligned = np.array(rows, np.int8)
    own = weights(aligned)
    totals = np.stack([own @ (aligned == number) for number in range(len(AMINO_ACIDS))], axis=1)
    return (totals / np.maximum(totals.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)


def weights(aligned: Int[np.ndarray, "sequences columns"]) -> Float[np.ndarray, " sequences"]:
    """Position-based sequence weights, which sum to 1 (Henikoff and Henikoff 1994, J. Mol. Biol. 243:574).

    In each column, each amino acid type has the same weight, which is shared by the sequences that have it; a
    sequence's weight is the mean over columns. Negative entries, which are gaps, have no weight.

    Example:
      >>> rows = [[AMINO_ACIDS.find(each) for each in row] for row in ("GYVGS", "GFDGF", "GYDGF", "GYQGG")]
      >>> weights(np.array(rows)).round(3).tolist()
      [0.267, 0.267, 0.2, 0.267]
    """
    own = np.zeros(aligned.shape)
    for column, values in zip(own.T, aligned.T, strict=True):
        kinds, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        shares = np.where(kinds < 0, 0.0, 1 / (counts * max((kinds >= 0).sum(), 1)))
        column[:] = shares[place]
    return own.sum(axis=1) / max(own.sum(), 1e-12)
