"""Conversion of parameters to and from Equinox."""

from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell
from lstmjax.cells.gru import GRU
from lstmjax.convert.formats import FORMATS, Entry, read, write
from lstmjax.convert.structure import Converted, collect, spread
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


def from_equinox(source: Any) -> Converted:
    """Convert an ``equinox.nn.LSTMCell`` or ``GRUCell``, `Directions` of two, or a list of several of these.

    Raises:
      ValueError: the module is neither.
    """

    def read_one(module: Any) -> Entry:
        if not all(hasattr(module, name) for name in ("weight_ih", "weight_hh", "bias")):
            raise ValueError(
                f"from_equinox: {type(module).__name__} is no equinox.nn.LSTMCell and no GRUCell."
            )
        biases = [module.bias, getattr(module, "bias_n", None)]
        given = [bias for bias in biases if bias is not None]
        return read("from_equinox", FORMATS["equinox"], module.weight_ih, module.weight_hh, *given)

    return collect(source, lambda module: module, read_one)


def to_equinox(layer: Cell | Layer, params: Params) -> Any:
    """An ``equinox.nn.LSTMCell`` or ``GRUCell``, `Directions` of two if bidirectional, or a list of layers.

    Raises:
      ValueError: Equinox has no such cell.
      TypeError: the parameters are not those of the layer.
      ImportError: Equinox is not installed.
    """
    import equinox  # noqa: PLC0415

    def write_one(cell: Any, of_cell: Any) -> Any:
        arrays = write(FORMATS["equinox"], cell, of_cell)
        kernels = arrays.kernel, arrays.recurrent_kernel
        make = equinox.nn.GRUCell if isinstance(cell, GRU) else equinox.nn.LSTMCell
        sizes = cell.features, cell.hidden
        empty = equinox.filter_eval_shape(make, *sizes, use_bias=cell.bias, key=jax.random.key(0))
        given = [jnp.asarray(array) for array in (*kernels, *arrays.biases)]
        names = ("weight_ih", "weight_hh", "bias", "bias_n")[: len(given)]
        return equinox.tree_at(lambda module: [getattr(module, name) for name in names], empty, given)

    return spread("to_equinox", FORMATS["equinox"], layer, params, write_one)
