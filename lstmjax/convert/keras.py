"""Conversion of parameters to and from Keras 3."""

from collections.abc import Mapping, Sequence
from typing import Any

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import FORMATS, Converted, build, pile, read, take_apart, write
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


def from_keras(source: Any) -> Converted:
    """Convert a Keras 3 ``LSTM``, ``LSTMCell``, or a ``Bidirectional`` of either.

    Args:
      source: the built layer, or the list of arrays of its ``get_weights()``; or a list of several of these,
        lowest layer first.

    Raises:
      ValueError: the arrays are not those of an LSTM, or the layer computes something else.
    """
    if isinstance(source, list | tuple) and not any(hasattr(entry, "shape") for entry in source):
        return pile([from_keras(entry) for entry in source])
    arrays: Sequence[Any] = source
    if hasattr(source, "get_weights"):
        _check_keras(source.get_config())
        arrays = source.get_weights()
    if len(arrays) not in (2, 3, 4, 6):
        raise ValueError(
            f"from_keras: an LSTM has 2 arrays, or 3 with a bias, a bidirectional layer twice as many; "
            f"got {len(arrays)}."
        )
    half = len(arrays) // 2 if len(arrays) > 3 else len(arrays)
    ways = [arrays[start : start + half] for start in range(0, len(arrays), half)]
    return build([[read("from_keras", FORMATS["keras"], *way) for way in ways]])


def _check_keras(config: Mapping[str, Any]) -> None:
    inner = [config[key]["config"] for key in ("layer", "backward_layer") if key in config] or [config]
    wanted = [(one, "activation", "tanh") for one in inner]
    wanted += [(one, "recurrent_activation", "sigmoid") for one in inner]
    for given, key, want in [*wanted, (config, "merge_mode", "concat")]:
        if given.get(key, want) != want:
            raise ValueError(f"from_keras: {key} must be {want!r}, got {given[key]!r}.")


def to_keras(layer: Cell | Layer, params: Params) -> list[Any]:
    """Arrays for ``set_weights`` of Keras 3: kernel, recurrent kernel and bias of each direction.

    Returns:
      For one layer the list of its arrays (3 for ``LSTM(hidden)``, 6 for ``Bidirectional(LSTM(hidden))``);
      for several layers, a list of such lists.

    Raises:
      ValueError: a cell is not an LSTM.
      TypeError: the parameters are not those of the layer.
    """
    taken = [
        [array for cell, of_cell in entries for array in write(FORMATS["keras"], cell, of_cell).single()]
        for entries in take_apart("to_keras", layer, params)
    ]
    return taken if len(taken) > 1 else taken[0]
