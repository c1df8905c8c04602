"""Figures of secondary structure, beside published examples and an oracle of sets."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets.chains import STATES3, STATES8
from experiments.protein_structure import metrics

ZEMLA = {
    "CHCHCHCHCHCC": 0.125,
    "CCCHHHHHCCCC": 0.632,
    "CHHHCHHHCHHC": 0.406,
    "CHHCCHHHHHCC": 0.523,
    "CCCHHHHHHCCC": 0.806,
}
"""Predictions for CHHHHHHHHHHC with their SOV over all states: Zemla et al. 1999, table 1."""

LIU = {
    "CCCHHHHCCCCC": 0.544,
    "CCCHHHHHHHCC": 0.903,
    "CCCHHHHHHHHC": 0.944,
}
"""What Liu and Wang 2018 (Source Code for Biology and Medicine 13:1), table 1, add to them for SOV'99."""


@pytest.mark.parametrize(("predicted", "expected"), (ZEMLA | LIU).items())
def test_the_published_table(predicted, expected):
    found = metrics.segment_overlap("CHHHHHHHHHHC", predicted, STATES3)
    assert found.total == pytest.approx(expected, abs=6e-4)
    assert math.isnan(found.by_state[1]), "there is no strand"


def test_the_published_figure():
    """Zemla et al. 1999, figure 1: strands."""
    found = metrics.segment_overlap("CCEEECCCCCCEEEEEECCC", "CCCCCCCEEEEECCCEECCC", STATES3)
    assert found.by_state[1] == pytest.approx(0.28)
    assert found.sums[1] == pytest.approx(4.2)
    assert found.norms[1] == 6 + 6 + 3, "the second strand is in two pairs, the first in none"


def runs(text, state, valid):
    """The segments of a state as sets of places, each grown from a place by its neighbours."""
    found = []
    for place, letter in enumerate(text):
        if letter == state and valid[place]:
            if found and place - 1 in found[-1]:
                found[-1].add(place)
            else:
                found.append({place})
    return found


def oracle(true, predicted, states, valid):
    """Sums and norms by the equations, over all pairs of sets."""
    sums, norms = [], []
    for state in states:
        total = norm = 0
        for first in runs(true, state, valid):
            partners = [second for second in runs(predicted, state, valid) if first & second]
            norm += len(first) * max(len(partners), 1)
            for second in partners:
                shared, extent = len(first & second), len(first | second)
                delta = min(extent - shared, shared, len(first) // 2, len(second) // 2)
                total += (shared + delta) / extent * len(first)
        sums.append(total)
        norms.append(norm)
    return sums, norms


@st.composite
def chains(draw, states):
    """True and predicted states in runs, so that there are segments, and what counts."""
    length = draw(st.integers(0, 40))
    run = st.tuples(st.sampled_from(states), st.integers(1, 8))

    def text():
        letters = "".join(state * times for state, times in draw(st.lists(run, min_size=length)))
        return letters[:length]

    seldom = st.sampled_from([True] * 7 + [False])
    return text(), text(), np.array(draw(st.lists(seldom, min_size=length, max_size=length)), bool)


@pytest.mark.parametrize("states", [STATES3, STATES8])
def test_the_overlap_is_that_of_sets(states):
    @settings(max_examples=40)
    @given(chains(states))
    def check(chain):
        true, predicted, valid = chain
        found = metrics.segment_overlap(true, predicted, states, valid)
        sums, norms = oracle(true, predicted, states, valid)
        np.testing.assert_allclose(found.sums, sums)
        np.testing.assert_array_equal(found.norms, norms)
        assert found.sums.shape == found.norms.shape == (len(states),)
        if valid.any():
            assert 0 <= found.total <= 1 + 1e-12
            assert metrics.segment_overlap(true, true, states, valid).total == pytest.approx(1)

    check()


def test_what_does_not_count_breaks_segments_as_the_end_of_a_chain_does():
    true, predicted = "HHHHHH?EEE", "CHHHHHEEEC"
    valid = np.array([1, 1, 1, 0, 1, 1, 0, 1, 1, 1], bool)
    found = metrics.segment_overlap(true, predicted, STATES3, valid)
    pieces = [(true[a:b], predicted[a:b]) for a, b in ((0, 3), (4, 6), (7, 10))]
    parts = [metrics.segment_overlap(*piece, STATES3) for piece in pieces]
    np.testing.assert_allclose(found.sums, sum(part.sums for part in parts))
    np.testing.assert_array_equal(found.norms, sum(part.norms for part in parts))
    whole = metrics.segment_overlap("HHHHHHH", "HHHHHHH", STATES3)
    assert whole.norms.tolist() == [7, 0, 0]


def test_the_overlap_of_a_test_set_is_the_mean_over_chains():
    short = metrics.segment_overlap("HHCC", "HHCC", STATES3)
    long = metrics.segment_overlap("HHHHHHEE", "CCCCCCEE", STATES3)
    nothing = metrics.segment_overlap("CC", "CC", STATES3, np.zeros(2, bool))
    assert math.isnan(nothing.total)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_state, total = metrics.mean_over_chains([short, long, nothing])
    assert total == pytest.approx((1 + 2 / 8) / 2)
    np.testing.assert_allclose(by_state, [0.5, 1, 1])


def test_confusion_counts_one_by_one():
    random = np.random.default_rng(0)
    true, predicted = ("".join(random.choice(list(STATES8), 50)) for _ in range(2))
    valid = random.random(50) < 0.7
    expected = np.zeros((8, 8), int)
    for one, other, counts in zip(true, predicted, valid, strict=True):
        expected[STATES8.index(one), STATES8.index(other)] += counts
    halves = [(text[:20], text[20:]) for text in (true, predicted)]
    found = metrics.confusion(*halves, (valid[:20], valid[20:]), STATES8)
    np.testing.assert_array_equal(found, expected)
    right = [one == other for one, other in zip(true, predicted, strict=True)]
    assert metrics.accuracy(found) == pytest.approx(np.mean(np.array(right)[valid]))


def test_what_does_not_count_may_have_any_letter_and_what_counts_may_not():
    valid = np.array([True, False])
    assert metrics.confusion(["H-"], ["HH"], [valid], STATES3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="'-' is none of the states HEC"):
        metrics.confusion(["H-"], ["HH"], [np.ones(2, bool)], STATES3)
    with pytest.raises(ValueError, match="3 states for 2 residues"):
        metrics.segment_overlap("HH", "HHH", STATES3)


def test_what_is_not_defined_is_nan_without_a_warning():
    confusion = metrics.confusion(["HHHC"], ["HHEC"], [np.ones(4, bool)], "HECB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        precision, recall = metrics.precision_and_recall(confusion)
        assert math.isnan(metrics.accuracy(np.zeros((3, 3), int)))
    np.testing.assert_array_equal(precision, [1, 0, 1, np.nan])
    np.testing.assert_array_equal(recall, [2 / 3, np.nan, 1, np.nan])


def test_eight_states_become_three():
    assert metrics.reduce(STATES8) == "HHHEECCC"
    assert metrics.reduce("H-X") == "H-X", "which stand for no state"


def test_the_table_has_every_state_and_all():
    true, predicted = "HHHHCCCC", "HHHHCCEE"
    confusion = metrics.confusion([true], [predicted], [np.ones(8, bool)], STATES3)
    overlap = metrics.segment_overlap(true, predicted, STATES3)
    lines = metrics.table(metrics.Scores(STATES3, confusion, [overlap])).splitlines()
    assert lines[0] == "| state | precision, % | recall, % | SOV, % | residues | predicted |"
    assert lines[2] == "| H | 100.0 | 100.0 | 100.0 | 4 | 4 |"
    assert lines[3] == "| E | 0.0 | n/a | n/a | 0 | 2 |"
    assert lines[4] == "| C | 100.0 | 50.0 | 75.0 | 4 | 2 |"
    assert lines[5] == "| **all** | 75.0 | 75.0 | 87.5 | 8 | 8 |"


def test_what_does_not_count_is_masked():
    assert metrics.known("HEC", np.array([True, False, True]), "-") == "H-C"
