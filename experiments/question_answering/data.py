"""Questions as numbers: as sequences of words, or by sentences, with each distinct one once in a batch."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from experiments.common.text.vocabulary import UNKNOWN, Vocabulary
from experiments.datasets.babi import Question
from lstmjax.training.batching import pad

FACTS = 3
"""How many supporting facts a batch has at most: the last ones of a question that has more."""


class SentenceBatch(NamedTuple):
    """Questions and their stories by sentences. Rows that fill up have a story of length 0 and no task."""

    sentences: Int[np.ndarray, "distinct words"]
    """The distinct sentences of all stories, and the questions, as numbers of words."""
    sentence_lengths: Int[np.ndarray, " distinct"]
    story: Int[np.ndarray, "rows time"]
    """Which of `sentences` a story consists of."""
    story_lengths: Int[np.ndarray, " rows"]
    question: Int[np.ndarray, " rows"]
    """Which of `sentences` is asked."""
    facts: Int[np.ndarray, "rows facts"]
    """The supporting facts as places in the story; -1 where there are no more, or beyond the memory."""
    answers: Int[np.ndarray, " rows"]
    """Numbers of the answers."""
    tasks: Int[np.ndarray, " rows"]
    """The task of each question; 0 for rows that fill up."""


class SequenceBatch(NamedTuple):
    """Stories and questions as sequences. Rows that fill up have length 0 and no task."""

    words: Int[np.ndarray, "rows time"]
    """The words of the story, and then those of the question."""
    lengths: Int[np.ndarray, " rows"]
    answers: Int[np.ndarray, " rows"]
    """Numbers of the answers."""
    tasks: Int[np.ndarray, " rows"]
    """The task of each question; 0 for rows that fill up."""


class Language(NamedTuple):
    """The words that there are, and the answers: one for each distinct string, a list as a whole."""

    words: Vocabulary
    answers: Vocabulary

    @classmethod
    def of(cls, questions: Iterable[Question]) -> "Language":
        """Words and answers of a training part; any others are ``<unk>``, which is never a right answer."""
        questions = tuple(questions)
        words = {word for each in questions for text in (*each.story, each.question) for word in text}
        answers = {each.answer for each in questions}
        return cls(Vocabulary([UNKNOWN, *sorted(words)]), Vocabulary([UNKNOWN, *sorted(answers)]))


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Makes batches by sentences.

    Args:
      language: words and answers as numbers.
      memory: the most sentences of a story; of a longer one the last are taken.
    """

    language: Language
    memory: int

    def length(self, question: Question) -> int:
        """How many sentences are taken."""
        return min(len(question.story), self.memory)

    def story(self, question: Question) -> tuple[tuple[str, ...], ...]:
        """The sentences that are taken."""
        return question.story[-self.memory :]

    def __call__(self, questions: Sequence[Question], time: int, rows: int) -> SentenceBatch:
        """A batch of ``rows`` stories of up to ``time`` sentences."""
        texts = [text for each in questions for text in (*self.story(each), each.question)]
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        encoded = [self.language.words.encode(text) for text in place] or [_EMPTY]
        room = min(_room(len(encoded)), rows * (time + 1))
        sentences = pad(encoded, _round_up(max(map(len, encoded)), WORDS), room)
        told = [np.array([place[text] for text in self.story(each)], np.int32) for each in questions]
        story = pad(told or [_EMPTY], time, rows)
        return SentenceBatch(
            sentences=sentences.values,
            sentence_lengths=sentences.lengths,
            story=story.values,
            story_lengths=story.lengths,
            question=_filled([place[each.question] for each in questions], rows),
            facts=np.array([self._facts(each) for each in questions] + [_NO_FACTS] * (rows - len(questions))),
            answers=_filled(self.language.answers.encode([each.answer for each in questions]), rows),
            tasks=_filled([each.task for each in questions], rows),
        )

    def _facts(self, question: Question) -> Int[np.ndarray, " facts"]:
        dropped = len(question.story) - self.length(question)
        kept = [max(fact - dropped, -1) for fact in question.facts[-FACTS:]]
        return np.array(kept + [-1] * (FACTS - len(kept)), np.int32)


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Makes batches of sequences of words.

    Args:
      language: words and answers as numbers.
      longest: the most words; of a longer sequence the last are taken.
    """

    language: Language
    longest: int

    def length(self, question: Question) -> int:
        """How many words are taken."""
        return min(sum(map(len, question.story)) + len(question.question), self.longest)

    def __call__(self, questions: Sequence[Question], time: int, rows: int) -> SequenceBatch:
        """A batch of ``rows`` sequences of up to ``time`` words."""
        texts = [[word for text in (*each.story, each.question) for word in text] for each in questions]
        encoded = [self.language.words.encode(text[-self.longest :]) for text in texts]
        padded = pad(encoded or [_EMPTY], time, rows)
        return SequenceBatch(
            words=padded.values,
            lengths=padded.lengths,
            answers=_filled(self.language.answers.encode([each.answer for each in questions]), rows),
            tasks=_filled([each.task for each in questions], rows),
        )


WORDS = 12
"""Sentences are padded to a multiple of so many words; all of bAbI's have fewer."""

_EMPTY = np.zeros(0, np.int32)
_NO_FACTS = np.full(FACTS, -1, np.int32)


def _room(sentences: int) -> int:
    """From 128 on a power of two, or the middle between two, not below a number: few shapes compile."""
    power = 1 << max(sentences - 1, 127).bit_length()
    return max(power * 3 // 4, 128) if sentences <= power * 3 // 4 else power


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _filled(values: Sequence[int] | np.ndarray, rows: int) -> Int[np.ndarray, " rows"]:
    filled = np.zeros(rows, np.int32)
    filled[: len(values)] = values
    return filled
