"""Conversion of parameters to and from Keras 3."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.cells.gru import GRU
from lstmjax.convert.formats import FORMATS, Entry, read, write
from lstmjax.convert.structure import Converted, build, pile, take_apart
from lstmjax.sequence.bidirectional import Directions
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params

CELLS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}


def from_keras(source: Any) -> Converted:
    """Convert a Keras 3 ``LSTM``, ``GRU``, ``SimpleRNN``, a cell of these, or a ``Bidirectional`` of either.

    Args:
      source: the built layer, ``RNN`` of one or more cells, or ``Sequential`` of such layers only; or the
        list of arrays of its ``get_weights()``, or `Directions` of two such lists; or a list of several of
        these, lowest layer first.

    Raises:
      ValueError: the arrays are not those of such a layer, or can be of different ones, or the layer computes
        something else.
    """
    if isinstance(source, Directions):
        return build([[_read_arrays(way) for way in source]])
    if hasattr(source, "get_weights"):
        return _of_layer(source)
    if not isinstance(source, list | tuple):
        raise ValueError(f"from_keras: give a layer of Keras or a list, got {type(source).__name__}.")
    if not any(hasattr(entry, "shape") for entry in source):
        return pile([from_keras(entry) for entry in source])
    if len(source) not in (4, 6):
        return _read_arrays(source)
    half = len(source) // 2
    below, above = _read_arrays(source[:half]), _read_arrays(source[half:])
    (lower, _), (upper, _) = below, above
    if lower.features == upper.features == lower.hidden:
        raise ValueError(
            f"from_keras: {len(source)} arrays of {lower.hidden} inputs and {lower.hidden} units can be two "
            f"directions or two layers: give the layers themselves, or lstmjax.Directions(weights[:{half}], "
            f"weights[{half}:]) for two directions, [weights[:{half}], weights[{half}:]] for two layers."
        )
    return build([[below], [above]] if upper.features == lower.hidden else [[below, above]])


def _of_layer(layer: Any) -> Converted:
    if type(layer).__name__ == "Sequential":
        return pile([_of_layer(one) for one in layer.layers])
    if hasattr(layer, "forward_layer"):
        if layer.merge_mode != "concat":
            raise ValueError(f"from_keras: merge_mode must be 'concat', got {layer.merge_mode!r}.")
        pair = layer.forward_layer, layer.backward_layer
        return build([[_of_rnn(one, backwards) for one, backwards in zip(pair, (False, True), strict=True)]])
    cell = getattr(layer, "cell", layer)
    if hasattr(cell, "cells"):
        _check_order(layer, False)
        return pile([_of_rnn(one, False) for one in cell.cells])
    return _of_rnn(layer, False)


def _check_order(layer: Any, backwards: bool) -> None:
    if getattr(layer, "go_backwards", backwards) != backwards:
        raise ValueError(
            f"from_keras: {layer.name} has go_backwards={not backwards}: convert its cell, and run it with "
            "lstmjax.unroll(..., reverse=True), which returns outputs in the order of the inputs, Keras in "
            "reverse; in a Bidirectional, only the second layer goes backwards."
        )


def _of_rnn(layer: Any, backwards: bool) -> Entry:
    """Read a cell, or a layer with one cell."""
    _check_order(layer, backwards)
    cell = getattr(layer, "cell", layer)
    if not CELLS & {base.__name__ for base in type(cell).__mro__}:
        raise ValueError(
            f"from_keras: {layer.name}, of {type(layer).__name__}, is no LSTM, GRU or SimpleRNN; of a larger "
            "model, give those of its layers that are, as a list if one follows the other."
        )
    config = cell.get_config()
    for key, want in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if config.get(key, want) != want:
            raise ValueError(f"from_keras: {key} must be {want!r}, got {config[key]!r}.")
    return _read_arrays(cell.get_weights(), reset_after=config.get("reset_after"), dtype=cell.compute_dtype)


def _read_arrays(arrays: Sequence[Any], reset_after: bool | None = None, dtype: Any = None) -> Entry:
    """Read the arrays of one cell; a GRU with ``reset_after`` has its two biases in one array."""
    if len(arrays) not in (2, 3):
        raise ValueError(
            f"from_keras: a cell has 2 arrays, or 3 with a bias, a bidirectional layer twice as many; got "
            f"{len(arrays)}. Of several layers, give a list with the arrays of each; build layers first."
        )
    kernel, recurrent_kernel, *biases = arrays
    if biases:
        is_after = np.ndim(biases[0]) == 2
        biases = [*biases[0]] if is_after else biases
        reset_after = is_after if reset_after is None else reset_after
    options: dict[str, Any] = {"reset_after": reset_after, "dtype": dtype}
    return read("from_keras", FORMATS["keras"], kernel, recurrent_kernel, *biases, **options)


def to_keras(layer: Cell | Layer, params: Params) -> list[Any]:
    """Arrays for ``set_weights`` of Keras 3: kernel, recurrent kernel and bias of each direction.

    Returns:
      For one layer the list of its arrays (3 for ``LSTM(hidden)``, 6 for ``Bidirectional(LSTM(hidden))``, 2
      and 4 with ``use_bias=False`` for cells with ``bias=False``); for several layers, a list of such lists.
      For an `lstmjax.gru`, the layer is ``GRU(hidden)``, with its ``reset_after``; for an `lstmjax.elman`,
      ``SimpleRNN(hidden)``.

    Raises:
      ValueError: Keras has no such cell.
      TypeError: the parameters are not those of the layer.
    """
    taken = [
        [array for entry in entries for array in _arrays(*entry)]
        for entries in take_apart("to_keras", FORMATS["keras"], layer, params)
    ]
    return taken if len(taken) > 1 else taken[0]


def _arrays(cell: Any, params: Any) -> list[np.ndarray]:
    number = 2 if isinstance(cell, GRU) and cell.reset_after else 1
    arrays = write(FORMATS["keras"]._replace(biases=number), cell, params)
    both = [np.stack(arrays.biases)] if len(arrays.biases) == 2 else arrays.biases
    return [arrays.kernel, arrays.recurrent_kernel, *both]
