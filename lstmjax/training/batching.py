"""Batches of sequences of unequal length: the only module that pads sequences.

A batch is a function of the random seed and the step, so a run can be stopped and resumed anywhere, and the
batch of any step can be reproduced. Each epoch is a fresh permutation. Sequences go into buckets of similar
length, since every new shape is compiled again. The last batch of a bucket is filled up with rows of length
0, which have no effect by the sequence contract. So all batches of a bucket have one shape, no sequence is
left out, and a batch size above the number of sequences is no special case.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lstmjax.checks import check_sizes


class Padded(NamedTuple):
    """Sequences of unequal length as one array."""

    values: np.ndarray
    """``[batch, time, ...]``, zero beyond the lengths."""
    lengths: np.ndarray
    """``[batch]``, int32."""


def pad(sequences: Sequence[np.ndarray], time: int | None = None, rows: int | None = None) -> Padded:
    """Pad sequences ``[time_i, ...]`` with zeros and stack them into one array.

    Args:
      sequences: at least one array; all have the same dtype and the same axes after the first.
      time: length of the time axis; by default that of the longest sequence.
      rows: number of rows; by default one for each sequence. Further rows have length 0.

    Raises:
      ValueError: there is no sequence, dtypes or shapes differ, or ``time`` or ``rows`` is too small.

    Example:
      >>> padded = pad([np.array([1, 2, 3]), np.array([4])])
      >>> padded.values.tolist(), padded.lengths.tolist()
      ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    sequences = [np.asarray(sequence) for sequence in sequences]
    _check_time("pad", sequences)
    if not sequences:
        raise ValueError("pad: sequences is empty; their dtype and shape cannot be known.")
    kinds = sorted({(str(sequence.dtype), sequence.shape[1:]) for sequence in sequences})
    if len(kinds) > 1:
        raise ValueError(
            f"pad: sequences must have one dtype and one shape after the first axis, got {kinds}."
        )
    longest = max(len(sequence) for sequence in sequences)
    time = longest if time is None else time
    rows = len(sequences) if rows is None else rows
    if time < longest or rows < len(sequences):
        raise ValueError(
            f"pad: {len(sequences)} sequences of up to {longest} steps do not fit into {rows} rows of "
            f"{time} steps."
        )
    values = np.zeros((rows, time, *sequences[0].shape[1:]), sequences[0].dtype)
    lengths = np.zeros(rows, np.int32)
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return Padded(values, lengths)


def _check_time(name: str, sequences: Sequence[np.ndarray]) -> None:
    for number, sequence in enumerate(sequences):
        if np.ndim(sequence) < 1:
            raise ValueError(
                f"{name}: sequences must be arrays [time, ...], but sequence {number} is {sequence!r}; one "
                f"sequence by itself is [sequence]."
            )


def chunk(sequences: Sequence[np.ndarray], time: int, overlap: int = 0) -> tuple[np.ndarray, ...]:
    """Cut sequences ``[time_i, ...]`` into chunks of at most ``time`` steps, for training on long sequences.

    With ``overlap=1`` each chunk begins with the last step of the chunk before it, so that when a chunk is
    split into inputs ``[:-1]`` and targets ``[1:]`` every step except a sequence's first is a target exactly
    once.

    Raises:
      ValueError: ``time`` does not exceed ``overlap``.

    Example:
      >>> [piece.tolist() for piece in chunk([np.arange(6)], time=3, overlap=1)]
      [[0, 1, 2], [2, 3, 4], [4, 5]]
    """
    if not time > overlap >= 0:
        raise ValueError(f"chunk: time must exceed overlap, got time={time} and overlap={overlap}.")
    _check_time("chunk", sequences)
    return tuple(
        sequence[start : start + time]
        for sequence in sequences
        for start in range(0, max(len(sequence) - overlap, 1), time - overlap)
    )


def bucket_boundaries(lengths: Sequence[int], buckets: int) -> tuple[int, ...]:
    """Upper bounds of the lengths of at most ``buckets`` buckets with equally many sequences each."""
    quantiles = np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:], method="higher")
    return tuple(int(value) for value in np.unique(quantiles))


@dataclasses.dataclass(frozen=True, eq=False)
class Buckets:
    """The items of each batch, as a function of seed and step; all items of a batch are from one bucket.

    Args:
      bucket: ``[items]``, the index of each item's bucket.
      rows: the maximum number of items in a batch, for each bucket.
      order: ``[items]``, the sort key of the items within a bucket, for evaluation.

    Example:
      >>> buckets = Buckets(np.array([0, 1, 0, 0]), rows=(2, 5), order=np.arange(4))
      >>> [(bucket, items.tolist()) for bucket, items in buckets.once()]
      [(0, [0, 2]), (0, [3]), (1, [1])]
      >>> sorted(len(buckets.at(seed=1, step=step)[1]) for step in range(buckets.steps_per_epoch))
      [1, 1, 2]
    """

    bucket: np.ndarray
    rows: tuple[int, ...]
    order: np.ndarray

    @functools.cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each bucket, the indices of its items, in order."""
        order = np.argsort(self.order, kind="stable")
        return tuple(order[self.bucket[order] == number] for number in range(len(self.rows)))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that contain every item once; the same in every epoch."""
        return sum(-(-len(members) // rows) for members, rows in zip(self.members, self.rows, strict=True))

    def at(self, seed: int, step: int) -> tuple[int, np.ndarray]:
        """Bucket and items of the training batch of a step; each epoch is shuffled separately."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(seed, epoch)[position]

    def once(self) -> Iterator[tuple[int, np.ndarray]]:
        """Bucket and items of batches that contain every item once, in a fixed order, for evaluation."""
        yield from self._batches(self.members)

    @functools.lru_cache(maxsize=2)  # noqa: B019 (two epochs of a few arrays, for the life of the data set)
    def _epoch(self, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
        random = np.random.default_rng((seed, epoch))
        batches = self._batches(tuple(random.permutation(members) for members in self.members))
        return [batches[index] for index in random.permutation(len(batches))]

    def _batches(self, members: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
        return [
            (bucket, indices[start : start + rows])
            for bucket, (indices, rows) in enumerate(zip(members, self.rows, strict=True))
            for start in range(0, len(indices), rows)
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceBatches:
    """Padded batches of a data set of sequences, as a function of seed and step.

    Args:
      sequences: arrays ``[time_i, ...]`` of one dtype.
      batch_size: rows of a batch.
      buckets: the maximum number of different padded lengths.

    Raises:
      ValueError: there is no sequence, or ``batch_size`` or ``buckets`` is not positive.

    Example:
      >>> batches = SequenceBatches([np.arange(n) for n in (2, 7, 3)], batch_size=2, buckets=2)
      >>> batches.at(seed=0, step=0).values.shape in {(2, 3), (2, 7)}
      True
      >>> sum(int(batch.lengths.sum()) for batch in batches.once())
      12
    """

    sequences: Sequence[np.ndarray]
    batch_size: int
    buckets: int = 4

    def __post_init__(self) -> None:
        if len(self.sequences) == 0:
            raise ValueError("SequenceBatches: the data set is empty: there is nothing to make batches of.")
        check_sizes("SequenceBatches", batch_size=self.batch_size, buckets=self.buckets)

    @functools.cached_property
    def boundaries(self) -> tuple[int, ...]:
        """The padded lengths, shortest first."""
        return bucket_boundaries([len(sequence) for sequence in self.sequences], self.buckets)

    @functools.cached_property
    def _buckets(self) -> Buckets:
        lengths = np.array([len(sequence) for sequence in self.sequences])
        bucket = np.searchsorted(self.boundaries, lengths)
        return Buckets(bucket, (self.batch_size,) * len(self.boundaries), lengths)

    @property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each bucket, the indices of its sequences, shortest first."""
        return self._buckets.members

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that contain every sequence once; the same in every epoch."""
        return self._buckets.steps_per_epoch

    def at(self, seed: int, step: int) -> Padded:
        """The training batch of a step; each epoch is shuffled separately."""
        return self._padded(*self._buckets.at(seed, step))

    def once(self) -> Iterator[Padded]:
        """Every sequence once, in a fixed order, for evaluation."""
        for bucket, indices in self._buckets.once():
            yield self._padded(bucket, indices)

    def _padded(self, bucket: int, indices: np.ndarray) -> Padded:
        sequences = [self.sequences[index] for index in indices]
        return pad(sequences, self.boundaries[bucket], self.batch_size)


class Pairs(NamedTuple):
    """A batch of pairs of sequences, such as sources and targets."""

    source: Padded
    target: Padded
    items: np.ndarray
    """``[batch]``, int32: the index of each pair in the data set; -1 for rows that fill up the batch."""


@dataclasses.dataclass(frozen=True, eq=False)
class PairBatches:
    """Padded batches of pairs of sequences, of similar numbers of steps, as a function of seed and step.

    The bucket of a pair depends on its longer side. A batch of a bucket has as many rows of that length as
    fit into ``steps``: many rows of short sequences, few rows of long ones.

    Args:
      sources: arrays ``[time_i, ...]`` of one dtype.
      targets: as many arrays, with a dtype of their own.
      steps: the maximum number of steps of the longer side of a batch, padding included; a longer pair is a
        batch by itself.
      buckets: the maximum number of different shapes.

    Raises:
      ValueError: there is no pair, the sides differ in number, or ``steps`` or ``buckets`` is not positive.

    Example:
      >>> texts = [np.arange(n) for n in (2, 7, 3, 1, 2)]
      >>> batches = PairBatches(texts, texts[::-1], steps=8, buckets=2)
      >>> [(batch.target.values.shape, batch.items.tolist()) for batch in batches.once()]
      [((2, 3), [0, 4]), ((2, 3), [2, -1]), ((1, 7), [1]), ((1, 7), [3])]
    """

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    steps: int
    buckets: int = 6

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets) or not len(self.sources):
            raise ValueError(
                f"PairBatches: there must be as many sources as targets, and some, got {len(self.sources)} "
                f"and {len(self.targets)}."
            )
        check_sizes("PairBatches", steps=self.steps, buckets=self.buckets)

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        """``[pairs, 2]``."""
        sides = zip(self.sources, self.targets, strict=True)
        return np.array([(len(source), len(target)) for source, target in sides])

    @functools.cached_property
    def _buckets(self) -> Buckets:
        longer = self._lengths.max(axis=1)
        boundaries = bucket_boundaries(longer.tolist(), self.buckets)
        rows = tuple(max(self.steps // max(boundary, 1), 1) for boundary in boundaries)
        return Buckets(np.searchsorted(boundaries, longer), rows, longer)

    @functools.cached_property
    def _times(self) -> list[tuple[int, int]]:
        """For each bucket, the padded lengths of both sides."""
        return [tuple(self._lengths[members].max(axis=0).tolist()) for members in self._buckets.members]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that contain every pair once; the same in every epoch."""
        return self._buckets.steps_per_epoch

    def at(self, seed: int, step: int) -> Pairs:
        """The training batch of a step; each epoch is shuffled separately."""
        return self._padded(*self._buckets.at(seed, step))

    def once(self) -> Iterator[Pairs]:
        """Every pair once, shortest first, for evaluation."""
        for bucket, indices in self._buckets.once():
            yield self._padded(bucket, indices)

    def _padded(self, bucket: int, indices: np.ndarray) -> Pairs:
        rows, (source_time, target_time) = self._buckets.rows[bucket], self._times[bucket]
        items = np.full(rows, -1, np.int32)
        items[: len(indices)] = indices
        return Pairs(
            pad([self.sources[index] for index in indices], source_time, rows),
            pad([self.targets[index] for index in indices], target_time, rows),
            items,
        )
