"""Conversion of parameters to and from Haiku."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import (
    FORMATS,
    Converted,
    pile,
    read_joined,
    take_apart,
    write,
)
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


def from_haiku(source: Mapping[str, Mapping[str, Any]]) -> Converted:
    """Convert the parameters of one ``haiku.LSTM``, or of several to a stack.

    Args:
      source: the parameters, ``{"lstm/linear": {"w": [D + H, 4H], "b": [4H]}}``, of LSTMs only, in the order
        of Haiku's numbers: ``lstm``, ``lstm_1``, ...

    Raises:
      ValueError: the parameters are not only those of LSTMs.
    """

    def number(name: str) -> int:
        match = re.search(r"_(\d+)/linear$", name)
        return int(match[1]) if match else 0

    parts = []
    for name in sorted(source, key=number):
        if set(source[name]) != {"w", "b"}:
            raise ValueError(f"from_haiku: {name} has {sorted(source[name])}, an LSTM has only w and b.")
        arrays = source[name]["w"], source[name]["b"]
        parts.append(read_joined(f"from_haiku: {name}", FORMATS["haiku"], *arrays))
    if not parts:
        raise ValueError("from_haiku: there are no parameters.")
    return pile(parts)


def to_haiku(layer: Cell | Layer, params: Params, name: str = "lstm") -> dict[str, dict[str, np.ndarray]]:
    """The parameters of ``haiku.LSTM``, for a stack those of ``lstm``, ``lstm_1`` and so on.

    Haiku adds 1 to the forget gate in its code, so 1 is subtracted from the bias, which may round.

    Args:
      layer: an LSTM or a stack of LSTMs.
      params: its parameters.
      name: Haiku's name of the first LSTM.

    Raises:
      ValueError: Haiku has no such LSTM: other cells, or a bidirectional layer.
      TypeError: the parameters are not those of the layer.
    """
    tree = {}
    for number, entries in enumerate(take_apart("to_haiku", layer, params)):
        if len(entries) > 1:
            raise ValueError("to_haiku: Haiku has no bidirectional layer; convert each direction on its own.")
        kernel, recurrent, bias = write(FORMATS["haiku"], *entries[0]).single()
        joined = np.concatenate([kernel, recurrent], axis=0)
        tree[f"{name}{f'_{number}' if number else ''}/linear"] = {"w": joined, "b": bias}
    return tree
