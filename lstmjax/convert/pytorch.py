"""Conversion of parameters to and from PyTorch."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.convert.formats import FORMATS, Entry, read, write
from lstmjax.convert.structure import Converted, alike, build
from lstmjax.sequence.layers import Layer
from lstmjax.types import Params

_KIND = r"weight_ih|weight_hh|bias_ih|bias_hh|weight_hr"
_TORCH_NAME = re.compile(rf"(?:(.*)\.)?({_KIND})(?:_l(\d+)(_reverse)?)?")
_COMPUTED = re.compile(
    rf"(?:(.*)\.)?(?:parametrizations\.((?:{_KIND})\w*)\..*|((?:{_KIND})\w*)_(?:g|v|u|orig|mask))"
)

_Groups: TypeAlias = dict[str, dict[tuple[int, bool], dict[str, Any]]]
"""For the path of each module, for each layer and direction, the arrays."""


def from_torch(source: Any, prefix: str = "") -> Converted:
    """Convert a ``torch.nn.LSTM``, with or without ``proj_size``, ``GRU``, ``RNN``, or a cell of these.

    Dropout between the layers is a matter of training and not converted: PyTorch draws it anew for each step,
    `lstmjax.dropout` once for a sequence.

    Args:
      source: the module or its ``state_dict()``, a mapping of names to arrays, ``weight_ih_l0`` and so on.
        The module may be compiled, wrapped in ``DataParallel``, scripted or have parametrized, normalized or
        pruned weights; a ``state_dict`` may be of one that is compiled or wrapped.
      prefix: of the names in a larger model, such as ``"encoder.rnn."``; see `from_torch_model`.

    Returns:
      A cell (a stack for several layers), or a layer if bidirectional; and its parameters.

    Raises:
      ValueError: the arrays are not those of such a module, or its nonlinearity is ReLU (which a
        ``state_dict`` does not tell).

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.stack(lstmjax.lstm(3, 4), lstmjax.lstm(4, 4))
      >>> arrays = to_torch(cell, cell.init(jax.random.key(0)))
      >>> arrays["weight_ih_l1"].shape
      (16, 4)
      >>> from_torch(arrays)[0] == cell
      True
    """
    groups, others, removed = _groups(source)
    path = prefix.replace("_orig_mod.", "").removeprefix(removed).removesuffix(".")
    modules = ", ".join(repr(f"{name}.") for name in groups if name)
    known = f" There are recurrent modules with the prefixes {modules}." if modules else ""
    if prefix:
        if path not in groups:
            raise ValueError(f"from_torch: there is no recurrent module with the prefix {prefix!r}.{known}")
    elif others or set(groups) - {""}:
        (name, *_) = [*others, *(f"{name}.*" for name in groups if name)]
        raise ValueError(f"from_torch: {name} is no parameter of a torch.nn.LSTM, GRU or RNN.{known}")
    return _build(source, path, groups.get(path, {}))


def from_torch_model(source: Any) -> dict[str, Converted]:
    """Convert every recurrent module of a PyTorch model, and leave out its other parameters.

    Args:
      source: as in `from_torch`.

    Returns:
      What `from_torch` returns, for the path of each module in the model, such as ``"encoder.rnn"``.

    Raises:
      ValueError: as in `from_torch`, of any of the modules.

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.gru(3, 4)
      >>> arrays = to_torch(cell, cell.init(jax.random.key(0)))
      >>> model = {f"encoder.rnn.{name}": array for name, array in arrays.items()}
      >>> list(from_torch_model(model)), from_torch(model, prefix="encoder.rnn.")[0] == cell
      (['encoder.rnn'], True)
    """
    return {path: _build(source, path, entries) for path, entries in _groups(source)[0].items()}


def _groups(source: Any) -> tuple[_Groups, list[str], str]:
    """Arrays of recurrent modules by path, other names, and the prefix that all names of a wrapper have."""
    state = _state(source)
    state = {name.replace("_orig_mod.", ""): array for name, array in state.items()}  # of torch.compile
    wrapper = "module."  # of DataParallel
    removed = wrapper if state and all(name.startswith(wrapper) for name in state) else ""
    groups: _Groups = {}
    others = []
    for name, array in state.items():
        match = _TORCH_NAME.fullmatch(name.removeprefix(removed))
        if match is None:
            others.append(name)
            continue
        path, kind, layer, reverse = match.groups()
        entry = int(layer or 0), reverse is not None
        groups.setdefault(path or "", {}).setdefault(entry, {})[kind] = array
    return groups, others, removed


def _state(source: Any) -> dict[str, Any]:
    """Names and arrays, with weights that are computed from others in place of those others."""
    if not hasattr(source, "state_dict"):
        computed = [name for name in source if _COMPUTED.fullmatch(name)]
        if computed:
            raise ValueError(
                f"from_torch: {computed[0]} belongs to a weight that its module computes: give the module, "
                "or the state_dict() after removing the parametrization, normalization or pruning."
            )
        return dict(source)
    state = {}
    for name, array in source.state_dict().items():
        match = _COMPUTED.fullmatch(name)
        if match is None:
            state[name] = array
            continue
        path, new, old = match.groups()
        module = source.get_submodule(path or "")
        for hook in module._forward_pre_hooks.values():  # they compute the weight before each call
            if type(hook).__module__.startswith("torch.nn.utils."):
                hook(module, ())
        state[f"{path}.{new or old}" if path else new or old] = getattr(module, new or old)
    return state


def _build(source: Any, path: str, entries: Mapping[tuple[int, bool], Mapping[str, Any]]) -> Converted:
    where = f"from_torch: {path}" if path else "from_torch"
    if hasattr(source, "named_modules"):
        for name, module in source.named_modules():
            is_relu = "relu" in str(getattr(module, "nonlinearity", getattr(module, "mode", ""))).lower()
            clean = name.replace("_orig_mod", "").replace("..", ".").strip(".")
            if is_relu and clean in (path, f"module.{path}".strip(".")):
                raise ValueError(f"{where}: its nonlinearity is ReLU, that of lstmjax.elman is tanh.")
    number, directions = 1 + max((layer for layer, _ in entries), default=0), 1 + ((0, True) in entries)
    expected = [[(layer, bool(way)) for way in range(directions)] for layer in range(number)]
    if set(entries) != {entry for ways in expected for entry in ways}:
        got = sorted(f"layer {layer}{', reverse' * way}" for layer, way in entries)
        raise ValueError(f"{where}: the layers are not complete, got {got}.")
    return build([[_read_torch(where, entries[entry], entry) for entry in ways] for ways in expected])


def _read_torch(where: str, arrays: Mapping[str, Any], entry: tuple[int, bool]) -> Entry:
    name = f"{where}: layer {entry[0]}{', reverse' * entry[1]}"
    missing = {"weight_ih", "weight_hh"} - set(arrays)
    if missing or ("bias_ih" in arrays) != ("bias_hh" in arrays):
        raise ValueError(f"{name}: got only {sorted(arrays)}.")
    biases = [arrays[bias] for bias in ("bias_ih", "bias_hh") if bias in arrays]
    kernels = arrays["weight_ih"], arrays["weight_hh"]
    return read(name, FORMATS["torch"], *kernels, *biases, projection=arrays.get("weight_hr"))


def to_torch(layer: Cell | Layer, params: Params) -> dict[str, np.ndarray]:
    """The ``state_dict`` of a ``torch.nn.LSTM``, ``GRU`` or ``RNN``, as NumPy arrays.

    ``module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(...).items()})`` loads
    it into a module of the same kind, sizes, directions, ``proj_size`` and ``bias``; for a single cell,
    remove ``_l0`` from the names. ``torch.from_numpy`` does not take bfloat16: pass it
    ``array.astype("float32")``, which the module of bfloat16 rounds back to the same bits. The whole bias is
    in ``bias_ih``; ``bias_hh`` is zero, except that it has b' of a GRU.

    Raises:
      ValueError: PyTorch has no such module: other cells, a GRU with ``reset_after=False``, or layers that
        differ in kind, size, direction or ``bias``.
      TypeError: the parameters are not those of the layer.
    """
    names = {}
    for number, entries in enumerate(alike("to_torch", FORMATS["torch"], layer, params)):
        for suffix, (cell, of_cell) in zip(("", "_reverse"), entries, strict=False):
            arrays = write(FORMATS["torch"], cell, of_cell)
            names[f"weight_ih_l{number}{suffix}"] = arrays.kernel
            names[f"weight_hh_l{number}{suffix}"] = arrays.recurrent_kernel
            if arrays.projection is not None:
                names[f"weight_hr_l{number}{suffix}"] = arrays.projection
            for kind, bias in zip(("bias_ih", "bias_hh"), arrays.biases, strict=False):
                names[f"{kind}_l{number}{suffix}"] = bias
    return names
