"""Which phone is spoken when: the alignment of the prompts, as a file of the repository and as phrases.

`alignment.tsv` has a line for each prompt: its name, and its phones with their durations in steps of 10 ms,
such as ``_:8 |h:7 ə:5 l:7 oʊ2:21 _:12``. A bar is before the first phone of a word, a punctuation mark before
the first phone after one; 1 and 2 are the stress of a vowel; ``_`` is a pause. ``align`` makes it
(`aligner.py`), so that training needs no phones from text.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.datasets.files import DataError, read_bytes, reading
from experiments.speech_synthesis.text import PAUSE, PHONES, Phone

FILE = Path(__file__).parent / "alignment.tsv"

STEP = 160
"""Samples of a step: 10 ms."""

LONGEST_PAUSE = 15
"""Steps that a phrase keeps of the silence on each of its sides."""

TOKEN = re.compile(r"([,.?]?)(\|?)([^\d:|]+)([12]?):([0-9]{1,5})")


class Timed(NamedTuple):
    """A phone, or a pause, and its duration."""

    phone: Phone
    steps: int


class Phrase(NamedTuple):
    """Speech between two pauses."""

    phones: tuple[Phone, ...]
    """The first and the last are pauses."""
    steps: tuple[int, ...]
    """The duration of each, in steps of 10 ms."""
    start: int
    """The step of the prompt that it begins with."""
    end: str
    """What comes after it: a punctuation mark, one of ``,.?``, or nothing; ``.`` at the end."""


def read(path: Path = FILE) -> dict[str, list[Timed]]:
    """The timed phones of prompts, by their names.

    Raises:
      DataError: the file cannot be read, or a line is malformed.
    """
    found = {}
    content = read_bytes(path)
    with reading(path):
        lines = content.decode("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, tokens = line.partition("\t")
        matched = [TOKEN.fullmatch(token) for token in tokens.split()]
        if not matched or not all(each and each[3] in (PAUSE, *PHONES) and int(each[5]) for each in matched):
            raise DataError(f"{path}, line {number} is no name with its timed phones: restore the file.")
        found[name] = [
            Timed(Phone(each[3], int(each[4] or 0), bool(each[2]), each[1]), int(each[5]))
            for each in matched
            if each
        ]
    return found


def write(path: Path, alignment: Iterable[tuple[str, Sequence[Timed]]]) -> None:
    """Write the timed phones of prompts, in the form that `read` takes."""
    lines = []
    for name, timed in alignment:
        tokens = (
            f"{phone.mark}{'|' * phone.starts}{phone.symbol}{phone.stress or ''}:{steps}"
            for phone, steps in timed
        )
        lines.append(f"{name}\t{' '.join(tokens)}\n")
    path.write_text("".join(lines), "utf-8")


def phrases(timed: Sequence[Timed]) -> list[Phrase]:
    """Cut a prompt in the middle of its pauses; of these `LONGEST_PAUSE` steps are kept on each side."""
    starts = [0, *itertools.accumulate(each.steps for each in timed)]
    pauses = [place for place, each in enumerate(timed) if each.phone.symbol == PAUSE]
    found = []
    for first, last in itertools.pairwise(pauses):
        inner = timed[first + 1 : last]
        if not inner:
            continue
        before = timed[first].steps if first == 0 else timed[first].steps // 2
        after = timed[last].steps if last + 1 == len(timed) else -(-timed[last].steps // 2)
        before, after = (max(min(steps, LONGEST_PAUSE), 1) for steps in (before, after))
        pause = Phone(PAUSE)
        found.append(
            Phrase(
                (pause, *(each.phone for each in inner), pause),
                (before, *(each.steps for each in inner), after),
                starts[first + 1] - before,
                timed[last + 1].phone.mark if last + 1 < len(timed) else ".",
            )
        )
    return found
