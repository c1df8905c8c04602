"""Language models as weighted automata, for `ctc_beam_search`; public in `lstmjax.decoding`."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstmjax.checks import check_sizes
from lstmjax.types import Array


class Automaton(NamedTuple):
    """A language model with a finite number of states; state 0 is the first.

    `lexicon` and `character_ngram` make them; any other, such as a grammar, can be given as arrays.
    """

    next_state: Array
    """int32 ``[states, classes]``: the state after a label."""
    log_probs: Array
    """float32 ``[states, classes]``: of each label in each state; minus infinity where it is impossible."""
    final: Array
    """float32 ``[states]``: log-probability of the end in each state."""


def lexicon(words: Iterable[Sequence[int]] | Mapping[Sequence[int], float], classes: int) -> Automaton:
    """The automaton that knows the given words and no others, as a prefix tree.

    Args:
      words: sequences of labels; a mapping gives their log-probabilities, otherwise these are 0.
      classes: number of classes, with the blank.

    Raises:
      ValueError: there is no word, or a label is not a class.

    Example:
      >>> automaton = lexicon([(1, 2), (1, 3)], classes=4)
      >>> automaton.log_probs[0].tolist(), automaton.final.tolist()
      ([-inf, 0.0, -inf, -inf], [-inf, -inf, 0.0, 0.0])
    """
    scores = dict(words) if isinstance(words, Mapping) else dict.fromkeys(map(tuple, words), 0.0)
    _check_labels("lexicon", scores, classes)
    tree: list[dict[int, int]] = [{}]
    ends: dict[int, float] = {}
    for word, score in scores.items():
        state = 0
        for label in word:
            if label not in tree[state]:
                tree[state][label] = len(tree)
                tree.append({})
            state = tree[state][label]
        ends[state] = score
    next_state = np.zeros((len(tree), classes), np.int32)
    log_probs = np.full((len(tree), classes), -np.inf, np.float32)
    for state, children in enumerate(tree):
        for label, child in children.items():
            next_state[state, label], log_probs[state, label] = child, 0
    final = np.full(len(tree), -np.inf, np.float32)
    final[list(ends)] = list(ends.values())
    return Automaton(next_state, log_probs, final)


def character_ngram(sequences: Iterable[Sequence[int]], classes: int, order: int) -> Automaton:
    r"""An n-gram model of labels with the smoothing of Witten and Bell.

    .. math:: p(c | h) = \frac{n(h c) + d(h) \, p(c | h')}{n(h) + d(h)}

    where n counts occurrences, d(h) is the number of different labels seen after the context h, and h' is h
    without its first label. Below the unigrams all labels and the end are equally likely. A context begins
    with the sequence: the first labels are those of words, not of any place.

    Args:
      sequences: sequences of labels.
      classes: number of classes, with the blank; it gets a share of the probability like other labels that
        do not occur.
      order: number of labels in an n-gram, at least 1.

    Raises:
      ValueError: there is no sequence, a label is not a class, or the order is not positive.

    Source: Witten and Bell 1991; Chen and Goodman 1998, section 2.5.

    Example:
      >>> automaton = character_ngram([(1, 2), (1, 2), (1, 1)], classes=3, order=2)
      >>> bool(np.allclose(np.exp(automaton.log_probs).sum(-1) + np.exp(automaton.final), 1))
      True
    """
    check_sizes("character_ngram", order=order)
    counted = Counter(map(tuple, sequences))
    _check_labels("character_ngram", counted, classes)
    start, end = -1, classes
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for sequence, times in counted.items():
        padded = (start, *sequence, end)
        for i in range(1, len(padded)):
            for width in range(min(order, i + 1)):
                counts[padded[i - width : i]][padded[i]] += times
    contexts = sorted(counts, key=len)
    rows: dict[tuple[int, ...], np.ndarray] = {}
    for context in contexts:
        lower = rows[context[1:]] if context else np.full(classes + 1, 1 / (classes + 1))
        seen = counts[context]
        row = len(seen) * lower
        for label, times in seen.items():
            row[label] += times
        rows[context] = row / row.sum()

    def longest(context: tuple[int, ...]) -> tuple[int, ...]:
        while context not in rows:
            context = context[1:]
        return context

    first = longest((start,) if order > 1 else ())
    ordered = [first, *(context for context in contexts if context != first)]
    states = {context: state for state, context in enumerate(ordered)}
    next_state = np.array(
        [
            [
                states[longest((*context, label)[-(order - 1) :] if order > 1 else ())]
                for label in range(classes)
            ]
            for context in ordered
        ],
        np.int32,
    )
    log_probs = np.log(np.stack([rows[context] for context in ordered])).astype(np.float32)
    return Automaton(next_state, log_probs[:, :classes], log_probs[:, end])


def _check_labels(name: str, sequences: Iterable[Sequence[int]], classes: int) -> None:
    labels = {label for sequence in sequences for label in sequence}
    if not sequences:
        raise ValueError(f"{name}: there is no sequence of labels.")
    if unknown := sorted(label for label in labels if not 0 <= label < classes):
        raise ValueError(f"{name}: labels must be in 0..{classes - 1}, got {unknown[0]}.")
