"""Batches of one long stream of tokens, for truncated backpropagation through time with a carried state.

The stream is cut into as many rows of equal length as a batch has, and a batch is the next window of every
row: each window of a row begins where the previous one ended, and the state of the model is carried along. A
batch is a function of its step, by slices of the stream, so the stream may be larger than memory
(`TokenFile`), and training can be resumed in the middle of an epoch.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Window(NamedTuple):
    """The next window of every row, as inputs and targets."""

    inputs: np.ndarray
    """``[batch, time]``, int32."""
    targets: np.ndarray
    """``[batch, time]``, int32: the token after each input."""
    lengths: np.ndarray
    """``[batch]``, int32: the number of valid targets of each row; later entries are zero."""
    first: np.ndarray
    """Scalar, bool: whether this is the first window of the rows, at which the state is reset."""


class TokenFile:
    """The tokens of a file in NumPy's format, ``.npy``, of which only what a slice asks for is in memory.

    Each slice is read for itself: of a `numpy.memmap`, all pages that were ever read count as memory of the
    process. `numpy.lib.format.open_memmap` writes such a file piece by piece.

    Args:
      path: the file, a vector of integers.

    Raises:
      ValueError: it is not in this format, or is no vector.
      OSError: it cannot be read.

    Example:
      >>> import tempfile
      >>> path = f"{tempfile.mkdtemp()}/tokens.npy"
      >>> np.save(path, np.arange(10, dtype=np.uint16))
      >>> tokens = TokenFile(path)
      >>> len(tokens), tokens[2:5].tolist()
      (10, [2, 3, 4])
      >>> TokenStream(tokens, batch_size=2, time=2).at(0, 1).inputs.tolist()
      [[2, 3], [6, 7]]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(whole, np.memmap) or whole.ndim != 1:
            raise ValueError(f"TokenFile: {path} must have a vector, got shape {whole.shape}.")
        self.path, self.dtype, self.shape, self._start = Path(path), whole.dtype, whole.shape, whole.offset

    ndim = 1

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self.shape[0])

    def __getitem__(self, chosen: slice) -> np.ndarray:
        """A copy of consecutive tokens."""
        start, end, step = chosen.indices(len(self))
        if step != 1:
            raise ValueError(f"TokenFile: slices have consecutive tokens, got step {step}.")
        offset = self._start + start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count=max(end - start, 0), offset=offset)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStream:
    """Windows of a stream, as a function of the step.

    With N tokens there are N - 1 targets: each token but the first.

    Args:
      tokens: ``[tokens]``, integers; anything that gives arrays for slices, such as a `TokenFile`.
      batch_size: rows of a batch.
      time: steps of a window.

    Raises:
      ValueError: ``batch_size`` or ``time`` is not positive, or the tokens are not a vector of integers.

    Source: Mikolov et al. 2010 (Interspeech); these windows: Zaremba et al. 2014 (arXiv:1409.2329).

    Example:
      >>> stream = TokenStream(np.arange(10), batch_size=2, time=2)
      >>> [stream.at(0, step).inputs.tolist() for step in range(stream.steps_per_epoch)]
      [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
      >>> sum(int(window.lengths.sum()) for window in stream.once())
      9
    """

    tokens: np.ndarray | TokenFile
    batch_size: int
    time: int
    own: slice = dataclasses.field(default_factory=lambda: slice(None))
    """The rows that are read, such as `distributed.own_rows` of this process; the others are zeros."""

    def __post_init__(self) -> None:
        _check("TokenStream", self.tokens, batch_size=self.batch_size, time=self.time)

    @property
    def steps_per_epoch(self) -> int:
        """Number of full windows in a row; the few tokens after the last one are not trained on.

        Raises:
          ValueError: there is none.
        """
        return _row("TokenStream", self.tokens, self.batch_size, self.time) // self.time

    def at(self, seed: int, step: int) -> Window:
        """The training window of a step; each epoch begins at the beginning of the stream.

        ``seed`` is unused: it is an argument since batches are functions of seed and step.

        Raises:
          ValueError: the stream is too short to give every row a window.
        """
        del seed
        position = step % self.steps_per_epoch
        row = (len(self.tokens) - 1) // self.batch_size
        start = position * self.time
        return _window(self.tokens, self.batch_size, row, start, self.time, self.time, self.own)

    def once(self) -> Iterator[Window]:
        """Every target once, in rows whose last windows are padded, for evaluation.

        Each row begins with the initial state, though only the first begins at the start of the stream. With
        one row every target has its full context; several rows are faster.
        """
        row = -(-(len(self.tokens) - 1) // self.batch_size)
        for position in range(-(-row // self.time)):
            yield _window(self.tokens, self.batch_size, row, position * self.time, self.time, self.time)


@dataclasses.dataclass(frozen=True)
class WindowLengths:
    """A distribution of window lengths: normal around ``time``, with some lengths around half of it.

    With windows of one length, the stream would be cut at the same places in every epoch.

    Raises:
      ValueError: a length is not positive, the deviation is negative, or ``halved`` is not a probability.

    Source: Merity, Keskar and Socher 2018 (arXiv:1708.02182, section 4.1).
    """

    time: int
    """Mean of most lengths."""
    stddev: float = 5.0
    """Standard deviation of the lengths around their mean."""
    halved: float = 0.05
    """Probability that a length is drawn around half of ``time``."""
    shortest: int = 5
    """Minimum length."""

    def __post_init__(self) -> None:
        if self.time < 1 or self.shortest < 1 or self.stddev < 0 or not 0 <= self.halved <= 1:
            raise ValueError(
                "WindowLengths: time and shortest must be positive, stddev not negative, halved in [0, 1], "
                f"got {self.time}, {self.shortest}, {self.stddev} and {self.halved}."
            )

    @functools.cached_property
    def mean(self) -> float:
        """The mean length, estimated from a large sample."""
        return float(self.draw(np.random.default_rng(0), 100_000).mean())

    def draw(self, random: np.random.Generator, count: int) -> Int[np.ndarray, " count"]:
        """Draw ``count`` lengths."""
        center = np.where(random.random(count) < self.halved, self.time / 2, self.time)
        return np.maximum(random.normal(center, self.stddev).astype(np.int64), self.shortest)


@dataclasses.dataclass(frozen=True, eq=False)
class VariableTokenStream:
    """Windows of a stream with random lengths, as a function of seed and step.

    In an epoch every target of a row occurs once, and the last window has the remaining targets. Windows are
    padded to a multiple of some number of steps, so that few shapes are compiled; ``lengths``, the same in
    all rows, are their lengths without padding.

    Args:
      tokens: ``[tokens]``, integers; anything that gives arrays for slices, such as a `TokenFile`.
      batch_size: rows of a batch.
      window_lengths: the distribution of the lengths.
      multiple: the padded length of a window is a multiple of this.

    Raises:
      ValueError: a size is not positive, the tokens are not a vector of integers, or too few for the rows.

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

    tokens: np.ndarray | TokenFile
    batch_size: int
    window_lengths: WindowLengths
    multiple: int = 16
    own: slice = dataclasses.field(default_factory=lambda: slice(None))
    """As of `TokenStream`."""

    def __post_init__(self) -> None:
        name = "VariableTokenStream"
        _check(name, self.tokens, batch_size=self.batch_size, multiple=self.multiple)
        _row(name, self.tokens, self.batch_size, 1)

    @property
    def steps_per_epoch(self) -> int:
        """Mean number of windows in an epoch, rounded; the number differs between epochs."""
        row = (len(self.tokens) - 1) // self.batch_size
        return max(round(row / self.window_lengths.mean), 1)

    def at(self, seed: int, step: int) -> Window:
        """The training window of a step; each epoch is cut at different places."""
        row = (len(self.tokens) - 1) // self.batch_size
        for epoch in itertools.count():
            starts = _starts(self.window_lengths, row, seed, epoch)
            if step < len(starts) - 1:
                break
            step -= len(starts) - 1
        start, end = starts[step : step + 2].tolist()
        time = -(-(end - start) // self.multiple) * self.multiple
        return _window(self.tokens, self.batch_size, row, start, end - start, time, self.own)


@functools.lru_cache(maxsize=4096)
def _starts(lengths: WindowLengths, row: int, seed: int, epoch: int) -> Int[np.ndarray, " windows_and_one"]:
    """The first position of each window of an epoch in a row, and finally the length of the row."""
    random = np.random.default_rng((seed, epoch))
    ends = np.cumsum(lengths.draw(random, -(-row // lengths.shortest)))
    return np.concatenate([[0], ends[ends < row], [row]])


def _check(name: str, tokens: np.ndarray | TokenFile, **numbers: int) -> None:
    if min(numbers.values()) < 1:
        values = " and ".join(map(str, numbers.values()))
        raise ValueError(f"{name}: {' and '.join(numbers)} must be positive, got {values}.")
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"{name}: tokens must be a vector of integers, got {tokens.dtype} of shape {tokens.shape}."
        )


def _row(name: str, tokens: np.ndarray | TokenFile, rows: int, time: int) -> int:
    """Number of targets of each row; raises ValueError if it is less than a window."""
    row = (len(tokens) - 1) // rows
    if row < time:
        raise ValueError(
            f"{name}: {len(tokens)} tokens do not give {rows} rows a window of {time} steps each and what "
            f"follows: it takes {rows * time + 1}."
        )
    return row


def _window(
    tokens: np.ndarray | TokenFile,
    rows: int,
    row: int,
    position: int,
    length: int,
    time: int,
    own: slice = slice(None),
) -> Window:
    """``length`` targets from a position on in rows of ``row`` targets, padded to ``time``."""
    inputs, targets = np.zeros((rows, time), np.int32), np.zeros((rows, time), np.int32)
    lengths = np.zeros(rows, np.int32)
    for number in range(*own.indices(rows)):
        start = number * row + position
        end = min(start + length, (number + 1) * row, len(tokens) - 1)
        count = max(end - start, 0)
        piece = np.asarray(tokens[start : start + count + 1])
        inputs[number, :count] = piece[:count]
        targets[number, :count] = piece[1 : count + 1]
        lengths[number] = count
    return Window(inputs, targets, lengths, np.asarray(position == 0))
