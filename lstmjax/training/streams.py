"""Batches of one long stream of tokens, for truncated backpropagation through time with a carried state.

The stream is cut into as many rows of equal length as a batch has, and a batch is the next window of every
row: each row goes on where the window before left it, and so does the state that a model carries. A batch
is a function of its step, by slices of the stream: so the stream may be larger than memory
(`numpy.memmap`), and training can be resumed in the middle of an epoch.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Window(NamedTuple):
    """The next piece of every row, and what follows each of its tokens."""

    inputs: np.ndarray
    """``[batch, time]``, int32."""
    targets: np.ndarray
    """``[batch, time]``, int32: the token after each input."""
    lengths: np.ndarray
    """``[batch]``, int32: how many of a row's targets count; what lies beyond is zero."""
    first: np.ndarray
    """Scalar, bool: nothing came before, and the state starts afresh."""


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStream:
    """Windows of a stream, as a function of the step.

    With N tokens there are N - 1 targets: each token but the first.

    Args:
      tokens: ``[tokens]``, integers; anything that gives arrays for slices, such as a `numpy.memmap`.
      batch_size: rows of a batch.
      time: steps of a window.

    Raises:
      ValueError: a number is not positive, or the tokens are no vector of integers.

    Source: Mikolov et al. 2010 (Interspeech); these windows: Zaremba et al. 2014 (arXiv:1409.2329).

    Example:
      >>> stream = TokenStream(np.arange(10), batch_size=2, time=2)
      >>> [stream.at(0, step).inputs.tolist() for step in range(stream.steps_per_epoch)]
      [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
      >>> sum(int(window.lengths.sum()) for window in stream.once())
      9
    """

    tokens: np.ndarray
    batch_size: int
    time: int

    def __post_init__(self) -> None:
        _check("TokenStream", self.tokens, batch_size=self.batch_size, time=self.time)

    @property
    def steps_per_epoch(self) -> int:
        """How many windows have all their steps; the few tokens after the last of them are not trained on.

        Raises:
          ValueError: there is none.
        """
        return _row("TokenStream", self.tokens, self.batch_size, self.time) // self.time

    def at(self, seed: int, step: int) -> Window:
        """The training window of a step: epochs one after the other, each from the stream's beginning.

        ``seed`` is there since a batch is a function of seed and step; a stream is read in order.

        Raises:
          ValueError: the stream is too short to give every row a window.
        """
        del seed
        position = step % self.steps_per_epoch
        row = (len(self.tokens) - 1) // self.batch_size
        return _window(self.tokens, self.batch_size, row, position * self.time, self.time, self.time)

    def once(self) -> Iterator[Window]:
        """Every target once, in rows whose last windows are filled up: for evaluation.

        The rows after the first begin with a fresh state, though not at the stream's beginning: of one row,
        the targets have all that came before; of more, it is quicker.
        """
        row = -(-(len(self.tokens) - 1) // self.batch_size)
        for position in range(-(-row // self.time)):
            yield _window(self.tokens, self.batch_size, row, position * self.time, self.time, self.time)


@dataclasses.dataclass(frozen=True)
class WindowLengths:
    """A distribution of window lengths: normal around ``time``, now and then around half of it.

    Windows that are all as long would be cut at the same places in every epoch.

    Raises:
      ValueError: a number is not positive, the deviation is negative, or ``halved`` is no probability.

    Source: Merity, Keskar and Socher 2018 (arXiv:1708.02182, section 4.1).
    """

    time: int
    """Where most lengths lie."""
    stddev: float = 5.0
    """Standard deviation around it."""
    halved: float = 0.05
    """Probability that a length is drawn around half of ``time``."""
    shortest: int = 5
    """What a length is at least."""

    def __post_init__(self) -> None:
        if self.time < 1 or self.shortest < 1 or self.stddev < 0 or not 0 <= self.halved <= 1:
            raise ValueError(
                "WindowLengths: time and shortest must be positive, stddev not negative, halved in [0, 1], "
                f"got {self.time}, {self.shortest}, {self.stddev} and {self.halved}."
            )

    @functools.cached_property
    def mean(self) -> float:
        """The mean length, from a large draw."""
        return float(self.draw(np.random.default_rng(0), 100_000).mean())

    def draw(self, random: np.random.Generator, count: int) -> Int[np.ndarray, " count"]:
        """So many lengths."""
        center = np.where(random.random(count) < self.halved, self.time / 2, self.time)
        return np.maximum(random.normal(center, self.stddev).astype(np.int64), self.shortest)


@dataclasses.dataclass(frozen=True, eq=False)
class VariableTokenStream:
    """Windows of a stream that are drawn to be of unequal length, as a function of seed and step.

    In an epoch every target of a row is there once, and the last window has what is left. Windows are filled
    up to a multiple of some steps, so that few shapes are compiled; ``lengths``, the same in all rows, say
    how long they are.

    Args:
      tokens: ``[tokens]``, integers; anything that gives arrays for slices, such as a `numpy.memmap`.
      batch_size: rows of a batch.
      window_lengths: what the lengths are drawn from.
      multiple: of which the steps of a window are one.

    Raises:
      ValueError: a number is not positive, the tokens are no vector of integers, or give no row a target.

    Source: Merity, Keskar and Socher 2018 (arXiv:1708.02182, section 4.1).

    Example:
      >>> stream = VariableTokenStream(np.arange(1001), batch_size=2, window_lengths=WindowLengths(70))
      >>> windows = [stream.at(0, step) for step in range(20)]
      >>> starts = [step for step, window in enumerate(windows) if window.first]
      >>> [sum(int(window.lengths[0]) for window in windows[:end]) for end in starts]
      [0, 500, 1000]
      >>> sorted({window.inputs.shape for window in windows})
      [(2, 16), (2, 32), (2, 48), (2, 64), (2, 80)]
    """

    tokens: np.ndarray
    batch_size: int
    window_lengths: WindowLengths
    multiple: int = 16

    def __post_init__(self) -> None:
        name = "VariableTokenStream"
        _check(name, self.tokens, batch_size=self.batch_size, multiple=self.multiple)
        _row(name, self.tokens, self.batch_size, 1)

    @property
    def steps_per_epoch(self) -> int:
        """How many windows an epoch has in the mean, rounded: each has a number of its own."""
        row = (len(self.tokens) - 1) // self.batch_size
        return max(round(row / self.window_lengths.mean), 1)

    def at(self, seed: int, step: int) -> Window:
        """The training window of a step: epochs one after the other, each cut in its own way."""
        row = (len(self.tokens) - 1) // self.batch_size
        for epoch in itertools.count():
            starts = _starts(self.window_lengths, row, seed, epoch)
            if step < len(starts) - 1:
                break
            step -= len(starts) - 1
        start, end = starts[step : step + 2].tolist()
        time = -(-(end - start) // self.multiple) * self.multiple
        return _window(self.tokens, self.batch_size, row, start, end - start, time)


@functools.lru_cache(maxsize=4096)
def _starts(lengths: WindowLengths, row: int, seed: int, epoch: int) -> Int[np.ndarray, " windows_and_one"]:
    """Where the windows of an epoch begin in a row, and in the end its length."""
    random = np.random.default_rng((seed, epoch))
    ends = np.cumsum(lengths.draw(random, -(-row // lengths.shortest)))
    return np.concatenate([[0], ends[ends < row], [row]])


def _check(name: str, tokens: np.ndarray, **numbers: int) -> None:
    if min(numbers.values()) < 1:
        values = " and ".join(map(str, numbers.values()))
        raise ValueError(f"{name}: {' and '.join(numbers)} must be positive, got {values}.")
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"{name}: tokens must be a vector of integers, got {tokens.dtype} of shape {tokens.shape}."
        )


def _row(name: str, tokens: np.ndarray, rows: int, time: int) -> int:
    """How many targets each row has, if that is enough for a window."""
    row = (len(tokens) - 1) // rows
    if row < time:
        raise ValueError(
            f"{name}: {len(tokens)} tokens do not give {rows} rows a window of {time} steps each and what "
            f"follows: it takes {rows * time + 1}."
        )
    return row


def _window(tokens: np.ndarray, rows: int, row: int, position: int, length: int, time: int) -> Window:
    """So many targets from a position on in rows of ``row`` targets, filled up to ``time``."""
    inputs, targets = np.zeros((rows, time), np.int32), np.zeros((rows, time), np.int32)
    lengths = np.zeros(rows, np.int32)
    for number in range(rows):
        start = number * row + position
        end = min(start + length, (number + 1) * row, len(tokens) - 1)
        count = max(end - start, 0)
        piece = np.asarray(tokens[start : start + count + 1])
        inputs[number, :count] = piece[:count]
        targets[number, :count] = piece[1 : count + 1]
        lengths[number] = count
    return Window(inputs, targets, lengths, np.asarray(position == 0))
