"""Asterisk's English prompts: one professional speaker, 563 telephone prompts, 25 minutes, 16 kHz.

Allison Smith's core sounds, published by Digium as raw samples for Asterisk
(https://downloads.asterisk.org/pub/telephony/sounds/releases); here as FLAC in one archive, with
`transcripts.tsv`: name, tab, text. Ten silences, two beeps and a prompt with a tone are left out. Licence:
CC BY-SA 3.0.

Prompts repeat each other: 54 are duplicates, and many share phrases. So the splits, of which none is
published, are of families: two prompts are related if a third or more of the word trigrams of the shorter one
are in the other, and a family is what is connected so.

    train              valid             test
    399 (19.3 min)     70 (1.9 min)      81 (2.9 min)

Of the word trigrams of the test split 8 per cent are in the training split, where every tenth prompt would
leave 46.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.audio import samples
from experiments.datasets.files import DataFile, fetch, member, reading, unarchive

RATE = 16_000
"""Samples in a second."""

FILE = DataFile(
    "asterisk-en",
    "allison-16khz-flac.zip",
    "https://downloads.asterisk.org/pub/telephony/sounds/releases",
    "fbd13e3bc1ad98d84b8acc83e1abc0e4814f84d386badf1b220de9134e3bb7ad",
)

NOT_SPEECH = re.compile(r"silence_\d+|confbridge-(join|leave)|vm-intro")
"""Names of the prompts that are left out."""

SHARED = 1 / 3
"""Share of the trigrams of the shorter of two prompts that makes them related."""

LIMITS = (0.12, 0.20)
"""Shares of the sound at which the validation and the training split begin."""

LARGEST = 60.0
"""Families with more seconds are in the training split."""


_LARGEST = 64 << 20  # bytes of all files


class Prompt(NamedTuple):
    """A prompt."""

    name: str
    text: str
    samples: np.ndarray
    """float32 [time], in [-1, 1)."""


def load(data_dir: str | Path | None = None) -> Splits[Prompt]:
    """Load the prompts, in order of their names.

    Raises:
        DataError: the archive is missing, damaged or holds something else.
    """
    return split(read(fetch(FILE, data_dir)))


def read(path: Path) -> tuple[Prompt, ...]:
    """The spoken prompts of an archive, in order of their names.

    Raises:
        DataError: the archive cannot be read, or a prompt is missing, there twice, or not mono, at 16 kHz.
    """
    contents = unarchive(path, r"transcripts\.tsv|[^/]+\.flac", _LARGEST)
    found: dict[str, Prompt] = {}
    with reading(path) as place:
        lines = member(contents, "transcripts.tsv").decode("utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            place.text = f"line {number} of transcripts.tsv"
            name, tab, text = line.partition("\t")
            if not tab or name in found:
                raise ValueError("it is no name, tab and text, or the name is there twice")
            if NOT_SPEECH.fullmatch(name) is None:
                if not words(text):
                    raise ValueError("there is no word")
                sound = member(contents, f"{name}.flac")
                place.text = f"{name}.flac"
                found[name] = Prompt(name, text, samples(sound, RATE))
        if not found:
            raise ValueError("it has no prompts")
    return tuple(found[name] for name in sorted(found))


def words(text: str) -> list[str]:
    """The words of a transcript in lower case, without remarks in brackets."""
    spoken = re.sub(r"\[.*?\]|\(.*?\)|<.*?>", " ", text.lower())
    return re.findall(r"[a-z0-9']+", spoken.replace("*", " star ").replace("#", " pound "))


def trigrams(text: str) -> set[tuple[str, ...]]:
    """The word trigrams of a transcript; all of its words where it has fewer than three."""
    own = words(text)
    return {tuple(own[start : start + 3]) for start in range(max(len(own) - 2, 1))}


def families(texts: Sequence[str]) -> list[int]:
    """For each transcript the number of the first one of its family."""
    grams = [trigrams(text) for text in texts]
    first = list(range(len(texts)))
    for one in range(len(texts)):
        for other in range(one):
            shared = len(grams[one] & grams[other])
            if shared and shared >= SHARED * min(len(grams[one]), len(grams[other])):
                low, high = sorted((first[one], first[other]))
                first = [low if number == high else number for number in first]
    return first


def split(prompts: Sequence[Prompt]) -> Splits[Prompt]:
    """Divide prompts by their families, in an order that hashes of texts give."""
    members: dict[int, list[Prompt]] = {}
    for number, prompt in zip(families([each.text for each in prompts]), prompts, strict=True):
        members.setdefault(number, []).append(prompt)
    total = sum(len(prompt.samples) for prompt in prompts)
    parts: dict[str, list[Prompt]] = {"train": [], "valid": [], "test": []}
    dealt = 0
    for family in sorted(members.values(), key=_order):
        length = sum(len(prompt.samples) for prompt in family)
        if length > LARGEST * RATE:
            parts["train"] += family
            continue
        place = sum(dealt >= limit * total for limit in LIMITS)
        parts[("test", "valid", "train")[place]] += family
        dealt += length
    return Splits(*(tuple(sorted(part, key=lambda each: each.name)) for part in parts.values()))


def _order(family: Sequence[Prompt]) -> bytes:
    return hashlib.sha256(" ".join(min(words(prompt.text) for prompt in family)).encode()).digest()
