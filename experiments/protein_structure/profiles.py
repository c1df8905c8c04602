"""Profiles of a person's own: how often each amino acid stands at a residue, from an alignment in A3M.

That is the format of HHblits (``hhblits -oa3m``): FASTA whose first record is the sequence itself; the others
have a capital or a hyphen for each of its residues, and small letters, which are left out, between them.

The profiles that a model was trained on were made by another search, with weights of its own; how much worse
it does on these is not known.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from experiments.datasets.chains import AMINO_ACIDS
from experiments.datasets.files import DataError
from experiments.protein_structure.fasta import OTHERS, records

GAP = "-"

NO_SEQUENCE = ("ss_", "sa_", "aa_", "Consensus")
"""How the names of records begin that HH-suite puts into alignments, and that are no sequences."""


def read(lines: Iterable[str], name: str, sequence: str) -> Float[np.ndarray, "residues 20"]:
    """The profile of a sequence.

    Sequences are weighted by `weights`, since many of a kind say little more than one. Gaps and unknown amino
    acids do not count; where there is nothing else, the row is zero.

    Args:
      lines: of a file in A3M.
      name: of the file, for errors.
      sequence: whose profile it is to be: the first record of the file must be the same.

    Returns:
      Shares, float32, amino acids in the order of `AMINO_ACIDS`.

    Raises:
      DataError: there is no record; the first one is another sequence; one has other columns or another sign.
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
    """Weights by position, which add up to 1 (Henikoff and Henikoff 1994, J. Mol. Biol. 243:574).

    In each column, each kind of amino acid has the same weight, which the sequences that have it share; a
    sequence's weight is the mean over columns. Negative entries, which are gaps, have none.

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
