"""Language models for words: the letters that follow letters, and a list of words."""

import collections
from collections.abc import Iterable

import numpy as np

from experiments.handwriting_recognition.data import Source, classes_of
from lstmjax import decoding
from lstmjax.decoding import Automaton

ORDER = 5
"""Letters of an n-gram."""


def character_model(source: Source, words: Iterable[str]) -> Automaton:
    """N-grams of the letters of words, each word as often as it is given."""
    return decoding.character_ngram(_classes(source, words), _number(source), ORDER)


def word_list(source: Source, words: Iterable[str]) -> Automaton:
    """The given words and no others, the logarithms of their shares being their log-probabilities."""
    counts = collections.Counter(_classes(source, words))
    total = sum(counts.values())
    shares = {word: float(np.log(count / total)) for word, count in counts.items()}
    return decoding.lexicon(shares, _number(source))


def _classes(source: Source, words: Iterable[str]) -> list[tuple[int, ...]]:
    return [tuple(classes_of(source, word).tolist()) for word in words]


def _number(source: Source) -> int:
    return len(source.letters) + 1
