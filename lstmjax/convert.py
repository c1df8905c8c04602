"""Parameters to and from the LSTMs of other libraries.

Each ``from_*`` takes what a library has, its module or plain arrays, and returns a cell or layer with its
parameters; each ``to_*`` gives what that library loads. Parameters go over bit for bit, whatever their dtype
(the cell computes in it), with two exceptions that round once: PyTorch's and cuDNN's two biases are added,
and Haiku and TensorFlow add 1 to the forget gate in their code, which `lstmjax` has in the bias. Both
directions of a round trip that starts here give the same bits, and for Haiku do so where the forget gate's
bias lies in 0.5..2.

Several layers of LSTMs are a `lstmjax.stack`, a bidirectional layer is a `lstmjax.bidirectional`, several of
those are `lstmjax.layers`. Libraries that have only single LSTMs (Flax, Equinox, Keras) give and take a list
with one entry for each layer, and `Directions` of two for a bidirectional one. No library is imported here
before it is needed; ``lstmjax.formats.FORMATS`` is the table of how they differ. What is not a parameter,
such as dropout or the order of the axes of the data, does not come along.
"""

import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from lstmjax.cell import Cell
from lstmjax.checks import check_sizes
from lstmjax.convert_jax import (
    from_equinox,
    from_haiku,
    from_linen,
    from_nnx,
    to_equinox,
    to_haiku,
    to_linen,
    to_nnx,
)
from lstmjax.formats import (
    FORMATS,
    Converted,
    Entry,
    as_numpy,
    build,
    pile,
    read,
    read_joined,
    take_apart,
    write,
)
from lstmjax.layers import Layer
from lstmjax.types import Array, Params

__all__ = [
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_tensorflow",
    "from_torch",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_torch",
]

_TORCH_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d+)(_reverse)?)?")


def from_torch(source: Any) -> Converted:
    """The LSTM of a ``torch.nn.LSTM``, with ``proj_size`` or without, or of a ``torch.nn.LSTMCell``.

    Args:
      source: the module or its ``state_dict()``, a mapping of names to arrays, ``weight_ih_l0`` and so on.

    Returns:
      A cell (several layers are a stack), or a layer if bidirectional; and its parameters.

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
    it into a module of the same sizes, directions and ``proj_size``. All of the bias is in ``bias_ih``;
    ``bias_hh`` is zero.

    Raises:
      ValueError: PyTorch has no such LSTM: other cells, or layers that differ in size or direction.
      TypeError: the parameters are not those of the layer.
    """
    names = {}
    for number, entries in enumerate(_alike("to_torch", layer, params, {"projection"})):
        for suffix, (cell, of_cell) in zip(("", "_reverse"), entries, strict=False):
            arrays = write(FORMATS["torch"], cell, of_cell)
            names[f"weight_ih_l{number}{suffix}"] = arrays.kernel
            names[f"weight_hh_l{number}{suffix}"] = arrays.recurrent_kernel
            if arrays.projection is not None:
                names[f"weight_hr_l{number}{suffix}"] = arrays.projection
            names[f"bias_ih_l{number}{suffix}"], names[f"bias_hh_l{number}{suffix}"] = arrays.biases
    return names


def from_cudnn(
    weights: Array, features: int, hidden: int, layers: int = 1, bidirectional: bool = False
) -> Converted:
    """The LSTM of cuDNN's flat weights, as ``jax.experimental.rnn`` lays them out.

    For each layer and direction, W then R, ``[4H, D]`` and ``[4H, H]``; after all of those, for each layer
    and direction its two biases ``[4H]``, which are added.

    Args:
      weights: ``[count]``.
      features: size of an input vector, D.
      hidden: size of the hidden state, H.
      layers: how many layers there are.
      bidirectional: whether each layer has two directions.

    Raises:
      ValueError: the number of weights does not fit, or a size is not a positive integer.

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> weights = to_cudnn(cell, cell.init(jax.random.key(0)))
      >>> weights.shape, from_cudnn(weights, 3, 4)[0] == cell
      ((144,), True)
    """
    check_sizes("from_cudnn", features=features, hidden=hidden, layers=layers)
    flat, directions = as_numpy("from_cudnn", weights), 1 + bool(bidirectional)
    sizes = [features, *[directions * hidden] * (layers - 1)]
    shapes: list[tuple[int, ...]] = [
        (4 * hidden, side) for size in sizes for _ in range(directions) for side in (size, hidden)
    ]
    shapes += [(4 * hidden,)] * (2 * layers * directions)
    counts = [math.prod(shape) for shape in shapes]
    if flat.shape != (sum(counts),):
        raise ValueError(
            f"from_cudnn: {layers} layers, features={features}, hidden={hidden} and {directions} directions "
            f"have weights of shape ({sum(counts)},), got {flat.shape}."
        )
    parts = np.split(flat, np.cumsum(counts)[:-1])
    arrays = iter(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    kernels = [[(next(arrays), next(arrays)) for _ in range(directions)] for _ in range(layers)]
    biases = [[(next(arrays), next(arrays)) for _ in range(directions)] for _ in range(layers)]
    return build(
        [
            [read("from_cudnn", FORMATS["cudnn"], *k, *b) for k, b in zip(ks, bs, strict=True)]
            for ks, bs in zip(kernels, biases, strict=True)
        ]
    )


def to_cudnn(layer: Cell | Layer, params: Params) -> np.ndarray:
    """Flat weights ``[count]`` for cuDNN, as `from_cudnn` describes them; the second biases are zero.

    Raises:
      ValueError: cuDNN has no such LSTM: other cells, or layers that differ in size or direction.
      TypeError: the parameters are not those of the layer.
    """
    entries = [entry for ways in _alike("to_cudnn", layer, params) for entry in ways]
    arrays = [write(FORMATS["cudnn"], cell, of_cell) for cell, of_cell in entries]
    kernels = [kernel.ravel() for one in arrays for kernel in (one.kernel, one.recurrent_kernel)]
    return np.concatenate([*kernels, *(bias for one in arrays for bias in one.biases)])


def from_keras(source: Any) -> Converted:
    """The LSTM of a Keras 3 ``LSTM``, ``LSTMCell``, or ``Bidirectional`` of either LSTM.

    Args:
      source: the built layer, or the list of arrays of its ``get_weights()``; or a list of several of these,
        lowest layer first.

    Raises:
      ValueError: the arrays are not those of an LSTM, or the layer is one that computes something else.
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
    """What ``set_weights`` of Keras 3 takes: kernel, recurrent kernel, bias, for each direction.

    Returns:
      For one layer the list of its arrays (3 for ``LSTM(hidden)``, 6 for ``Bidirectional(LSTM(hidden))``),
      for several a list with such a list for each.

    Raises:
      ValueError: there is a cell that is no LSTM.
      TypeError: the parameters are not those of the layer.
    """
    taken = [
        [array for cell, of_cell in entries for array in write(FORMATS["keras"], cell, of_cell).single()]
        for entries in take_apart("to_keras", layer, params)
    ]
    return taken if len(taken) > 1 else taken[0]


def from_tensorflow(source: Mapping[str, Any], forget_bias: float = 1.0) -> Converted:
    """The LSTM of the variables of TensorFlow 1's ``LSTMCell`` or ``BasicLSTMCell``.

    Args:
      source: names to arrays, such as a checkpoint has them, of one cell; all before the names given here
        does not matter. ``kernel`` is ``[D + H, 4H]`` with gates in the order i, g, f, o; ``bias`` is
        ``[4H]``; with peepholes, ``w_i_diag``, ``w_f_diag`` and ``w_o_diag`` are ``[H]``; with ``num_proj``,
        ``projection/kernel`` is ``[H, P]``.
      forget_bias: what the cell was made with, which its code adds to the forget gate.

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


def _alike(
    name: str, layer: Cell | Layer, params: Params, options: Set[str] = frozenset()
) -> list[tuple[Entry, ...]]:
    """`take_apart` for libraries whose layers all have the same sizes of state and the same directions.

    Raises:
      ValueError: they have not.
    """
    taken = take_apart(name, layer, params, options)
    if len({len(entries) for entries in taken}) > 1:
        raise ValueError(f"{name}: either all layers or none must be bidirectional, got {layer}.")
    if len({(cell.hidden, cell.output_size) for entries in taken for cell, _ in entries}) > 1:
        raise ValueError(f"{name}: all LSTMs must have the same hidden size and projection, got {layer}.")
    return taken
