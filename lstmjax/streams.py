"""Batches of one long stream of tokens, for truncated backpropagation through time with a carried state.

The stream is cut into as many rows of equal length as a batch has, and a batch is the next window of every
row: each row goes on where the window before left it, and so does the state that a model carries. A batch
is a function of its step, by slices of the stream: so the stream may be larger than memory
(`numpy.memmap`), and training can be resumed in the middle of an epoch.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


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
        if self.batch_size < 1 or self.time < 1:
            raise ValueError(
                f"TokenStream: batch_size and time must be positive, got {self.batch_size} and {self.time}."
            )
        if self.tokens.ndim != 1 or not np.issubdtype(self.tokens.dtype, np.integer):
            raise ValueError(
                f"TokenStream: tokens must be a vector of integers, got {self.tokens.dtype} of shape "
                f"{self.tokens.shape}."
            )

    @property
    def steps_per_epoch(self) -> int:
        """How many windows have all their steps; the few tokens after the last of them are not trained on.

        Raises:
          ValueError: there is none.
        """
        steps = (len(self.tokens) - 1) // self.batch_size // self.time
        if steps < 1:
            raise ValueError(
                f"TokenStream: {len(self.tokens)} tokens do not give {self.batch_size} rows a window of "
                f"{self.time} steps each and what follows: it takes {self.batch_size * self.time + 1}."
            )
        return steps

    def at(self, seed: int, step: int) -> Window:
        """The training window of a step: epochs one after the other, each from the stream's beginning.

        ``seed`` is there since a batch is a function of seed and step; a stream is read in order.

        Raises:
          ValueError: the stream is too short to give every row a window.
        """
        del seed
        position = step % self.steps_per_epoch
        return self._window((len(self.tokens) - 1) // self.batch_size, position)

    def once(self) -> Iterator[Window]:
        """Every target once, in rows whose last windows are filled up: for evaluation.

        The rows after the first begin with a fresh state, though not at the stream's beginning: of one row,
        the targets have all that came before; of more, it is quicker.
        """
        row = -(-(len(self.tokens) - 1) // self.batch_size)
        for position in range(-(-row // self.time)):
            yield self._window(row, position)

    def _window(self, row: int, position: int) -> Window:
        shape = (self.batch_size, self.time)
        inputs, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        lengths = np.zeros(self.batch_size, np.int32)
        for number in range(self.batch_size):
            start = number * row + position * self.time
            end = min(start + self.time, (number + 1) * row, len(self.tokens) - 1)
            length = max(end - start, 0)
            piece = np.asarray(self.tokens[start : start + length + 1])
            inputs[number, :length] = piece[:length]
            targets[number, :length] = piece[1 : length + 1]
            lengths[number] = length
        return Window(inputs, targets, lengths, np.asarray(position == 0))
