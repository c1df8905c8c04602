"""What a phrase says, as numbers: phones and their neighbours, stress, and places in word and phrase."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.speech_synthesis.text import PAUSE, PHONES, Phone

SYMBOLS = ("", PAUSE, *PHONES)
"""What the number of a phone stands for; 0 is beyond a phrase."""

NEIGHBOURS = 2
"""Phones before and after that a phone is seen with."""

CONTEXT = 2 * NEIGHBOURS + 1

NUMBERS = CONTEXT + 12
"""Numbers that describe a phone, beside those that its neighbours and itself have as symbols."""

ENDS = (".", ",", "?")


def describe(phones: Sequence[Phone], end: str) -> Float[np.ndarray, "phones features"]:
    """The features of the phones of a phrase, pauses at its ends included.

    For each phone: the numbers in `SYMBOLS` of the two before it, of itself and of the two after it; the
    stress of all five; whether a word begins with it; its place in the word from both ends and the word's
    length, the word's place in the phrase from both ends and the number of words, the phone's place in the
    phrase from both ends (logarithms of one more); and the punctuation after the phrase.

    Args:
      phones: the first and the last are pauses.
      end: the punctuation mark after the phrase, one of `ENDS`, or nothing.
    """
    symbols = np.array([SYMBOLS.index(phone.symbol) for phone in phones])
    stress = np.array([phone.stress / 2 for phone in phones])
    starts = np.array([phone.starts or phone.symbol == PAUSE for phone in phones])
    word = np.cumsum(starts) - 1
    sizes = np.bincount(word)
    first = np.flatnonzero(starts)
    inside = np.arange(len(phones)) - first[word]
    places = [
        inside,
        sizes[word] - 1 - inside,
        sizes[word],
        word,
        word[-1] - word,
        np.full(len(phones), word[-1]),
    ]
    places += [np.arange(len(phones)), np.arange(len(phones))[::-1]]
    ends = np.tile([end == each for each in ENDS], (len(phones), 1))
    columns = [_around(symbols), _around(stress), starts[:, None], np.log1p(np.stack(places, axis=1)), ends]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _around(values: np.ndarray) -> np.ndarray:
    """Each value with the two before and the two after it, zeros beyond the ends."""
    padded = np.pad(values, NEIGHBOURS)
    return np.lib.stride_tricks.sliding_window_view(padded, CONTEXT)
