"""A cell with its input added to its output."""

import dataclasses
from typing import Any

import jax

from lstmjax.cells.cell import Cell, check_cell
from lstmjax.wrappers.wrapper import Pointwise


def check_equal_sizes(name: str, cell: Cell) -> None:
    """Raise ValueError unless a cell's output size equals its input size; TypeError unless it is a cell."""
    check_cell(name, cell)
    if cell.features != cell.output_size:
        raise ValueError(
            f"{name}: the cell takes {cell.features} features and puts out "
            f"{cell.output_size}; a sum needs equal sizes."
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Pointwise):
    """A cell with its input added to its output; made by `residual`."""

    def __post_init__(self) -> None:
        check_equal_sizes("residual", self.cell)

    def after(self, own: Any, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The sum."""
        return inputs + outputs


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
