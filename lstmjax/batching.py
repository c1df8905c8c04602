"""Batches of sequences of unequal length: the one place where sequences are padded.

A batch is a function of seed and step, so that a run can be stopped and resumed anywhere, and any step be
looked at again. Each epoch is a fresh permutation. Sequences go into buckets of similar length, since
every new shape compiles anew; the last batch of a bucket is filled up with rows of length 0, which by the
sequence contract change nothing. So all batches of a bucket have one shape, no sequence is left out, and a
batch size above the number of sequences is no special case.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Padded(NamedTuple):
    """Sequences of unequal length as one array."""

    values: np.ndarray
    """``[batch, time, ...]``, zero beyond the lengths."""
    lengths: np.ndarray
    """``[batch]``, int32."""


def pad(sequences: Sequence[np.ndarray], time: int | None = None, rows: int | None = None) -> Padded:
    """Put sequences ``[time_i, ...]`` into one array, filled up with zeros.

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


def chunk(sequences: Sequence[np.ndarray], time: int, overlap: int = 0) -> tuple[np.ndarray, ...]:
    """Cut sequences ``[time_i, ...]`` into pieces of at most ``time`` steps, for training on long ones.

    With ``overlap=1`` each piece begins with the step that the piece before it ended with, so that when
    a piece is split into inputs ``[:-1]`` and targets ``[1:]`` every step is a target exactly once.

    Raises:
      ValueError: ``time`` does not exceed ``overlap``.

    Example:
      >>> [piece.tolist() for piece in chunk([np.arange(6)], time=3, overlap=1)]
      [[0, 1, 2], [2, 3, 4], [4, 5]]
    """
    if not time > overlap >= 0:
        raise ValueError(f"chunk: time must exceed overlap, got time={time} and overlap={overlap}.")
    return tuple(
        sequence[start : start + time]
        for sequence in sequences
        for start in range(0, max(len(sequence) - overlap, 1), time - overlap)
    )


def bucket_boundaries(lengths: Sequence[int], buckets: int) -> tuple[int, ...]:
    """Upper lengths of at most ``buckets`` buckets that hold equally many sequences each."""
    quantiles = np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:], method="higher")
    return tuple(int(value) for value in np.unique(quantiles))


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceBatches:
    """Padded batches of a data set of sequences, as a function of seed and step.

    Args:
      sequences: arrays ``[time_i, ...]`` of one dtype.
      batch_size: rows of a batch.
      buckets: how many different padded lengths there are at most.

    Raises:
      ValueError: there is no sequence, or a number is not positive.

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
        if self.batch_size < 1 or self.buckets < 1:
            raise ValueError(
                f"SequenceBatches: batch_size and buckets must be positive, got {self.batch_size} and "
                f"{self.buckets}."
            )

    @functools.cached_property
    def boundaries(self) -> tuple[int, ...]:
        """The padded lengths, shortest first."""
        return bucket_boundaries([len(sequence) for sequence in self.sequences], self.buckets)

    @functools.cached_property
    def members(self) -> tuple[np.ndarray, ...]:
        """For each bucket, the indices of its sequences, shortest first."""
        lengths = np.array([len(sequence) for sequence in self.sequences])
        bucket = np.searchsorted(self.boundaries, lengths)
        order = np.argsort(lengths, kind="stable")
        return tuple(order[bucket[order] == number] for number in range(len(self.boundaries)))

    @property
    def steps_per_epoch(self) -> int:
        """How many batches hold every sequence once; the same in every epoch."""
        return sum(-(-len(members) // self.batch_size) for members in self.members)

    def at(self, seed: int, step: int) -> Padded:
        """The training batch of a step: epochs one after the other, each shuffled on its own."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._padded(*self._epoch(seed, epoch)[position])

    def once(self) -> Iterator[Padded]:
        """Every sequence once, in a fixed order: for evaluation."""
        for bucket, indices in self._batches(self.members):
            yield self._padded(bucket, indices)

    @functools.lru_cache(maxsize=2)  # noqa: B019 (two epochs of a few arrays, for the life of the data set)
    def _epoch(self, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
        random = np.random.default_rng((seed, epoch))
        batches = self._batches(tuple(random.permutation(members) for members in self.members))
        return [batches[index] for index in random.permutation(len(batches))]

    def _batches(self, members: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
        return [
            (bucket, indices[start : start + self.batch_size])
            for bucket, indices in enumerate(members)
            for start in range(0, len(indices), self.batch_size)
        ]

    def _padded(self, bucket: int, indices: np.ndarray) -> Padded:
        sequences = [self.sequences[index] for index in indices]
        return pad(sequences, self.boundaries[bucket], self.batch_size)
