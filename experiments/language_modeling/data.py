"""A text as numbers: what language models are trained and tested on, and how tokens are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from experiments import datasets
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets.text import EOS
from lstmjax.training.streams import TokenStream, Window


class Corpus(NamedTuple):
    """A data set as numbers."""

    vocabulary: Vocabulary
    train: Int[np.ndarray, " tokens"]
    valid: Int[np.ndarray, " tokens"]
    test: Int[np.ndarray, " tokens"]


def load_corpus(dataset: str, data_dir: Path | None = None, limit: int = 0) -> Corpus:
    """The tokens of a data set, of each split only so many if there is a limit.

    The vocabulary is that of the whole training set.
    """
    splits = datasets.load(dataset, data_dir)
    vocabulary = Vocabulary.of(splits.train)
    return Corpus(vocabulary, *(vocabulary.encode(part[: limit or None]) for part in splits))


def evaluation_windows(
    tokens: Int[np.ndarray, " tokens"], vocabulary: Vocabulary, rows: int, window: int
) -> Iterator[Window]:
    """Windows in which every token is a target once; before the first one comes the end of a line."""
    start = vocabulary.encode([line_end(vocabulary)])
    return TokenStream(np.concatenate([start, tokens]), rows, window).once()


def line_end(vocabulary: Vocabulary) -> str:
    """The token that ends a line: of words ``<eos>``, of characters the line feed."""
    return EOS if EOS in vocabulary.tokens else "\n"


def written(vocabulary: Vocabulary, token: int) -> str:
    """A token as it is written in a text: of words with a space after it, and lines ended."""
    if EOS not in vocabulary.tokens:
        return vocabulary.tokens[token]
    return "\n" if vocabulary.tokens[token] == EOS else f"{vocabulary.tokens[token]} "
