"""Lines of text: their words are written one by one, all in one hand."""

import textwrap
from collections.abc import Sequence

import jax

from experiments.datasets.files import DataError
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition.writing import path, sampling
from experiments.handwriting_recognition.writing.path import Word
from experiments.handwriting_recognition.writing.task import Saved
from lstmjax.types import Key

WIDTH = 32
"""Letters of a line."""


def write_text(
    saved: Saved, text: str, key: Key, bias: float, style: Word | None = None
) -> tuple[list[list[Ink]], list[str]]:
    """Write a text, broken into lines.

    Without a style, the longest word is written first, and the others in its hand.

    Returns:
      The inks of the words of each line, and the words that the network did not end, which are cut off.

    Raises:
      DataError: the text is empty or cannot be written.
    """
    lines = [line.split() for part in text.splitlines() for line in textwrap.wrap(part, WIDTH)]
    words = [word for line in lines for word in line]
    if not words:
        raise DataError("the text is empty: there is nothing to write.")
    of_first, of_rest = jax.random.split(key)
    samples: dict[int, sampling.Sample] = {}
    if style is None:
        first = max(range(len(words)), key=lambda number: len(words[number]))
        (samples[first],) = sampling.write(saved.model, saved.params, [words[first]], of_first, bias)
        style = samples[first].word
    rest = [number for number in range(len(words)) if number not in samples]
    if rest:
        texts = [words[number] for number in rest]
        hand: Sequence[Word] = [style] * len(texts)
        written = sampling.write(saved.model, saved.params, texts, of_rest, bias, hand)
        samples |= dict(zip(rest, written, strict=True))
    inks = iter([path.ink(samples[number].word) for number in range(len(words))])
    cut = [words[number] for number in range(len(words)) if not samples[number].ended]
    return [[next(inks) for _ in line] for line in lines], cut
