"""Vocabularies of whole tokens."""

import collections
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from experiments.datasets.files import read_bytes, reading

UNKNOWN = "<unk>"


class Vocabulary:
    """The distinct tokens of a text; a token's id is its index.

    Args:
      tokens: distinct tokens in the order of their ids.

    Raises:
      ValueError: a token occurs twice.

    Example:
      >>> vocabulary = Vocabulary.of("a b b <unk>".split())
      >>> vocabulary.tokens, vocabulary.encode("b c a".split()).tolist()
      (('b', '<unk>', 'a'), [0, 1, 2])
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = tuple(tokens)
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self._numbers) < len(self.tokens):
            twice = [token for token, count in collections.Counter(self.tokens).items() if count > 1]
            raise ValueError(f"Vocabulary: tokens must be distinct, {twice[:3]} are there more than once.")

    @classmethod
    def of(cls, text: Iterable[str]) -> "Vocabulary":
        """The vocabulary of a text: tokens by descending frequency, ties in alphabetical order."""
        counts = collections.Counter(text)
        return cls(sorted(counts, key=lambda token: (-counts[token], token)))

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def encode(self, text: Sequence[str]) -> Int[np.ndarray, " tokens"]:
        """Ids of tokens, int32; unknown tokens become ``<unk>``.

        Raises:
          KeyError: a token is unknown, and the vocabulary has no ``<unk>``.
        """
        unknown = self._numbers.get(UNKNOWN)
        missing = {token for token in text if token not in self._numbers}
        if missing and unknown is None:
            raise KeyError(f"not in the vocabulary, which has no {UNKNOWN}: {sorted(missing)[:10]}")
        numbers = (self._numbers.get(token, unknown) for token in text)
        return np.fromiter(numbers, np.int32, len(text))

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Tokens of ids."""
        return [self.tokens[number] for number in numbers]

    def save(self, path: Path) -> None:
        """Write the tokens in order, as a JSON list."""
        path.write_text(json.dumps(self.tokens, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
          DataError: the file is missing or damaged.
        """
        content = read_bytes(path)
        with reading(path):
            tokens = json.loads(content)
            if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
                raise ValueError("it is no list of tokens")
            "".join(tokens).encode()
            return cls(tokens)
