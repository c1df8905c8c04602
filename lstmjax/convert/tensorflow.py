"""Conversion of parameters from TensorFlow 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.convert.formats import FORMATS, Converted, as_numpy, read_joined


def from_tensorflow(source: Mapping[str, Any], forget_bias: float = 1.0) -> Converted:
    """Convert the variables of TensorFlow 1's ``LSTMCell`` or ``BasicLSTMCell``.

    Args:
      source: a mapping from names to arrays, as in a checkpoint, of one cell; prefixes of the names given
        here are ignored. ``kernel`` is ``[D + H, 4H]`` with gates in the order i, g, f, o; ``bias`` is
        ``[4H]``; with peepholes, ``w_i_diag``, ``w_f_diag`` and ``w_o_diag`` are ``[H]``; with ``num_proj``,
        ``projection/kernel`` is ``[H, P]``.
      forget_bias: the argument that the cell was made with; its code adds it to the forget gate.

    Raises:
      ValueError: the variables are not those of an LSTM.
    """
    arrays: dict[str, Any] = {}
    for name, array in source.items():
        *_, before, last = f"//{name}".split("/")
        arrays["projection" if before == "projection" else last] = array
    peepholes = [f"w_{gate}_diag" for gate in "ifo"]
    wanted = {"kernel", "bias", *(peepholes if set(peepholes) & set(arrays) else [])}
    if set(arrays) - {"projection"} != wanted:
        raise ValueError(
            f"from_tensorflow: an LSTM has kernel and bias, may have {', '.join(peepholes)} and "
            f"projection/kernel; got {sorted(source)}."
        )
    more = {"projection": arrays.get("projection")}
    if "w_i_diag" in arrays:
        more["peepholes"] = np.concatenate([as_numpy("from_tensorflow", arrays[name]) for name in peepholes])
    form = FORMATS["tensorflow"]._replace(forget_offset=forget_bias)
    return read_joined("from_tensorflow", form, arrays["kernel"], arrays["bias"], **more)
