"""Sequences of a person's own from FASTA, and a table of what is predicted for them.

What is read is what is there, or there is an error that says where and what to do: nothing is left out in
silence.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

import numpy as np
from jaxtyping import Float

from experiments.datasets.chains import AMINO_ACIDS
from experiments.datasets.files import DataError

UNKNOWN = "X"
"""What stands for an amino acid that is not known, or none of the twenty."""

OTHERS = {
    "B": "D or N",
    "J": "I or L",
    "O": "pyrrolysine",
    "U": "selenocysteine",
    "X": "unknown",
    "Z": "E or Q",
}
"""Letters of amino acids beyond the twenty: all are read as `UNKNOWN`, since no model has learnt them."""

HINTS = {
    "*": "a stop inside of a sequence: give the parts before and after it as records of their own",
    "-": "a gap of an alignment: remove the gaps",
    ".": "a gap of an alignment: remove the gaps",
}
"""What to do about signs that files of sequences do have."""


class Record(NamedTuple):
    """A sequence and its name."""

    id: str
    """The first word of its head line."""
    sequence: str
    """Of the twenty amino acids and X."""
    remarks: tuple[str, ...] = ()
    """What a person should know of how it was read."""


def read(lines: Iterable[str], name: str) -> Iterator[Record]:
    """The records of a file in FASTA format, each with at least one residue and an id of its own.

    Lower case is read as upper case; white space, blank lines and ``*`` at the end of a sequence are left
    out. The letters in `OTHERS` become X, and a record without an id is called ``record-N``, with a
    remark each. An error comes when its record is reached: a list has the whole file checked first.

    Args:
      lines: of the file, with their ends or without.
      name: of the file, for errors.

    Raises:
      DataError: there is no record; text before the first one; a record without residues; two of one id; a
        sign that is no amino acid. It says in which line, and what to do.
    """
    places: dict[str, int] = {}
    for line, head, body in records(lines, name):
        words = head.split()
        id = words[0] if words else f"record-{len(places) + 1}"
        if id in places:
            raise DataError(
                f"{name}, line {line}: {id!r} is the id of two records, the other in line {places[id]}. "
                "The id is the first word after '>': give each record its own."
            )
        places[id] = line
        unnamed = () if words else (f"no id in line {line}: it is called {id}",)
        sequence, remarks = _sequence(body, f"{name}, record {id!r}", line)
        yield Record(id, sequence, unnamed + remarks)
    if not places:
        raise DataError(f"{name} has no record: a line '>' and a name, and then lines with the sequence.")


def records(lines: Iterable[str], name: str) -> Iterator[tuple[int, str, list[tuple[int, str]]]]:
    """Of each record the number of its head line, the line, and numbered lines with the sequence.

    Raises:
      DataError: there is text before the first record, or the file is no text.
    """
    found: tuple[int, str, list[tuple[int, str]]] | None = None
    try:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
            if text.startswith(">"):
                if found:
                    yield found
                found = (number, text[1:], [])
            elif found:
                found[2].append((number, text))
            elif text:
                raise DataError(
                    f"{name}, line {number}: text before the first record: {text[:20]!r}. "
                    "Put a line with '>' and a name before each sequence."
                )
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no text in UTF-8 ({error}). If it is compressed, unpack it.") from error
    if found:
        yield found


def _sequence(body: list[tuple[int, str]], record: str, line: int) -> tuple[str, tuple[str, ...]]:
    """The sequence of the lines, and remarks about it."""
    letters = [(number, letter) for number, text in body for letter in "".join(text.split())]
    while letters and letters[-1][1] == "*":
        letters.pop()
    if not letters:
        raise DataError(f"{record}, line {line}: there is no sequence. Remove the record, or complete it.")
    found: dict[str, list[int]] = {}
    for position, (number, letter) in enumerate(letters, start=1):
        upper = letter.upper() if letter.isascii() else letter
        if upper in OTHERS:
            found.setdefault(upper, []).append(position)
        elif upper not in AMINO_ACIDS:
            hint = HINTS.get(letter, f"only {AMINO_ACIDS} and {''.join(OTHERS)} are read: remove it")
            raise DataError(
                f"{record}, line {number}, position {position} of the sequence: "
                f"{letter!r} is no amino acid ({hint})."
            )
    remarks = tuple(_remark(letter, positions) for letter, positions in sorted(found.items()))
    kept = (letter.upper() for _, letter in letters)
    return "".join(UNKNOWN if letter in OTHERS else letter for letter in kept), remarks


def _remark(letter: str, positions: list[int], most: int = 10) -> str:
    more = f" and {len(positions) - most} more" if len(positions) > most else ""
    places = ", ".join(map(str, positions[:most])) + more
    return f"{letter} ({OTHERS[letter]}) at {places}: read as {UNKNOWN}, an unknown amino acid"


def file_name(id: str) -> str:
    """What a file can be called of an id: other signs than letters, digits, dots and hyphens are ``_``."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", id)[:60].lstrip(".")


def write_table(
    record: Record, probabilities: Float[np.ndarray, "residues states"], states: str, stream: TextIO
) -> None:
    """Write what is predicted for a record: lines of position, amino acid, state and probabilities.

    Columns are separated by tabs and have a head. Lines before it that begin with ``#`` name the record and
    have its remarks; an empty line comes after it, so that tables of several records may follow each other.

    Args:
      record: what was read.
      probabilities: of each state, for each residue.
      states: the letters of states, in the order of ``probabilities``.
      stream: where to write.
    """
    comments = [f"record: {record.id}", f"residues: {len(record.sequence)}", *record.remarks]
    stream.writelines(f"# {comment}\n" for comment in comments)
    stream.write("\t".join(["position", "amino_acid", "state", *states]) + "\n")
    residues = zip(record.sequence, probabilities, strict=True)
    for position, (letter, row) in enumerate(residues, start=1):
        shares = [f"{share:.4f}" for _, share in zip(states, row, strict=True)]
        stream.write("\t".join([str(position), letter, states[int(np.argmax(row))], *shares]) + "\n")
    stream.write("\n")
