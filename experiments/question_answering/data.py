"""Batches of questions: as sequences of words, or by sentences, each distinct one once in a batch."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from experiments.common.text.vocabulary import UNKNOWN, Vocabulary
from experiments.datasets.babi import Question
from lstmjax.training.batching import pad

FACTS = 3
"""Maximum number of supporting facts per question in a batch; of more, the last ones are used."""


class SentenceBatch(NamedTuple):
    """Questions and their stories by sentences. Padding rows have a story of length 0 and task 0."""

    sentences: Int[np.ndarray, "distinct words"]
    """The distinct sentences of all stories, and the questions, as word ids."""
    sentence_lengths: Int[np.ndarray, " distinct"]
    story: Int[np.ndarray, "rows time"]
    """Indices into `sentences` of the sentences of each story."""
    story_lengths: Int[np.ndarray, " rows"]
    question: Int[np.ndarray, " rows"]
    """Index into `sentences` of each question."""
    facts: Int[np.ndarray, "rows facts"]
    """Indices of the supporting facts in the story; -1 for padding, or if outside the memory."""
    answers: Int[np.ndarray, " rows"]
    """Classes of the answers."""
    tasks: Int[np.ndarray, " rows"]
    """The task of each question; 0 for padding rows."""


class SequenceBatch(NamedTuple):
    """Stories and questions as sequences. Padding rows have length 0 and task 0."""

    words: Int[np.ndarray, "rows time"]
    """The words of the story, followed by those of the question."""
    lengths: Int[np.ndarray, " rows"]
    answers: Int[np.ndarray, " rows"]
    """Classes of the answers."""
    tasks: Int[np.ndarray, " rows"]
    """The task of each question; 0 for padding rows."""


class Language(NamedTuple):
    """The vocabularies of words and of answers; the latter has one entry for each distinct answer string."""

    words: Vocabulary
    answers: Vocabulary

    @classmethod
    def of(cls, questions: Iterable[Question]) -> "Language":
        """Words and answers of the training split; all others are ``<unk>``, which is never correct."""
        questions = tuple(questions)
        words = {word for each in questions for text in (*each.story, each.question) for word in text}
        answers = {each.answer for each in questions}
        return cls(Vocabulary([UNKNOWN, *sorted(words)]), Vocabulary([UNKNOWN, *sorted(answers)]))


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Makes batches by sentences.

    Args:
      language: the vocabularies.
      memory: maximum number of sentences of a story; of a longer story the last ones are used.
    """

    language: Language
    memory: int

    def length(self, question: Question) -> int:
        """Number of sentences that are used."""
        return min(len(question.story), self.memory)

    def story(self, question: Question) -> tuple[tuple[str, ...], ...]:
        """The sentences that are used."""
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
      language: the vocabularies.
      longest: maximum number of words; of a longer sequence the last ones are used.
    """

    language: Language
    longest: int

    def length(self, question: Question) -> int:
        """Number of words that are used."""
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
"""Sentences are padded to a multiple of this number of words; all sentences of bAbI have fewer."""

_EMPTY = np.zeros(0, np.int32)
_NO_FACTS = np.full(FACTS, -1, np.int32)


def _room(sentences: int) -> int:
    """``sentences`` rounded up to a power of two, or midway between two, from 128 on: few shapes compile."""
    power = 1 << max(sentences - 1, 127).bit_length()
    return max(power * 3 // 4, 128) if sentences <= power * 3 // 4 else power


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _filled(values: Sequence[int] | np.ndarray, rows: int) -> Int[np.ndarray, " rows"]:
    filled = np.zeros(rows, np.int32)
    filled[: len(values)] = values
    return filled
