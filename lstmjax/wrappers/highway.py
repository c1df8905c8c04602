"""Highway connections: a gate mixes a cell's output with its input."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell, biased, matmul
from lstmjax.checks import resolve_number
from lstmjax.initializers import lecun_normal
from lstmjax.types import Array, Key, Params, at_least_float32
from lstmjax.wrappers.residual import check_equal_sizes
from lstmjax.wrappers.wrapper import Pointwise


class HighwayParams(NamedTuple):
    """Parameters of a highway around a cell."""

    cell: Params
    """Those of the inner cell."""
    kernel: Array
    """``[features, features]``: of the gate, W."""
    bias: Array
    """``[features]``: of the gate, b."""


@dataclasses.dataclass(frozen=True, repr=False)
class Highway(Pointwise):
    """A cell whose output a gate mixes with its input; made by `highway`."""

    gate_bias: float = -1.0

    def __post_init__(self) -> None:
        check_equal_sizes("highway", self.cell)
        resolve_number("highway", self, "gate_bias")

    def init(self, key: Key) -> HighwayParams:
        """Parameters of the inner cell, and of the gate: `lecun_normal` and ``gate_bias``."""
        cell_key, kernel_key = jax.random.split(key)
        dtype = at_least_float32(self.input_dtype)
        return HighwayParams(
            cell=self.cell.init(cell_key),
            kernel=lecun_normal(kernel_key, (self.features, self.features), dtype),
            bias=jnp.full((self.features,), self.gate_bias, dtype),
        )

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with the noise of the inner cell drawn."""
        return params._replace(cell=self.cell.sample(key, params.cell, batch_shape))

    def plain(self, params: Params) -> Params:
        """Parameters of gate and inner cell without noise."""
        if not isinstance(params, HighwayParams):
            return params  # `check_params` reports the error
        return params._replace(cell=self.cell.plain(params.cell))

    def split(self, params: HighwayParams, batch_shape: tuple[int, ...]) -> tuple[Params, HighwayParams]:
        """Parameters of the inner cell, and all parameters."""
        return params.cell, params

    def after(self, own: HighwayParams, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """Outputs and inputs, mixed by the gate."""
        wide = at_least_float32(self.input_dtype)
        total = matmul(inputs, own.kernel, dtype=self.input_dtype, result_dtype=wide)
        gate = jax.nn.sigmoid(biased(total, own.bias))
        mixed = gate * outputs.astype(wide) + (1 - gate) * inputs.astype(wide)
        return mixed.astype(outputs.dtype)


def highway(cell: Cell, gate_bias: float = -1.0) -> Highway:
    r"""A cell whose output a gate mixes with its input.

    .. math::
        g_t &= \sigma(W x_t + b) \\
        y_t &= g_t \odot \mathrm{cell}(x_t) + (1 - g_t) \odot x_t

    The state, and so the recurrence, is that of the inner cell. Parameters are `HighwayParams`, in the
    cell's dtype or float32, whichever is wider.

    Args:
      cell: with output size equal to input size.
      gate_bias: initial value of b; if negative, a deep stack initially passes its inputs through.

    Raises:
      ValueError: the cell's input and output sizes differ.

    Source: Srivastava, Greff and Schmidhuber 2015 (arXiv:1505.00387).

    Example:
      >>> import lstmjax
      >>> deep = lstmjax.stack(*[lstmjax.highway(lstmjax.lstm(8, 8))] * 3)
      >>> deep.output_size
      8
    """
    return Highway(cell, gate_bias)
