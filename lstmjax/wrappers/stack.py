"""Stacks of cells, as one cell."""

import dataclasses
from typing import Any

import jax

from lstmjax.cells.cell import Cell, check_cell
from lstmjax.types import Array, DTypeLike, Key, Params, State


@dataclasses.dataclass(frozen=True, repr=False)
class Stack(Cell):
    """A stack of cells; made by `stack`."""

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("stack: give at least one cell.")
        for number, cell in enumerate(self.cells):
            check_cell("stack", cell, f"part {number}")
        for number, (below, above) in enumerate(zip(self.cells, self.cells[1:], strict=False)):
            if below.output_size != above.features:
                raise ValueError(
                    f"stack: cell {number} puts out {below.output_size} features, but cell "
                    f"{number + 1} takes {above.features}."
                )
            if below.input_dtype != above.input_dtype:
                raise TypeError(
                    f"stack: cell {number} puts out {below.input_dtype}, but cell {number + 1} takes "
                    f"{above.input_dtype}: make both with the same dtype."
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
        """Advance every cell by one time step; the outputs of each are the inputs of the next."""
        self._check_parts("params", params)
        self._check_parts("state", state)
        states = []
        outputs: Any = inputs
        for cell, cell_params, cell_state in zip(self.cells, params, state, strict=True):
            new_state, outputs = cell.step(cell_params, cell_state, outputs)
            states.append(new_state)
        return tuple(states), outputs

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[Params, ...]:
        """Parameters with the noise of every cell drawn, each with its own key."""
        self._check_parts("params", params)
        keys = jax.random.split(key, len(self.cells))
        parts = zip(self.cells, keys, params, strict=True)
        return tuple(cell.sample(k, part, batch_shape) for cell, k, part in parts)

    def plain(self, params: Params) -> Params:
        """Parameters of every cell without noise."""
        if not isinstance(params, tuple) or len(params) != len(self.cells):
            return params  # `check_params` reports the error
        return tuple(cell.plain(part) for cell, part in zip(self.cells, params, strict=True))

    def _check_parts(self, name: str, parts: Any) -> None:
        if not isinstance(parts, tuple) or len(parts) != len(self.cells):
            raise TypeError(
                f"{name} of a stack must be a tuple with one entry for each of its "
                f"{len(self.cells)} cells, got {jax.tree.structure(parts)}."
            )


def stack(*cells: Cell) -> Stack:
    r"""A stack of cells, as one cell: :math:`x^{(l+1)}_t = y^{(l)}_t`.

    Parameters and state are tuples with one entry for each cell, lowest first.

    Raises:
      ValueError: no cell is given, or the sizes of two neighbours differ.
      TypeError: a part is no cell, or the dtypes of two neighbours differ.

    Source: Schmidhuber 1992 (Neural Computation 4(2)); deep LSTMs: Graves 2013 (arXiv:1308.0850).

    Example:
      >>> import lstmjax
      >>> deep = lstmjax.stack(lstmjax.lstm(64, 128), lstmjax.lstm(128, 32))
      >>> deep.features, deep.output_size
      (64, 32)
    """
    return Stack(tuple(cells))
