"""Batches of sequences of unequal length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmjax.training.batching import PairBatches, SequenceBatches, bucket_boundaries, chunk, pad


def numbered(lengths):
    """Sequences whose steps all hold different numbers above 0, so that each can be recognised."""
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end) + 1 for length, end in zip(lengths, ends, strict=True)]


def contents(batches):
    """The valid rows of batches, as a sorted list of tuples."""
    return sorted(
        tuple(row[:length].tolist())
        for batch in batches
        for row, length in zip(batch.values, batch.lengths, strict=True)
        if length
    )


data_sets = st.lists(st.integers(1, 12), min_size=1, max_size=15).map(numbered)


@settings(deadline=None, derandomize=True)
@given(data_sets, st.integers(1, 20), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2))
def test_every_epoch_holds_every_sequence_once(sequences, batch_size, buckets, seed, epoch):
    batches = SequenceBatches(sequences, batch_size, buckets)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    expected = sorted(tuple(sequence.tolist()) for sequence in sequences)
    assert contents(batches.at(seed, step) for step in steps) == expected
    assert contents(batches.once()) == expected


@settings(deadline=None, derandomize=True)
@given(data_sets, st.integers(1, 20), st.integers(1, 4))
def test_there_are_no_more_shapes_than_buckets_and_padding_is_zero(sequences, batch_size, buckets):
    batches = SequenceBatches(sequences, batch_size, buckets)
    drawn = [batches.at(0, step) for step in range(batches.steps_per_epoch)]
    assert len({batch.values.shape for batch in drawn}) <= buckets
    for batch in drawn:
        assert batch.values.shape[0] == len(batch.lengths) == batch_size
        padding = np.arange(batch.values.shape[1]) >= batch.lengths[:, None]
        assert (batch.values[padding] == 0).all()


def test_a_batch_depends_on_seed_and_step_alone():
    sequences = numbered([3, 5, 2, 7, 7, 1, 4])
    one, other = SequenceBatches(sequences, 2), SequenceBatches(sequences, 2)
    one.at(0, 0)
    for step in (9, 3, 200):
        np.testing.assert_array_equal(one.at(5, step).values, other.at(5, step).values)
    first, second = ([contents([one.at(seed, step)]) for step in range(20)] for seed in (0, 1))
    assert first != second
    epoch = one.steps_per_epoch
    assert first[:epoch] != first[epoch : 2 * epoch], "two epochs come in different orders"


def test_a_batch_larger_than_the_data_set_is_filled_up_with_empty_rows():
    batch = SequenceBatches(numbered([2, 3]), batch_size=5, buckets=1).at(0, 0)
    assert sorted(batch.lengths.tolist()) == [0, 0, 0, 2, 3]


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="data set is empty"):
        SequenceBatches([], 4)
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        SequenceBatches(numbered([2]), 0)
    with pytest.raises(ValueError, match="2 sequences of up to 3 steps do not fit into 2 rows of 2 steps"):
        pad(numbered([2, 3]), time=2)
    with pytest.raises(ValueError, match="one dtype and one shape"):
        pad([np.array([1, 2]), np.array([0.5])])
    with pytest.raises(ValueError, match="sequences is empty"):
        pad([])
    with pytest.raises(ValueError, match="time must exceed overlap, got time=1 and overlap=1"):
        chunk(numbered([2]), 1, overlap=1)


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 30), st.integers(2, 8))
def test_chunks_with_overlap_have_every_step_but_the_first_as_a_target_once(length, time):
    sequence = np.arange(length)
    pieces = chunk([sequence], time, overlap=1)
    np.testing.assert_array_equal(np.concatenate([piece[1:] for piece in pieces]), sequence[1:])
    np.testing.assert_array_equal(np.concatenate([piece[:-1] for piece in pieces]), sequence[:-1])
    assert max(map(len, pieces)) <= time


def test_chunks_keep_sequences_that_are_too_short_to_cut():
    assert [piece.tolist() for piece in chunk([np.arange(1), np.arange(0)], 4, overlap=1)] == [[0], []]


def test_boundaries_share_the_sequences_evenly():
    assert bucket_boundaries(list(range(1, 101)), 4) == (26, 51, 76, 100)
    assert bucket_boundaries([7, 7, 7], 4) == (7,)


@settings(deadline=None, derandomize=True)
@given(data_sets, st.integers(1, 30), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2))
def test_every_epoch_holds_every_pair_once(sources, steps, buckets, seed, epoch):
    targets = numbered([len(source) % 5 + 1 for source in sources])
    batches = PairBatches(sources, targets, steps, buckets)
    each = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    for found in ([batches.at(seed, step) for step in each], list(batches.once())):
        items = np.concatenate([batch.items for batch in found])
        assert sorted(items[items >= 0].tolist()) == list(range(len(sources)))
        for batch in found:
            rows, time = len(batch.items), max(batch.source.values.shape[1], batch.target.values.shape[1])
            assert rows * time <= steps or rows == 1
            for row, item in enumerate(batch.items):
                source, target = ([], []) if item < 0 else (sources[item], targets[item])
                for side, wanted in ((batch.source, source), (batch.target, target)):
                    assert side.values[row, : side.lengths[row]].tolist() == list(wanted)
        assert len({batch.source.values.shape for batch in found}) <= buckets


def test_pairs_that_cannot_be_are_told():
    one = [np.arange(3)]
    with pytest.raises(ValueError, match="as many sources as targets, and some, got 1 and 0"):
        PairBatches(one, [], 10)
    with pytest.raises(ValueError, match="steps must be a positive integer, got 0"):
        PairBatches(one, one, 0)
