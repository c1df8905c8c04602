"""Conversion of parameters to and from PyTorch."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import (
    FORMATS,
    Converted,
    Entry,
    alike,
    build,
    read,
    write,
)
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params

_TORCH_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d+)(_reverse)?)?")


def from_torch(source: Any) -> Converted:
    """Convert a ``torch.nn.LSTM``, with or without ``proj_size``, or a ``torch.nn.LSTMCell``.

    Args:
      source: the module or its ``state_dict()``, a mapping of names to arrays, ``weight_ih_l0`` and so on.

    Returns:
      A cell (a stack for several layers), or a layer if bidirectional; and its parameters.

    Raises:
      ValueError: the arrays are not those of an LSTM.

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.stack(lstmjax.lstm(3, 4), lstmjax.lstm(4, 4))
      >>> arrays = to_torch(cell, cell.init(jax.random.key(0)))
      >>> arrays["weight_ih_l1"].shape
      (16, 4)
      >>> from_torch(arrays)[0] == cell
      True
    """
    state = source.state_dict() if hasattr(source, "state_dict") else source
    entries: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, array in state.items():
        match = _TORCH_NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"from_torch: {name} is no parameter of a torch.nn.LSTM.")
        kind, layer, reverse = match.groups()
        entries.setdefault((int(layer or 0), reverse is not None), {})[kind] = array
    number, directions = 1 + max((layer for layer, _ in entries), default=0), 1 + ((0, True) in entries)
    expected = [[(layer, bool(way)) for way in range(directions)] for layer in range(number)]
    if set(entries) != {entry for ways in expected for entry in ways}:
        raise ValueError(f"from_torch: the layers are not complete, got {sorted(state)}.")
    return build([[_read_torch(entries[entry], entry) for entry in ways] for ways in expected])


def _read_torch(arrays: Mapping[str, Any], where: tuple[int, bool]) -> Entry:
    name = f"from_torch: layer {where[0]}{', reverse' * where[1]}"
    missing = {"weight_ih", "weight_hh"} - set(arrays)
    if missing or ("bias_ih" in arrays) != ("bias_hh" in arrays):
        raise ValueError(f"{name}: got only {sorted(arrays)}.")
    biases = [arrays[bias] for bias in ("bias_ih", "bias_hh") if bias in arrays]
    kernels = arrays["weight_ih"], arrays["weight_hh"]
    return read(name, FORMATS["torch"], *kernels, *biases, projection=arrays.get("weight_hr"))


def to_torch(layer: Cell | Layer, params: Params) -> dict[str, np.ndarray]:
    """The ``state_dict`` of a ``torch.nn.LSTM`` with biases, as NumPy arrays.

    ``module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(...).items()})`` loads
    it into a module of the same sizes, directions and ``proj_size``. The whole bias is in
    ``bias_ih``; ``bias_hh`` is zero.

    Raises:
      ValueError: PyTorch has no such LSTM: other cells, or layers that differ in size or direction.
      TypeError: the parameters are not those of the layer.
    """
    names = {}
    for number, entries in enumerate(alike("to_torch", layer, params, {"projection"})):
        for suffix, (cell, of_cell) in zip(("", "_reverse"), entries, strict=False):
            arrays = write(FORMATS["torch"], cell, of_cell)
            names[f"weight_ih_l{number}{suffix}"] = arrays.kernel
            names[f"weight_hh_l{number}{suffix}"] = arrays.recurrent_kernel
            if arrays.projection is not None:
                names[f"weight_hr_l{number}{suffix}"] = arrays.projection
            names[f"bias_ih_l{number}{suffix}"], names[f"bias_hh_l{number}{suffix}"] = arrays.biases
    return names
