"""Conversion of parameters to and from Flax: linen and NNX."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import FORMATS, Entry, as_numpy, read, write
from lstmjax.convert.structure import Converted, collect, spread, take_apart
from lstmjax.sequence.bidirectional import Directions
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params


class Names(NamedTuple):
    """Where a cell with one array per gate has its parts, in the order of the gates."""

    kernels: tuple[str, ...]
    recurrent: tuple[str, ...]
    biases: tuple[str, ...]
    """Those of the bias, then that of a GRU's b'."""


NAMES = {
    4: Names(("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho"), ("hi", "hf", "hg", "ho")),
    3: Names(("ir", "iz", "in"), ("hr", "hz", "hn"), ("ir", "iz", "in", "hn")),
    1: Names(("i",), ("h",), ("i",)),
}
"""For cells of each number of gates: LSTM, GRU, Elman."""

CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")
"""The cells of linen and NNX that can be converted."""


def from_linen(source: Any, path: str = "", module: Any = None) -> Converted:
    """Convert the parameters of linen's ``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell`` or ``SimpleCell``.

    A tree does not tell activations, direction and dtype of the computation; those of the modules are
    checked and kept only if ``module`` is given.

    Args:
      source: the cell's tree of parameters, with or without ``{"params": ...}`` around it; those of an
        ``nn.RNN`` of it or an ``nn.Bidirectional`` of two; or a list of several of these, lowest layer first.
      path: of the cell, ``nn.RNN`` or ``nn.Bidirectional`` in the tree of a larger model, such as
        ``"encoder/rnn"``; see `from_linen_model`.
      module: the linen module, or list of modules, that the parameters belong to, if at hand.

    Raises:
      ValueError: the tree is not that of such a cell, or the module computes something else.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> tree = to_linen(cell, cell.init(jax.random.key(0)))
      >>> sorted(tree), from_linen({"params": tree})[0] == cell
      (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], True)
    """
    dtype = None if module is None else _dtype_of(module)
    for name in path.split("/") if path else ():
        source = source.get("params", source)
        if name not in source:
            raise ValueError(f"from_linen: there is no {name!r} of {path!r} in {sorted(source)}.")
        source = source[name]
    return collect(source, _inside_linen, lambda tree: _read_linen(tree, dtype))


def from_linen_model(source: Mapping[str, Any]) -> dict[str, Converted]:
    """Convert every recurrent layer in the tree of parameters of a linen model.

    Args:
      source: the tree, with or without ``{"params": ...}`` around it.

    Returns:
      What `from_linen` returns, for the path of each layer, such as ``"encoder/rnn"``. A cell that was made
      in a method of the model lies beside its ``nn.RNN``, as ``LSTMCell_0``: those of an
      ``nn.Bidirectional`` are then found one by one; give `from_linen` their trees as `Directions`.

    Raises:
      ValueError: shapes or dtypes are not those of a cell.
    """
    return {"/".join(path): from_linen(tree) for path, tree in _cells(source.get("params", source))}


def _cells(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The trees of cells and bidirectional layers within a tree, and their paths."""
    inside = _inside_linen(tree)
    ways = [_inside_linen(way) for way in inside] if isinstance(inside, Directions) else [inside]
    if all(_names_of(way) for way in ways):
        yield path, tree
    elif isinstance(tree, Mapping):
        for name, below in tree.items():
            yield from _cells(below, (*path, name))


def _inside_linen(source: Any) -> Any:
    for around in ("params", "cell"):
        if isinstance(source, Mapping) and set(source) == {around}:
            source = source[around]
    if isinstance(source, Mapping) and set(source) == {"forward_rnn", "backward_rnn"}:
        return Directions(source["forward_rnn"], source["backward_rnn"])
    return source


def _names_of(tree: Any) -> Names | None:
    """The names of the parts of a cell, if the tree is that of one."""
    for names in NAMES.values():
        if isinstance(tree, Mapping) and set(tree) == {*names.kernels, *names.recurrent}:
            return names
    return None


def _read_linen(tree: Any, dtype: Any) -> Entry:
    names = _names_of(tree)
    if names is None:
        got = sorted(tree) if isinstance(tree, Mapping) else type(tree).__name__
        raise ValueError(
            "from_linen: the tree of a cell has the entries "
            f"{' or '.join(', '.join((*one.kernels, *one.recurrent)) for one in NAMES.values())}; got {got}. "
            "Of a larger model, give the path of a layer, or use lstmjax.convert.from_linen_model."
        )
    return _read_gates("from_linen", names, lambda name, part: tree[name][part], dtype)


def _read_gates(name: str, names: Names, get: Callable[[str, str], Any], dtype: Any) -> Entry:
    """Read a cell with one array per gate."""

    def joined(parts: tuple[str, ...], kind: str) -> np.ndarray:
        return np.concatenate([as_numpy(name, get(part, kind)) for part in parts], axis=-1)

    count = len(names.kernels)
    kernels = joined(names.kernels, "kernel"), joined(names.recurrent, "kernel")
    biases = [joined(parts, "bias") for parts in (names.biases[:count], names.biases[count:]) if parts]
    return read(name, FORMATS["flax"], *kernels, *biases, dtype=dtype)


def _dtype_of(module: Any) -> Any:
    """The dtype that linen modules compute in, None for that of their parameters; checks the modules."""
    name = "from_linen"
    modules = module if isinstance(module, list | tuple) else [module]
    cells = [cell for one in modules for cell in _ways(_inside_module(name, one))]
    dtypes = {getattr(_check_cell(name, cell), "dtype", None) for cell in cells}
    if len(dtypes) != 1:
        raise ValueError(f"{name}: all modules must compute in one dtype, got {dtypes}: convert each alone.")
    return dtypes.pop()


def _inside_module(name: str, source: Any) -> Any:
    """The cell in an ``RNN`` of linen or NNX, or `Directions` of the two in a ``Bidirectional``."""
    if hasattr(source, "forward_rnn"):
        merged = source.merge_fn(jnp.zeros((1, 1)), jnp.ones((1, 1)))
        if not np.array_equal(merged, [[0, 1]]):
            raise ValueError(f"{name}: merge_fn of a Bidirectional must concatenate, got {source.merge_fn}.")
        pair = source.forward_rnn, source.backward_rnn  # whose `reverse` it overrides
        return Directions(*(getattr(rnn, "cell", rnn) for rnn in pair))
    if isinstance(getattr(source, "cell", None), Cell | Layer):
        return source  # of this library
    if hasattr(source, "cell") and getattr(source, "reverse", False):
        raise ValueError(
            f"{name}: RNN(reverse=True) goes backward: convert its cell, and run it with "
            "lstmjax.unroll(..., reverse=True), whose outputs are in the order of the inputs, as with "
            "keep_order=True."
        )
    return getattr(source, "cell", source)


def _ways(source: Any) -> tuple[Any, ...]:
    return source if isinstance(source, Directions) else (source,)


def _check_cell(name: str, module: Any) -> Any:
    """The module, if it is a cell that computes what the cells of this library do."""
    kind = type(module).__name__
    if not {base.__name__ for base in type(module).__mro__}.intersection(CELLS):
        raise ValueError(f"{name}: {kind} is none of Flax's {', '.join(CELLS)}.")
    wants = {"gate_fn": jax.nn.sigmoid, "activation_fn": jnp.tanh, "residual": False}
    for option, want in wants.items():
        if (got := getattr(module, option, want)) is not want:
            raise ValueError(f"{name}: {option} of {kind} must be {want}, got {got}.")
    return module


def to_linen(layer: Cell | Layer, params: Params) -> Any:
    """The parameters of linen's ``LSTMCell`` and ``OptimizedLSTMCell``, ``GRUCell`` or ``SimpleCell``.

    Returns:
      ``{"ii": {"kernel": ...}, ..., "ho": {"kernel": ..., "bias": ...}}`` of NumPy arrays for one cell (put
      ``{"params": {"cell": ...}}`` around it for an ``nn.RNN``), `Directions` of two for a bidirectional
      layer, and a list for several layers. linen has no cells without biases: for ``bias=False``, they are 0.

    Raises:
      ValueError: linen has no such cell.
      TypeError: the parameters are not those of the layer.
    """
    return spread("to_linen", FORMATS["flax"], layer, params, _gate_tree)


def _gate_tree(cell: Any, params: Any) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of Flax cells with one array per gate, in linen and NNX."""
    arrays = write(FORMATS["flax"], cell, params)
    count = arrays.kernel.shape[-1] // cell.hidden
    names = NAMES[count]
    biases = np.split(np.concatenate(arrays.biases), len(names.biases))
    tree: dict[str, dict[str, np.ndarray]] = {}
    for parts, whole in ((names.kernels, arrays.kernel), (names.recurrent, arrays.recurrent_kernel)):
        tree |= {
            part: {"kernel": kernel}
            for part, kernel in zip(parts, np.split(whole, count, axis=-1), strict=True)
        }
    for part, bias in zip(names.biases, biases, strict=True):
        tree[part]["bias"] = bias
    return tree


def from_nnx(source: Any) -> Converted:
    """Convert a Flax NNX ``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell`` or ``SimpleCell``.

    Args:
      source: the module, an ``nnx.RNN`` of it or an ``nnx.Bidirectional`` of two; or a list of several of
        these, lowest layer first. A module of `lstmjax.nnx` gives the cell and the parameters that it holds.

    Raises:
      ValueError: the module is none of these, has other activations, or goes backward.
    """
    return collect(source, lambda module: _inside_module("from_nnx", module), _read_nnx)


def _read_nnx(module: Any) -> Any:
    """An `Entry`; of a module of this library, whichever cell or layer it holds."""
    if isinstance(getattr(module, "cell", None), Cell | Layer):
        return module.cell, module.values
    _check_cell("from_nnx", module)
    if hasattr(module, "dense_i"):
        dense_i, dense_h = module.dense_i, module.dense_h
        biases = [dense.bias[...] for dense in (dense_i, dense_h) if dense.bias is not None]
        kernels = dense_i.kernel[...], dense_h.kernel[...]
        return read("from_nnx", FORMATS["flax"], *kernels, *biases, dtype=module.dtype)
    return _read_gates(
        "from_nnx", NAMES[4], lambda name, part: getattr(_dense(module, name), part)[...], module.dtype
    )


def _dense(module: Any, name: str) -> Any:
    return getattr(module, "if_" if name == "if" else name)


def to_nnx(layer: Cell | Layer, params: Params, module: Any) -> Any:
    """Write the parameters into NNX modules and return the modules.

    NNX has no cells without biases: for ``bias=False``, they are 0.

    Args:
      layer: a cell of the kinds of `from_nnx`, or a stack, layers or a bidirectional layer of such cells.
      params: its parameters.
      module: what `from_nnx` takes, of the same sizes.

    Raises:
      ValueError: a module does not fit or computes in another dtype; or it is a ``GRUCell``, which has no b',
        and that is not 0.
      TypeError: the parameters are not those of the layer.
    """
    given = module if isinstance(module, list | tuple) and not isinstance(module, Directions) else [module]
    taken = take_apart("to_nnx", FORMATS["flax"], layer, params)
    ways = [_ways(_inside_module("to_nnx", one)) for one in given]
    if [len(entries) for entries in ways] != [len(entries) for entries in taken]:
        raise ValueError(f"to_nnx: the modules do not have the layers and directions of {layer}.")
    pairs = [
        pair
        for modules, entries in zip(ways, taken, strict=True)
        for one, (cell, of_cell) in zip(modules, entries, strict=True)
        for pair in _pairs(_inside_module("to_nnx", one), cell, of_cell)
    ]
    for variable, array in pairs:
        if variable[...].shape != array.shape or variable[...].dtype != array.dtype:
            raise ValueError(
                f"to_nnx: the module has {variable[...].dtype} {variable[...].shape} where the cell has "
                f"{array.dtype} {array.shape}."
            )
    for variable, array in pairs:
        variable[...] = jnp.asarray(array)
    return module


def _pairs(module: Any, cell: Any, params: Any) -> list[tuple[Any, np.ndarray]]:
    """The variables of a module, and the array for each."""
    _check_cell("to_nnx", module)
    dtype = np.dtype(module.dtype or module.param_dtype)
    if dtype != cell.dtype:
        raise ValueError(
            f"to_nnx: {type(module).__name__} computes in {dtype}, the cell in {cell.dtype}: make the module "
            f"with dtype={str(cell.dtype)!r}."
        )
    if not hasattr(module, "dense_i"):
        tree = _gate_tree(cell, params)
        if set(tree) != {*NAMES[4].kernels, *NAMES[4].recurrent}:
            raise ValueError(f"to_nnx: {type(module).__name__} does not fit {cell}.")
        parts = [(name, part, array) for name, entry in tree.items() for part, array in entry.items()]
        return [(getattr(_dense(module, name), part), array) for name, part, array in parts]
    arrays = write(FORMATS["flax"], cell, params)
    bias, *second = arrays.biases
    if any(map(np.any, second)):
        raise ValueError(
            "to_nnx: nnx.GRUCell has no recurrent bias of the candidate, and candidate_bias is not 0; "
            "linen.GRUCell has it."
        )
    dense_i, dense_h = module.dense_i, module.dense_h
    biased = dense_h if dense_i.bias is None else dense_i
    return [(dense_i.kernel, arrays.kernel), (dense_h.kernel, arrays.recurrent_kernel), (biased.bias, bias)]
