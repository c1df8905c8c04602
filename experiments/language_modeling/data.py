"""Corpora of token ids for training and testing, and how tokens are written as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from experiments import datasets
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets.text import EOS
from lstmjax.training import ConfigError
from lstmjax.training.streams import TokenFile, TokenStream, Window


class Corpus(NamedTuple):
    """A data set as token ids."""

    vocabulary: Vocabulary
    train: Int[np.ndarray, " tokens"] | TokenFile
    valid: Int[np.ndarray, " tokens"]
    test: Int[np.ndarray, " tokens"]


def load_corpus(dataset: str, data_dir: Path | None = None, limit: int = 0) -> Corpus:
    """The token ids of a data set; only the first ``limit`` of each split unless that is 0.

    The vocabulary is that of the whole training set.
    """
    splits = datasets.load(dataset, data_dir)
    vocabulary = Vocabulary.of(splits.train)
    return Corpus(vocabulary, *(vocabulary.encode(part[: limit or None]) for part in splits))


def open_corpus(folder: Path) -> Corpus:
    """The token ids in files: the training set stays there, the others are read.

    Raises:
      ConfigError: a file is missing or invalid, or has an id that is no token.
    """
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    try:
        train, valid, test = (TokenFile(folder / f"{name}.npy") for name in ("train", "valid", "test"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--corpus {folder}: {error}") from error
    for tokens in (train, valid, test):
        for start in range(0, len(tokens), CHUNK):
            piece = tokens[start : start + CHUNK]
            if piece.min() < 0 or piece.max() >= len(vocabulary):
                raise ConfigError(f"{tokens.path} has ids beyond the {len(vocabulary)} of vocabulary.json.")
    return Corpus(vocabulary, train, valid[:].astype(np.int32), test[:].astype(np.int32))


CHUNK = 2**24
"""Tokens that are checked at once."""


def evaluation_windows(
    tokens: Int[np.ndarray, " tokens"], vocabulary: Vocabulary, rows: int, window: int
) -> Iterator[Window]:
    """Windows in which every token is a target once; the first one is preceded by the end of a line."""
    start = vocabulary.encode([line_end(vocabulary)])
    return TokenStream(np.concatenate([start, tokens]), rows, window).once()


def line_end(vocabulary: Vocabulary) -> str:
    """The token that ends a line: ``<eos>`` for words, the line feed for characters."""
    return EOS if EOS in vocabulary.tokens else "\n"


def written(vocabulary: Vocabulary, token: int) -> str:
    """A token as text: words with a space after them, and ``<eos>`` as a line break."""
    if EOS not in vocabulary.tokens:
        return vocabulary.tokens[token]
    return "\n" if vocabulary.tokens[token] == EOS else f"{vocabulary.tokens[token]} "
