"""Wrappers of cells: each takes cells and is itself a cell."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.cell import Cell, check_inputs
from lstmjax.types import Array, DTypeLike, Key, Params, State


@dataclasses.dataclass(frozen=True, repr=False)
class Stack(Cell):
    """Cells one above the other; made by `stack`."""

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("stack: give at least one cell.")
        for number, (below, above) in enumerate(zip(self.cells, self.cells[1:], strict=False)):
            if below.output_size != above.features:
                raise ValueError(
                    f"stack: cell {number} puts out {below.output_size} features, but cell "
                    f"{number + 1} takes {above.features}."
                )

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: that of the lowest cell."""
        return self.cells[0].features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the highest cell."""
        return self.cells[-1].output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the lowest cell."""
        return self.cells[0].input_dtype

    def init(self, key: Key) -> tuple[Params, ...]:
        """Parameters of every cell, lowest first."""
        keys = jax.random.split(key, len(self.cells))
        return tuple(cell.init(k) for cell, k in zip(self.cells, keys, strict=True))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """States of every cell, lowest first."""
        return tuple(cell.initial_state(batch_shape) for cell in self.cells)

    def step(
        self, params: tuple[Params, ...], state: tuple[State, ...], inputs: Array
    ) -> tuple[tuple[State, ...], jax.Array]:
        """Advance every cell by one time step, the outputs of each the inputs of the next."""
        for name, parts in (("params", params), ("state", state)):
            if not isinstance(parts, tuple) or len(parts) != len(self.cells):
                raise TypeError(
                    f"{name} of a stack must be a tuple with one entry for each of its "
                    f"{len(self.cells)} cells, got {jax.tree.structure(parts)}."
                )
        states = []
        outputs: Any = inputs
        for cell, cell_params, cell_state in zip(self.cells, params, state, strict=True):
            new_state, outputs = cell.step(cell_params, cell_state, outputs)
            states.append(new_state)
        return tuple(states), outputs


def stack(*cells: Cell) -> Stack:
    r"""Cells one above the other, as one cell: :math:`x^{(l+1)}_t = y^{(l)}_t`.

    Parameters and state are tuples with one entry for each cell, lowest first.

    Raises:
      ValueError: there is no cell, or the sizes of two neighbours differ.

    Source: Schmidhuber 1992 (Neural Computation 4(2)); deep LSTMs: Graves 2013 (arXiv:1308.0850).

    Example:
      >>> import lstmjax
      >>> deep = lstmjax.stack(lstmjax.lstm(64, 128), lstmjax.lstm(128, 32))
      >>> deep.features, deep.output_size
      (64, 32)
    """
    return Stack(tuple(cells))


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Cell):
    """A cell with its input added to its output; made by `residual`."""

    cell: Cell

    def __post_init__(self) -> None:
        if self.cell.features != self.cell.output_size:
            raise ValueError(
                f"residual: the cell takes {self.cell.features} features and puts out "
                f"{self.cell.output_size}; a sum needs equal sizes."
            )

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: that of the inner cell."""
        return self.cell.features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the inner cell."""
        return self.cell.output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the inner cell."""
        return self.cell.input_dtype

    def init(self, key: Key) -> Params:
        """Parameters of the inner cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """State of the inner cell."""
        return self.cell.initial_state(batch_shape)

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance the inner cell by one time step and add the inputs to its outputs."""
        check_inputs(self, inputs, axes="[..., features]")
        state, outputs = self.cell.step(params, state, inputs)
        return state, jnp.add(inputs, outputs)


def residual(cell: Cell) -> Residual:
    r"""A cell with its input added to its output: :math:`y_t = x_t + \mathrm{cell}(x_t)`.

    The state, and so the recurrence, is that of the inner cell.

    Raises:
      ValueError: the cell's input and output sizes differ.

    Source: He et al. 2016 (arXiv:1512.03385); between LSTM layers: Wu et al. 2016 (arXiv:1609.08144, eq. 6).

    Example:
      >>> import lstmjax
      >>> lstmjax.residual(lstmjax.lstm(8, 8)).output_size
      8
    """
    return Residual(cell)
