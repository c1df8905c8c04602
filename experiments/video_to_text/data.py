"""Words as numbers, and batches of videos of moving digits, which are drawn anew at every step."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.common.text.vocabulary import UNKNOWN, Vocabulary
from experiments.video_to_text import grammar
from experiments.video_to_text.grammar import Split
from experiments.video_to_text.rendering import Handwriting, render
from lstmjax.training.batching import Pairs, pad

END = 0
"""The word that ends a sentence, and, before its first word, begins it."""

ENDING = "<end>"


def vocabulary_of(words: set[str]) -> Vocabulary:
    """The end, an unknown word, and the words in alphabetical order."""
    return Vocabulary([ENDING, UNKNOWN, *sorted(words)])


def digits_vocabulary(split: Split) -> Vocabulary:
    """All words of a grammar."""
    if split == "sync-draw":
        words = {"the", "digit", "is", "moving", "up", "down", "left", "right", "and"}
    else:
        usual = {"the", "digit", "moves", "and", "bounces", "then", "while"}
        words = {*usual, *grammar.SPEEDS, *grammar.DIRECTIONS}
    return vocabulary_of({*"0123456789", *words})


def encode(vocabulary: Vocabulary, sentence: str) -> np.ndarray:
    """The words of a sentence and the end, int32."""
    return np.append(vocabulary.encode(sentence.split()), np.int32(END))


def decode(vocabulary: Vocabulary, words: Sequence[int]) -> str:
    """The sentence before the end."""
    told = list(words)
    return " ".join(vocabulary.decode(told[: told.index(END)] if END in told else told))


@dataclasses.dataclass(frozen=True, eq=False)
class MovingDigits:
    """Batches of videos of moving digits, as a function of seed and step.

    Args:
      images: handwritten digits.
      vocabulary: of the sentences.
      digits: one or two in a video.
      split: which combinations there are.
      held_out: whether videos begin with combinations that are held out, or have none.
      frames: the fewest and the most frames of a video.
      rows: videos in a batch.
      count: videos of `once`.
      part: a number for each part of the data: parts with different numbers have different videos.
      alone: training steps at the beginning in which there is one digit in a video.
    """

    images: Handwriting
    vocabulary: Vocabulary
    digits: int
    split: Split
    held_out: bool
    frames: tuple[int, int]
    rows: int
    count: int
    part: int
    alone: int = 0

    def at(self, seed: int, step: int) -> Pairs:
        """The training batch of a step; no two steps have the same videos."""
        return self._batch((seed, step), self.rows, 1 if step < self.alone else self.digits)

    def once(self) -> Iterator[Pairs]:
        """``count`` videos, always the same, for evaluation."""
        for number in range(-(-self.count // self.rows)):
            first = number * self.rows
            batch = self._batch((2**32 + self.part, number), min(self.rows, self.count - first), self.digits)
            yield batch._replace(items=np.where(batch.items < 0, -1, batch.items + first))

    def references(self) -> Iterator[tuple[str, ...]]:
        """The sentences of the videos of `once`, as the only ones that are right."""
        for batch in self.once():
            for words in batch.target.values[batch.items >= 0]:
                yield (decode(self.vocabulary, words.tolist()),)

    @functools.cached_property
    def _longest(self) -> int:
        """Words of the longest sentence, with the end."""
        words = {"combinations": (9, 17), "sync-draw": (8, 17)}[self.split]
        return words[self.digits - 1] + 1

    def _batch(self, seed: tuple[int, int], count: int, digits: int) -> Pairs:
        rng = np.random.default_rng(seed)
        videos, sentences = [], []
        for _ in range(count):
            story = grammar.draw(rng, digits, self.split, self.held_out)
            frames = int(rng.integers(self.frames[0], self.frames[1], endpoint=True))
            videos.append(render(rng, story, self.images, frames))
            sentences.append(encode(self.vocabulary, story.sentence))
        items = np.arange(self.rows, dtype=np.int32)
        return Pairs(
            pad(videos, self.frames[1], self.rows),
            pad(sentences, self._longest, self.rows),
            np.where(items < count, items, -1).astype(np.int32),
        )
