"""Decoding, alignment and language models of connectionist temporal classification, against enumeration."""

import collections
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import decoding, losses

CLASSES, TIME, BLANK = 3, 4, 1


def collapse(path):
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def draw(seed, rows=6):
    random = np.random.default_rng(seed)
    logits = (2 * random.normal(size=(rows, TIME, CLASSES))).astype(np.float32)
    lengths = np.arange(rows) % (TIME + 1)
    logits[np.arange(TIME) >= lengths[:, None]] = np.nan
    return logits, lengths


search = jax.jit(decoding.ctc_beam_search, static_argnames=("beams", "max_length", "blank"))


def scores_of_paths(logits):
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    for path in itertools.product(range(CLASSES), repeat=len(logits)):
        yield path, float(sum(log_probs[t, k] for t, k in enumerate(path)))


def sequences_of(logits):
    """Log-probability of every label sequence."""
    found = collections.defaultdict(list)
    for path, score in scores_of_paths(logits):
        found[collapse(path)].append(score)
    return {labels: np.logaddexp.reduce(scores) for labels, scores in found.items()}


def test_greedy_takes_the_best_path():
    logits, lengths = draw(0)
    labels, numbers = jax.jit(decoding.ctc_greedy, static_argnums=2)(logits, lengths, BLANK)
    for x, time, row, number in zip(logits, lengths, np.asarray(labels), numbers, strict=True):
        best = max(scores_of_paths(x[:time]), key=lambda item: item[1])[0]
        assert tuple(row[:number]) == collapse(best)
        assert (row[number:] == BLANK).all()


@pytest.mark.parametrize("labels", [(), (0,), (0, 2), (0, 0), (2, 0, 0)])
def test_the_alignment_is_the_best_path_of_the_labels(labels):
    logits, lengths = draw(1)
    padded = np.tile([*labels, *[9] * (3 - len(labels))], (len(logits), 1))
    numbers = np.full(len(logits), len(labels))
    aligned = np.asarray(
        jax.jit(decoding.ctc_align, static_argnums=4)(logits, lengths, padded, numbers, BLANK)
    )
    feasible = losses.ctc_feasible(lengths, padded, numbers)
    for x, time, row, possible in zip(logits, lengths, aligned, feasible, strict=True):
        assert (row[time:] == -1).all()
        paths = [item for item in scores_of_paths(x[:time]) if collapse(item[0]) == labels]
        assert bool(paths) == bool(possible)
        if paths:
            best = max(paths, key=lambda item: item[1])[0]
            assert [BLANK if i < 0 else labels[i] for i in row[:time]] == list(best)
        else:
            assert (row == -1).all()


def read(found, row):
    return {
        tuple(labels[:number].tolist()): float(log_prob)
        for labels, number, log_prob, score in zip(*(np.asarray(leaf[row]) for leaf in found), strict=True)
        if score > -np.inf
    }


@pytest.mark.parametrize("seed", range(4))
def test_with_beams_enough_the_search_finds_every_sequence_with_its_probability(seed):
    logits, lengths = draw(seed)
    found = jax.tree.map(np.asarray, search(logits, lengths, beams=40, max_length=TIME, blank=BLANK))
    for row, (x, time) in enumerate(zip(logits, lengths, strict=True)):
        expected = sequences_of(x[:time])
        ours = read(found, row)
        assert ours.keys() == expected.keys()
        for labels, score in expected.items():
            np.testing.assert_allclose(ours[labels], score, rtol=1e-4, atol=1e-5)
        assert (np.diff(found.scores[row][: len(ours)]) <= 0).all()
        best = max(expected, key=lambda labels: expected[labels])
        assert tuple(found.tokens[row, 0, : found.lengths[row, 0]].tolist()) == best


def test_few_beams_never_claim_more_than_there_is():
    logits, lengths = draw(7, rows=20)
    found = jax.tree.map(np.asarray, search(logits, lengths, beams=2, max_length=2, blank=BLANK))
    for row, (x, time) in enumerate(zip(logits, lengths, strict=True)):
        expected = sequences_of(x[:time])
        for labels, log_prob in read(found, row).items():
            assert len(labels) <= 2
            assert log_prob <= expected[labels] + 1e-5


def score_by(automaton, labels, weight, bonus):
    state, total = 0, 0.0
    for label in labels:
        total += weight * automaton.log_probs[state, label] + bonus
        state = automaton.next_state[state, label]
    return total + weight * automaton.final[state]


@pytest.mark.parametrize("kind", ["lexicon", "character_ngram"])
def test_a_language_model_changes_the_order_as_the_formula_says(kind):
    words = [(0,), (0, 2), (2, 0, 0), (2,)]
    automaton = (
        decoding.lexicon({word: -0.5 * len(word) for word in words}, CLASSES)
        if kind == "lexicon"
        else decoding.character_ngram(words, CLASSES, order=3)
    )
    weight, bonus = 0.7, 0.3
    logits, lengths = draw(3)
    options = {"beams": 40, "max_length": TIME, "blank": BLANK}
    found = search(logits, lengths, **options, language=automaton, language_weight=weight, label_bonus=bonus)
    found = jax.tree.map(np.asarray, found)
    for row, (x, time) in enumerate(zip(logits, lengths, strict=True)):
        expected = {
            labels: log_prob + score_by(automaton, labels, weight, bonus)
            for labels, log_prob in sequences_of(x[:time]).items()
        }
        expected = {labels: score for labels, score in expected.items() if score > -np.inf}
        assert read(found, row).keys() == expected.keys()
        if kind == "lexicon":
            assert expected.keys() <= set(words)
        scores = sorted(expected.values(), reverse=True)
        np.testing.assert_allclose(found.scores[row][: len(scores)], scores, rtol=1e-4, atol=1e-5)


def witten_bell(sequences, context, label, classes):
    """The recursion of the docstring, from counts made anew."""
    if context is None:
        return 1 / (classes + 1)
    padded = [("^", *sequence, "$") for sequence in sequences]
    size = len(context)
    after = collections.Counter(
        row[i] for row in padded for i in range(1, len(row)) if i >= size and row[i - size : i] == context
    )
    lower = witten_bell(sequences, context[1:] if context else None, label, classes)
    if not after:
        return lower
    return (after[label] + len(after) * lower) / (after.total() + len(after))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_character_model_is_that_of_witten_and_bell(order):
    random = np.random.default_rng(0)
    sequences = [tuple(random.integers(0, 4, random.integers(0, 6)).tolist()) for _ in range(12)]
    automaton = decoding.character_ngram(sequences, 5, order)
    for sequence in [(), (0, 1, 2), (3, 3, 3, 4, 0), *sequences[:4]]:
        expected = 0.0
        padded = ("^", *sequence, "$")
        for i in range(1, len(padded)):
            expected += math.log(witten_bell(sequences, padded[max(0, i - order + 1) : i], padded[i], 5))
        assert score_by(automaton, sequence, 1, 0) == pytest.approx(expected, rel=1e-5)


def test_any_batch_rank_and_errors(unchecked):
    logits, lengths = draw(0)
    options = {"beams": 3, "max_length": 3, "blank": BLANK}
    flat = search(logits, lengths, **options)
    folded = search(logits.reshape(2, 3, TIME, CLASSES), lengths.reshape(2, 3), **options)
    np.testing.assert_array_equal(np.reshape(folded.tokens, flat.tokens.shape), flat.tokens)
    assert decoding.ctc_greedy(logits[4], lengths[4:5].reshape(()), BLANK)[0].shape == (TIME,)
    with pytest.raises(ValueError, match="must have 3 classes, got 4"):
        decoding.ctc_beam_search(logits, lengths, 3, 3, language=decoding.lexicon([(3,)], 4))
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2, got 3"):
        decoding.lexicon([(0, 3)], 3)
    with pytest.raises(ValueError, match="there is no sequence"):
        decoding.character_ngram([], 3, 2)
    with pytest.raises(ValueError, match=r"lengths must have shape \(6,\)"):
        decoding.ctc_align(logits, lengths[:2], jnp.zeros((6, 1), int), lengths)
