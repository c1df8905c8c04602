"""Conversion of parameters to and from Flax: linen and NNX."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import (
    FORMATS,
    Converted,
    Entry,
    as_numpy,
    collect,
    read,
    spread,
    take_apart,
    write,
)
from lstmjax.sequence.bidirectional import Directions
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


def from_linen(source: Any) -> Converted:
    """Convert the parameters of Flax linen's ``LSTMCell`` or ``OptimizedLSTMCell``.

    Args:
      source: the cell's tree of parameters, with or without ``{"params": ...}`` around it; those of an
        ``nn.RNN`` of it or an ``nn.Bidirectional`` of two; or a list of several of these, lowest layer first.

    Raises:
      ValueError: the tree is not that of an LSTM.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> tree = to_linen(cell, cell.init(jax.random.key(0)))
      >>> sorted(tree), from_linen({"params": tree})[0] == cell
      (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], True)
    """
    return collect(source, _inside_linen, _read_linen)


def _inside_linen(source: Any) -> Any:
    for around in ("params", "cell"):
        if isinstance(source, Mapping) and set(source) == {around}:
            source = source[around]
    if isinstance(source, Mapping) and set(source) == {"forward_rnn", "backward_rnn"}:
        return Directions(source["forward_rnn"], source["backward_rnn"])
    return source


def _read_linen(tree: Any) -> Entry:
    names = [f"{side}{gate}" for side in "ih" for gate in FORMATS["flax"].gates]
    if not isinstance(tree, Mapping) or set(tree) != set(names):
        got = sorted(tree) if isinstance(tree, Mapping) else type(tree).__name__
        raise ValueError(f"from_linen: an LSTM's tree has the entries {', '.join(names)}; got {got}.")
    kernels, recurrent = ([tree[n]["kernel"] for n in side] for side in (names[:4], names[4:]))
    return _read_gates("from_linen", kernels, recurrent, [tree[n]["bias"] for n in names[4:]])


def to_linen(layer: Cell | Layer, params: Params) -> Any:
    """The tree of parameters of linen's ``LSTMCell`` and ``OptimizedLSTMCell``.

    Returns:
      ``{"ii": {"kernel": ...}, ..., "ho": {"kernel": ..., "bias": ...}}`` of NumPy arrays for one LSTM (put
      ``{"params": {"cell": ...}}`` around it for an ``nn.RNN``), `Directions` of two for a bidirectional
      layer, and a list for several layers.

    Raises:
      ValueError: a cell is not an LSTM.
      TypeError: the parameters are not those of the layer.
    """
    return spread("to_linen", layer, params, _gate_tree)


def _gate_tree(cell: Any, params: Any) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of Flax cells with one array per gate, in linen and NNX."""
    form = FORMATS["flax"]
    kernels, recurrent, biases = (np.split(a, 4, axis=-1) for a in write(form, cell, params).single())
    tree = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip(form.gates, kernels, strict=True)}
    for gate, kernel, bias in zip(form.gates, recurrent, biases, strict=True):
        tree[f"h{gate}"] = {"kernel": kernel, "bias": bias}
    return tree


def from_nnx(source: Any) -> Converted:
    """Convert a Flax NNX ``LSTMCell`` or ``OptimizedLSTMCell``.

    Args:
      source: the module, an ``nnx.RNN`` of it or an ``nnx.Bidirectional`` of two; or a list of several of
        these, lowest layer first.

    Raises:
      ValueError: the module is not an LSTM, or has other activations.
    """
    return collect(source, _inside_nnx, _read_nnx)


def _inside_nnx(source: Any) -> Any:
    source = getattr(source, "cell", source)
    if hasattr(source, "forward_rnn"):
        return Directions(source.forward_rnn, source.backward_rnn)
    return source


def _read_nnx(module: Any) -> Entry:
    _check_nnx("from_nnx", module)
    if hasattr(module, "dense_i"):
        dense = module.dense_i.kernel[...], module.dense_h.kernel[...], module.dense_h.bias[...]
        return read("from_nnx", FORMATS["flax"], *dense)
    denses = [[getattr(module, name) for name in names] for names in _NNX_NAMES]
    kernels, recurrent = ([dense.kernel[...] for dense in side] for side in denses)
    return _read_gates("from_nnx", kernels, recurrent, [dense.bias[...] for dense in denses[1]])


_NNX_NAMES = (("ii", "if_", "ig", "io"), ("hi", "hf", "hg", "ho"))


def _check_nnx(name: str, module: Any) -> None:
    is_optimized = (
        hasattr(module, "dense_i") and module.dense_h.bias is not None
    )  # there is a GRU with dense_i
    if not is_optimized and not all(hasattr(module, part) for side in _NNX_NAMES for part in side):
        kind = type(module).__name__
        raise ValueError(f"{name}: {kind} is neither an nnx.LSTMCell nor an nnx.OptimizedLSTMCell.")
    for activation, want in (("gate_fn", jax.nn.sigmoid), ("activation_fn", jnp.tanh)):
        if getattr(module, activation) is not want:
            raise ValueError(
                f"{name}: {activation} of an LSTM must be {want}, got {getattr(module, activation)}."
            )


def to_nnx(layer: Cell | Layer, params: Params, module: Any) -> Any:
    """Write the parameters into NNX modules and return the modules.

    Args:
      layer: an LSTM, or a stack, layers or a bidirectional layer of LSTMs.
      params: its parameters.
      module: what `from_nnx` takes, of the same sizes.

    Raises:
      ValueError: a module does not fit.
      TypeError: the parameters are not those of the layer.
    """
    given = module if isinstance(module, list | tuple) and not isinstance(module, Directions) else [module]
    taken = take_apart("to_nnx", layer, params)
    ways = [_ways(_inside_nnx(one)) for one in given]
    if [len(entries) for entries in ways] != [len(entries) for entries in taken]:
        raise ValueError(f"to_nnx: the modules do not have the layers and directions of {layer}.")
    for modules, entries in zip(ways, taken, strict=True):
        for one, (cell, of_cell) in zip(modules, entries, strict=True):
            _fill_nnx(_inside_nnx(one), cell, of_cell)
    return module


def _ways(source: Any) -> tuple[Any, ...]:
    return source if isinstance(source, Directions) else (source,)


def _fill_nnx(module: Any, cell: Any, params: Any) -> None:
    _check_nnx("to_nnx", module)
    pairs: list[tuple[Any, np.ndarray]] = []
    if hasattr(module, "dense_i"):
        variables = (module.dense_i.kernel, module.dense_h.kernel, module.dense_h.bias)
        pairs += zip(variables, write(FORMATS["flax"], cell, params).single(), strict=True)
    else:
        for name, entry in _gate_tree(cell, params).items():
            dense = getattr(module, "if_" if name == "if" else name)
            pairs += [(getattr(dense, part), array) for part, array in entry.items()]
    for variable, array in pairs:
        if variable[...].shape != array.shape or variable[...].dtype != array.dtype:
            raise ValueError(
                f"to_nnx: the module has {variable[...].dtype} {variable[...].shape} where the cell has "
                f"{array.dtype} {array.shape}."
            )
    for variable, array in pairs:
        variable[...] = jnp.asarray(array)


def _read_gates(name: str, kernels: Sequence[Any], recurrent: Sequence[Any], biases: Sequence[Any]) -> Entry:
    """Read an LSTM with one array per gate."""
    joined = (
        np.concatenate([as_numpy(name, array) for array in arrays], axis=-1)
        for arrays in (kernels, recurrent, biases)
    )
    return read(name, FORMATS["flax"], *joined)
