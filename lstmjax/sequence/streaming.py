"""Streaming: a cell that processes one sample at a time, as samples arrive."""

from typing import Any

import jax
from jaxtyping import Float

from lstmjax.cells.cell import Cell, check_cell
from lstmjax.types import Array, Params, State


class Stream:
    """A cell with its parameters and current state, called with one sample at a time.

    The step is compiled on the first call, once for all streams of equal cells and shapes. Outputs are those
    of `lstmjax.unroll` over all samples together.

    Args:
      cell: any `Cell`.
      params: as ``cell.init`` returns them.
      batch_shape: of the samples; without it, they are single vectors ``[features]``.
      state: the initial state, such as the final state of `unroll` or of another stream; by default
        ``cell.initial_state``.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> stream = Stream(cell, cell.init(jax.random.key(0)))
      >>> for sample in jax.numpy.ones((100, 3)):
      ...     output = stream(sample)
      >>> output.shape
      (4,)
    """

    def __init__(
        self, cell: Cell, params: Params, batch_shape: tuple[int, ...] = (), state: State | None = None
    ) -> None:
        check_cell("Stream", cell)
        self.cell = cell
        self.params = params
        self.batch_shape = tuple(batch_shape)
        self.state = cell.initial_state(self.batch_shape) if state is None else state

    def __call__(self, inputs: Float[Array, "*batch features"]) -> Float[jax.Array, "*batch output"]:
        """Advance by one step: from a sample ``[*batch_shape, features]`` to ``[*batch_shape, output_size]``.

        Raises:
          ValueError: a shape does not fit the cell or the state.
          TypeError: a dtype does not fit.
        """
        self.state, outputs = step(self.cell, self.params, self.state, inputs)
        return outputs

    def reset(self) -> None:
        """Begin a new sequence."""
        self.state = self.cell.initial_state(self.batch_shape)


@jax.jit
def step(cell: Cell, params: Params, state: State, inputs: Array) -> tuple[Any, jax.Array]:
    """``cell.step``, compiled once for equal cells and shapes."""
    return cell.step(params, state, inputs)
