"""Metrics of captions against values by hand and a second computation."""

import math
from collections import Counter

import numpy as np
import pytest

from experiments.image_captioning import metrics
from experiments.image_captioning.data import words


def test_words_are_in_lower_case_and_without_punctuation():
    assert words("Two Men's tri-colored dogs (2) , running -- fast !") == [
        *("two", "men's", "tri-colored", "dogs", "2", "running", "fast")
    ]
    assert words(" . ") == []


def test_cider_d_by_hand():
    """Two pictures, one reference each; only unigrams: idf of a, b, c is log 2, that of "the" is 0."""
    references = [[["the", "a"]], [["the", "b"]]]
    found = metrics.cider_d([["a"], ["c"]], references)
    # The candidate is (log 2), its reference (0, log 2): cosine 1 of unigrams, 0 of longer ones.
    assert found[0] == pytest.approx(10 / 4 * math.exp(-1 / 72))
    assert found[1] == 0


def test_cider_d_clips_repeated_words():
    references = [[["a", "b"]], [["c", "d"]]]
    (repeated, _) = metrics.cider_d([["a", "a"], ["c", "d"]], references)
    # min(2, 1) * 1 / (2 * sqrt 2) of the unigrams' idf squared.
    assert repeated == pytest.approx(10 / 4 / (2 * math.sqrt(2)))


def plain_cider_d(candidates, references):
    """As the equations stand, order by order and reference by reference."""

    def count(text, order):
        return Counter(" ".join(text[start : start + order]) for start in range(len(text) - order + 1))

    scores = []
    for candidate, known in zip(candidates, references, strict=True):
        total = 0.0
        for order in (1, 2, 3, 4):
            for reference in known:
                ours, theirs = count(candidate, order), count(reference, order)
                every = sorted(set(ours) | set(theirs))
                weights = []
                for gram in every:
                    having = sum(any(count(text, order)[gram] for text in texts) for texts in references)
                    weights.append(math.log(len(references) / max(1, having)))
                a = np.array([ours[gram] for gram in every]) * weights
                b = np.array([theirs[gram] for gram in every]) * weights
                if a.any() and b.any():
                    cosine = np.minimum(a, b) @ b / np.linalg.norm(a) / np.linalg.norm(b)
                    total += cosine * math.exp(-((len(candidate) - len(reference)) ** 2) / 72)
        scores.append(10 * total / 4 / len(known))
    return scores


def drawn(rng, count):
    return [[str(word) for word in rng.integers(6, size=rng.integers(1, 9))] for _ in range(count)]


def test_cider_d_is_that_of_the_plain_equations():
    rng = np.random.default_rng(0)
    references = [drawn(rng, 1 + number % 3) for number in range(7)]
    candidates = drawn(rng, 7)
    found = metrics.cider_d(candidates, references)
    np.testing.assert_allclose(found, plain_cider_d(candidates, references), rtol=1e-9)
    assert metrics.figures([each[0] for each in references], references)["exact"] == 1


def test_bleu_is_that_of_the_plain_equations():
    """Corpus BLEU-2 with clipped counts, and the brevity penalty of the closest reference length."""
    candidates = [["a", "a", "b"], ["c"]]
    references = [[["a", "b", "c", "d"], ["b", "a"]], [["c", "d", "e"]]]
    # Unigrams: a (clipped), b, c: 3 of 4; bigrams: "a b", not "a a": 1 of 2. Closest lengths 2 and 3: 5.
    wanted = 100 * math.exp(1 - 5 / 4) * math.sqrt(3 / 4 * 1 / 2)
    assert metrics.bleu(candidates, references, 2) == pytest.approx(wanted)
    assert metrics.bleu([[], []], references, 4) == 0
