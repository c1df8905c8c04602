"""Conversion of parameters to and from Haiku."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.cells.gru import GRU
from lstmjax.convert.formats import FORMATS, Entry, read, read_joined, write
from lstmjax.convert.structure import Converted, pile, take_apart
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params

_NAME = re.compile(r"(.*?)(?:_(\d+))?(/linear)?")


def from_haiku(source: Mapping[str, Mapping[str, Any]]) -> Converted:
    """Convert the parameters of one ``haiku.LSTM`` or ``haiku.GRU``, or of several to a stack.

    ``haiku.VanillaRNN`` has the nonlinearity ReLU, which this library's `lstmjax.elman` does not have.

    Args:
      source: the parameters, ``{"lstm/linear": {"w": [D + H, 4H], "b": [4H]}}`` or ``{"gru": {"w_i": ...}}``,
        of cells of one kind and one place only, in the order of Haiku's numbers: ``lstm``, ``lstm_1``, ...

    Raises:
      ValueError: the parameters are not only those of such cells, or their order is not known.
    """
    if not source:
        raise ValueError("from_haiku: there are no parameters.")
    places = {}
    for name in source:
        match = _NAME.fullmatch(name)
        assert match is not None
        place, number, _ = match.groups()
        places[name] = place, int(number or 0)
    parts = [_read(name, source[name]) for name in sorted(source, key=lambda name: places[name][1])]
    if len({place for place, _ in places.values()}) > 1:
        raise ValueError(
            "from_haiku: give only the parameters of cells whose names differ by a number, as lstm/linear "
            f"and lstm_1/linear, whose order is known; got {sorted(source)}."
        )
    return pile(parts)


def _read(name: str, arrays: Mapping[str, Any]) -> Entry:
    where, form = f"from_haiku: {name}", FORMATS["haiku"]
    if "vanilla_rnn" in name:
        raise ValueError(f"{where}: the nonlinearity of haiku.VanillaRNN is ReLU, that of elman is tanh.")
    if set(arrays) == {"w_i", "w_h", "b"}:
        return read(where, form, arrays["w_i"], arrays["w_h"], arrays["b"])
    if set(arrays) != {"w", "b"}:
        raise ValueError(f"{where} has {sorted(arrays)}, an LSTM has only w and b, a GRU w_i, w_h and b.")
    return read_joined(where, form, 4, arrays["w"], arrays["b"])


def to_haiku(
    layer: Cell | Layer, params: Params, name: str | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of ``haiku.LSTM`` or ``GRU``, for a stack those of ``lstm``, ``lstm_1`` and so on.

    Haiku adds 1 to the forget gate in its code, so 1 is subtracted from the bias, which may round. It has no
    cells without biases: for ``bias=False``, they are 0, less that 1.

    Args:
      layer: an LSTM, a GRU with ``reset_after=False``, or a stack of cells of one of these kinds.
      params: its parameters.
      name: Haiku's name of the first cell; by default ``lstm`` or ``gru``.

    Raises:
      ValueError: Haiku has no such cell, the stack has different kinds, or a layer is bidirectional.
      TypeError: the parameters are not those of the layer.
    """
    tree = {}
    taken = take_apart("to_haiku", FORMATS["haiku"], layer, params)
    if len({type(cell) for entries in taken for cell, _ in entries}) > 1:
        raise ValueError(f"to_haiku: convert LSTMs and GRUs separately, got {layer}.")
    for number, entries in enumerate(taken):
        if len(entries) > 1:
            raise ValueError("to_haiku: Haiku has no bidirectional layer; convert each direction on its own.")
        (cell, of_cell), suffix = entries[0], f"_{number}" * (number > 0)
        arrays = write(FORMATS["haiku"], cell, of_cell)
        (bias,) = arrays.biases
        if isinstance(cell, GRU):
            kernels = {"w_i": arrays.kernel, "w_h": arrays.recurrent_kernel}
            tree[f"{name or 'gru'}{suffix}"] = {**kernels, "b": bias}
        else:
            joined = np.concatenate([arrays.kernel, arrays.recurrent_kernel], axis=0)
            tree[f"{name or 'lstm'}{suffix}/linear"] = {"w": joined, "b": bias}
    return tree
