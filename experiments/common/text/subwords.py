"""Subword vocabularies, by SentencePiece."""

import io
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from jaxtyping import Int

from experiments.datasets.files import read_bytes, reading

UNKNOWN, START, END = 0, 1, 2
"""Ids of the special tokens. Characters that are not in the training text are encoded as bytes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Subwords:
    """A subword vocabulary trained on a text; encoding is lossless up to white space.

    White space between words counts as one space, and at the ends it is dropped; nothing else is changed.

    Args:
      model: the output of `learn`, in SentencePiece's own format.

    Source: Sennrich et al. 2016 (arXiv:1508.07909); Kudo and Richardson 2018 (arXiv:1808.06226).

    Example:
      >>> subwords = Subwords.learn(["a small house", "a smaller house", "the smallest houses"], 300)
      >>> subwords.decode(subwords.encode("a house ∀"))
      'a house ∀'
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Subwords":
        """Train a vocabulary of at most ``size`` subwords, bytes included, by byte pair encoding.

        Raises:
          ValueError: ``size`` is too small for the characters of the texts and 256 bytes.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=size,
                model_type="bpe",
                byte_fallback=True,
                character_coverage=1.0,
                hard_vocab_limit=False,
                normalization_rule_name="identity",
                num_threads=1,
                minloglevel=2,
                unk_id=UNKNOWN,
                bos_id=START,
                eos_id=END,
            )
        except RuntimeError as error:
            raise ValueError(f"Subwords: a vocabulary of {size} cannot be learned: {error}") from error
        return cls(model.getvalue())

    def __len__(self) -> int:
        """Number of subwords."""
        return len(self._processor)

    def encode(self, text: str) -> Int[np.ndarray, " pieces"]:
        """Ids of the subwords of a text, int32, followed by `END`."""
        return np.array([*self._processor.encode(" ".join(text.split())), END], np.int32)

    def decode(self, numbers: Sequence[int] | np.ndarray) -> str:
        """The text of subwords up to the first `END`, on one line.

        Byte subwords can form any byte sequence: invalid UTF-8 becomes the replacement character, and control
        characters, line breaks among them, become spaces.
        """
        before: list[int] = list(
            itertools.takewhile(lambda number: number != END, np.asarray(numbers).tolist())
        )
        return _CONTROL.sub(" ", self._processor.decode(before))

    def pieces(self, numbers: Sequence[int] | np.ndarray) -> list[str]:
        """The subwords as text, for plots: a new word begins with a low line."""
        return [self._processor.id_to_piece(number) for number in np.asarray(numbers).tolist()]

    def save(self, path: Path) -> None:
        """Write the vocabulary, as a SentencePiece file."""
        path.write_bytes(self._model)

    @classmethod
    def load(cls, path: Path) -> "Subwords":
        """Read what `save` wrote.

        Raises:
          DataError: the file is missing or damaged.
        """
        content = read_bytes(path)
        with reading(path):
            return cls(content)
