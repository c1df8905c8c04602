"""Conversion of parameters to and from Equinox."""

from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import FORMATS, Converted, Entry, collect, read, spread, write
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


def from_equinox(source: Any) -> Converted:
    """Convert an ``equinox.nn.LSTMCell``, `Directions` of two, or a list of several of these.

    Raises:
      ValueError: the module is not an LSTM.
    """

    def read_one(module: Any) -> Entry:
        if not all(hasattr(module, name) for name in ("weight_ih", "weight_hh", "bias")):
            raise ValueError(f"from_equinox: {type(module).__name__} is no equinox.nn.LSTMCell.")
        biases = [] if module.bias is None else [module.bias]
        return read("from_equinox", FORMATS["equinox"], module.weight_ih, module.weight_hh, *biases)

    return collect(source, lambda module: module, read_one)


def to_equinox(layer: Cell | Layer, params: Params) -> Any:
    """An ``equinox.nn.LSTMCell``, `Directions` of two if bidirectional, or a list for several layers.

    Raises:
      ValueError: a cell is not an LSTM.
      TypeError: the parameters are not those of the layer.
      ImportError: Equinox is not installed.
    """
    import equinox  # noqa: PLC0415

    def write_one(cell: Any, of_cell: Any) -> Any:
        arrays = [jnp.asarray(array) for array in write(FORMATS["equinox"], cell, of_cell).single()]
        empty = equinox.filter_eval_shape(
            equinox.nn.LSTMCell, cell.features, cell.hidden, key=jax.random.key(0)
        )
        return equinox.tree_at(
            lambda module: [module.weight_ih, module.weight_hh, module.bias], empty, arrays
        )

    return spread("to_equinox", layer, params, write_one)
