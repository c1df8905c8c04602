"""Reads a user's sequences from FASTA, and writes a table of their predictions.

A file is read completely, or an error says where the problem is and what to do: nothing is skipped silently.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

import numpy as np
from jaxtyping import Float

from experiments.datasets.chains import AMINO_ACIDS
from experiments.datasets.files import DataError

UNKNOWN = "X"
"""The letter of an amino acid that is unknown or not one of the twenty."""

OTHERS = {
    "B": "D or N",
    "J": "I or L",
    "O": "pyrrolysine",
    "U": "selenocysteine",
    "X": "unknown",
    "Z": "E or Q",
}
"""Amino acid letters beyond the twenty: all are read as `UNKNOWN`, since no model was trained on them."""

HINTS = {
    "*": "a stop inside of a sequence: give the parts before and after it as records of their own",
    "-": "a gap of an alignment: remove the gaps",
    ".": "a gap of an alignment: remove the gaps",
}
"""Advice on invalid characters that occur in sequence files."""


class Record(NamedTuple):
    """A sequence and its name."""

    id: str
    """The first word of its header line."""
    sequence: str
    """Letters of the twenty amino acids and X."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user on how it was read."""


def read(lines: Iterable[str], name: str) -> Iterator[Record]:
    """The records of a file in FASTA format, each with at least one residue and a unique id.

    Lower case is read as upper case; white space, blank lines and a final ``*`` of a sequence are ignored.
    The letters in `OTHERS` become X, and a record without an id is named ``record-N``, both with a remark. An
    error is raised when its record is reached: use ``list`` to check the whole file first.

    Args:
      lines: lines of the file, with or without line ends.
      name: name of the file, for errors.

    Raises:
      DataError: there is no record; text before the first one; a record without residues; a duplicate id; a
        character that is not an amino acid. The message has the line and says what to do.
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
    """For each record, the number of its header line, the line, and the numbered lines of the sequence.

    Raises:
      DataError: there is text before the first record, or the file is not text.
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
    """The sequence in the lines, and remarks about it."""
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
    """A file name for an id: characters other than letters, digits, dots and hyphens become ``_``."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", id)[:60].lstrip(".")


def write_table(
    record: Record, probabilities: Float[np.ndarray, "residues states"], states: str, stream: TextIO
) -> None:
    """Write the prediction for a record: lines of position, amino acid, state and probabilities.

    Columns are separated by tabs and have a header. Lines before it that begin with ``#`` give the record's
    name and remarks; an empty line follows, so that tables of several records can be concatenated.

    Args:
      record: the record.
      probabilities: probability of each state, for each residue.
      states: the letters of states, in the order of ``probabilities``.
      stream: the output stream.
    """
    comments = [f"record: {record.id}", f"residues: {len(record.sequence)}", *record.remarks]
    stream.writelines(f"# {comment}\n" for comment in comments)
    stream.write("\t".join(["position", "amino_acid", "state", *states]) + "\n")
    residues = zip(record.sequence, probabilities, strict=True)
    for position, (letter, row) in enumerate(residues, start=1):
        shares = [f"{share:.4f}" for _, share in zip(states, row, strict=True)]
        stream.write("\t".join([str(position), letter, states[int(np.argmax(row))], *shares]) + "\n")
    stream.write("\n")
