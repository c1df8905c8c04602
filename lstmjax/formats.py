"""How other libraries lay out the parameters of an LSTM, as one table, and the two functions that read it.

All that differs for a single LSTM is the order of the gates, which side of its input a kernel stands on, how
many biases there are, and what code adds to the forget gate by itself. What `lstmjax.convert` and
`lstmjax.export` add is only under which names the arrays lie.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from lstmjax.bidirectional import Bidirectional, Directions
from lstmjax.cell import LSTM, Cell, LSTMParams, check_params
from lstmjax.layers import Layer, Layers, layers
from lstmjax.types import Params
from lstmjax.wrappers import Stack, stack

GATES = "ifgo"
"""The order of this library: input gate, forget gate, candidate, output gate."""


Converted: TypeAlias = tuple[Cell | Layer, Params]
"""A cell or layer, and its parameters."""


class Format(NamedTuple):
    """How a library lays out the parameters of one LSTM."""

    gates: str = GATES
    """The order of the gates."""
    transposed: bool = False
    """Kernels are ``[4 * hidden, size]``, for W x; else ``[size, 4 * hidden]``, for x W."""
    biases: int = 1
    """How many biases there are, which are added."""
    forget_offset: float = 0.0
    """What the code of the library adds to the forget gate, besides the bias."""


FORMATS = {
    "torch": Format(transposed=True, biases=2),
    "keras": Format(),
    "flax": Format(),
    "haiku": Format(gates="igfo", forget_offset=1.0),
    "equinox": Format(transposed=True),
    "cudnn": Format(transposed=True, biases=2),
    "tensorflow": Format(gates="igfo", forget_offset=1.0),
    "onnx": Format(gates="iofg", transposed=True, biases=2),
}


class Arrays(NamedTuple):
    """The parameters of one LSTM in the layout of some library, as NumPy arrays."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    biases: tuple[np.ndarray, ...]

    def single(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kernel, recurrent kernel and bias, of a form with one bias."""
        (bias,) = self.biases
        return self.kernel, self.recurrent_kernel, bias


def read(name: str, form: Format, kernel: Any, recurrent_kernel: Any, *biases: Any) -> tuple[LSTM, Params]:
    """A cell and its parameters, of arrays in a form; without biases, the bias is zero.

    Two biases are added, which is the one thing that rounds, besides an offset of the forget gate.

    Raises:
      ValueError: the shapes or dtypes are not those of one LSTM; ``name`` is whose arrays they are.
    """
    kernels = [as_numpy(name, array) for array in (kernel, recurrent_kernel)]
    given = [as_numpy(name, array) for array in biases]
    shapes = [array.shape for array in (*kernels, *given)]
    if form.transposed:
        kernels = [array.T for array in kernels]
    features, hidden = kernels[0].shape[0], kernels[1].shape[0]
    want = [(features, 4 * hidden), (hidden, 4 * hidden), *[(4 * hidden,)] * len(given)]
    if [array.shape for array in (*kernels, *given)] != want:
        layout = "[4H, D], [4H, H]" if form.transposed else "[D, 4H], [H, 4H]"
        raise ValueError(f"{name}: an LSTM has kernels {layout} and biases [4H], got shapes {shapes}.")
    dtypes = {array.dtype for array in (*kernels, *given)}
    if len(dtypes) > 1 or not jnp.issubdtype(kernels[0].dtype, jnp.floating):
        raise ValueError(f"{name}: all arrays must be of one floating point dtype, got {dtypes}.")
    dtype = kernels[0].dtype
    total = functools.reduce(np.add, given) if given else np.zeros(4 * hidden, dtype)
    bias = _ordered(total, form.gates, GATES)
    if form.forget_offset:
        bias[hidden : 2 * hidden] += dtype.type(form.forget_offset)
    cell = LSTM(features, hidden, dtype=dtype, param_dtype=dtype)
    kernels = [_ordered(array, form.gates, GATES) for array in kernels]
    return cell, LSTMParams(*(jnp.asarray(array) for array in (*kernels, bias)))


def read_joined(name: str, form: Format, kernel: Any, bias: Any) -> tuple[LSTM, Params]:
    """`read`, of an LSTM whose two kernels lie one below the other in one array."""
    whole = as_numpy(name, kernel)
    if whole.ndim != 2 or whole.shape[1] % 4 or whole.shape[0] <= whole.shape[1] // 4:
        raise ValueError(f"{name}: the kernel must be [D + H, 4H], got {whole.shape}.")
    features = whole.shape[0] - whole.shape[1] // 4
    return read(name, form, whole[:features], whole[features:], bias)


def write(form: Format, cell: LSTM, params: LSTMParams) -> Arrays:
    """The parameters of a cell in a form: exactly, but for an offset of the forget gate, which may round.

    All of the bias is in the first of two; the other is zero.
    """
    kernel, recurrent = (
        _ordered(np.asarray(array), GATES, form.gates) for array in (params.kernel, params.recurrent_kernel)
    )
    bias = np.array(params.bias)
    if form.forget_offset:
        bias[cell.hidden : 2 * cell.hidden] -= bias.dtype.type(form.forget_offset)
    bias = _ordered(bias, GATES, form.gates)
    if form.transposed:
        kernel, recurrent = np.ascontiguousarray(kernel.T), np.ascontiguousarray(recurrent.T)
    return Arrays(kernel, recurrent, (bias, *[np.zeros_like(bias)] * (form.biases - 1)))


def build(directions: Sequence[Sequence[tuple[LSTM, Params]]]) -> Converted:
    """A cell or layer of LSTMs, lowest layer first, each with one direction or two: forward, backward."""
    parts: list[Converted] = []
    for entries in directions:
        if len(entries) == 1:
            parts.append(entries[0])
        else:
            (forward, forward_params), (backward, backward_params) = entries
            pair = Bidirectional(forward, backward), Directions(forward_params, backward_params)
            parts.append(pair)
    return pile(parts)


def pile(parts: Sequence[Converted]) -> Converted:
    """Parts one above the other: one as it is, several cells as a stack, else as layers."""
    if len(parts) == 1:
        return parts[0]
    cells = [part for part, _ in parts if isinstance(part, Cell)]
    whole = stack(*cells) if len(cells) == len(parts) else layers(*(part for part, _ in parts))
    return whole, tuple(params for _, params in parts)


def take_apart(name: str, layer: Cell | Layer, params: Params) -> list[tuple[tuple[LSTM, LSTMParams], ...]]:
    """What `build` builds: for each layer, the LSTM of each direction with its parameters.

    Raises:
      ValueError: there is something in it that ``name`` does not have, or a parameter has another shape.
      TypeError: the parameters are not those of the layer.
    """
    if isinstance(layer, Stack | Layers):
        parts = layer.cells if isinstance(layer, Stack) else layer.parts
        if not isinstance(params, tuple) or len(params) != len(parts):
            raise TypeError(f"{name}: params must be a tuple with one entry for each part of {layer}.")
        taken = [take_apart(name, part, of_part) for part, of_part in zip(parts, params, strict=True)]
        return [entries for part in taken for entries in part]
    if isinstance(layer, Bidirectional):
        if not isinstance(params, Directions):
            raise TypeError(f"{name}: params of a bidirectional layer must be Directions(forward, backward).")
        return [(_plain(name, layer.forward, params.forward), _plain(name, layer.backward, params.backward))]
    return [(_plain(name, layer, params),)]


def as_numpy(name: str, array: Any) -> np.ndarray:
    """A NumPy array of the same dtype, of an array of NumPy, JAX, PyTorch or Keras."""
    if hasattr(array, "detach"):  # a tensor of PyTorch
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # which NumPy has from ml_dtypes, and PyTorch knows not of
            return np.asarray(array.float()).astype(jnp.bfloat16)
    try:
        values = np.asarray(array)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: parameters must be arrays, got {type(array).__name__}.") from error
    if values.dtype == np.object_:
        raise ValueError(f"{name}: parameters must be arrays, got {type(array).__name__}.")
    return values


def _plain(name: str, cell: Cell | Layer, params: Params) -> tuple[LSTM, LSTMParams]:
    """The cell, if it computes what every library's LSTM does."""
    if type(cell) is not LSTM:
        raise ValueError(
            f"{name}: only LSTMs, alone or in stack, layers and bidirectional, can be converted; got {cell}."
        )
    check_params(cell, params)
    return cell, params


def _ordered(array: np.ndarray, gates: str, wanted: str) -> np.ndarray:
    """A copy with the blocks of the last axis, which lie in the order ``gates``, in the order ``wanted``."""
    blocks = np.split(array, len(gates), axis=-1)
    return np.concatenate([blocks[gates.index(gate)] for gate in wanted], axis=-1)
