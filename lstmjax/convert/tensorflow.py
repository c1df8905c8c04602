"""Conversion of parameters from TensorFlow 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.convert.formats import FORMATS, as_numpy, read_joined
from lstmjax.convert.structure import Converted

_PEEPHOLES = [f"w_{gate}_diag" for gate in "ifo"]


def from_tensorflow(source: Mapping[str, Any], forget_bias: float = 1.0) -> Converted:
    """Convert the variables of TensorFlow 1's ``LSTMCell``, ``GRUCell``, or a basic cell.

    Args:
      source: a mapping from names to arrays, as in a checkpoint, of one cell; prefixes of the names given
        here are ignored, except that ``basic_rnn_cell`` marks a ``BasicRNNCell``, whose activation must be
        tanh. Of an LSTM, ``kernel`` is ``[D + H, 4H]`` with gates in the order i, g, f, o; ``bias`` is
        ``[4H]``; with peepholes, ``w_i_diag``, ``w_f_diag`` and ``w_o_diag`` are ``[H]``; with ``num_proj``,
        ``projection/kernel`` is ``[H, P]``. Of a GRU, ``gates/kernel`` is ``[D + H, 2H]`` with gates in the
        order r, z, and ``candidate/kernel`` is ``[D + H, H]``; each has a ``bias``.
      forget_bias: the argument that an LSTM was made with; its code adds it to the forget gate.

    Raises:
      ValueError: the variables are not those of such a cell.
    """
    name, arrays = "from_tensorflow", {}
    is_basic_rnn = any("basic_rnn_cell" in key.split("/") for key in source)
    for key, array in source.items():
        *_, before, last = f"//{key}".split("/")
        within = before in ("projection", "gates", "candidate")
        arrays[f"{before}/{last}" if within else last] = as_numpy(name, array)
    form = FORMATS["tensorflow"]._replace(forget_offset=forget_bias)
    parts = [(f"gates/{part}", f"candidate/{part}") for part in ("kernel", "bias")]
    if set(arrays) == {part for pair in parts for part in pair}:
        kernel, bias = (np.concatenate([arrays[part] for part in pair], axis=-1) for pair in parts)
        return read_joined(name, form, 3, kernel, bias)
    wanted = {"kernel", "bias", *(_PEEPHOLES if set(_PEEPHOLES) & set(arrays) else [])}
    if set(arrays) - {"projection/kernel"} != wanted:
        raise ValueError(
            f"{name}: an LSTM has kernel and bias, may have {', '.join(_PEEPHOLES)} and projection/kernel; a "
            f"GRU has {', '.join(part for pair in parts for part in pair)}; got {sorted(source)}."
        )
    more = {"projection": arrays.get("projection/kernel")}
    if "w_i_diag" in arrays:
        more["peepholes"] = np.concatenate([arrays[part] for part in _PEEPHOLES])
    return read_joined(name, form, 1 if is_basic_rnn else 4, arrays["kernel"], arrays["bias"], **more)
