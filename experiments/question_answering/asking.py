"""Interactive question answering: the user enters sentences and questions, the reader answers."""

import re
from collections.abc import Callable, Iterable, Iterator

from experiments.common.text.vocabulary import UNKNOWN
from experiments.datasets.babi import Question, words
from experiments.question_answering.data import Language
from experiments.question_answering.pictures import Answered

Reader = Callable[[Question], Answered]


def converse(lines: Iterable[str], language: Language, read: Reader) -> Iterator[str]:
    """The responses to each line: a question ends with ``?``, an empty line begins a new story.

    Numbers at the beginning of lines, as in the bAbI files, are ignored. A line with an unknown word is
    reported and skipped, since without the word it would be another sentence.

    Args:
      lines: the sentences and questions of the user.
      language: the known words and answers.
      read: answers a question.
    """
    story: list[tuple[str, ...]] = []
    for line in lines:
        text = re.sub(r"^\d+ ", "", line.strip())
        is_question, told = text.endswith("?"), words(text)
        unknown = [word for word in told if word not in language.words.tokens or word == UNKNOWN]
        if not told:
            story = []
        elif unknown:
            kind = "question" if is_question else "sentence"
            yield f"unknown: {', '.join(dict.fromkeys(unknown))} (this {kind} is left out)"
        elif not is_question:
            story.append(told)
        elif not story:
            yield "there is no story yet"
        else:
            yield from told_answer(read(Question(0, tuple(story), told, "", ())))


def told_answer(answered: Answered, least: float = 0.1) -> Iterator[str]:
    """The answer, its probability, and the sentences that each hop attends to."""
    yield f"{answered.answer}   (confidence {answered.confidence:.0%})"
    weights = answered.weights
    for hop, looks in enumerate(() if weights is None else weights, start=1):
        story = answered.question.story[-len(looks) :]
        for place in looks.argsort()[::-1]:
            if looks[place] >= least:
                yield f"  hop {hop} looked at ({looks[place]:.0%}): {' '.join(story[place])}"
