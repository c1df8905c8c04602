"""The parameter layouts of other libraries' LSTMs, as one table, and the two functions that use it.

For a single LSTM, with or without projection and peepholes, the layouts differ only in the order of the
gates, the orientation of the kernels, the number of biases, and the offset that the library's code adds to
the forget gate. `lstmjax.convert` and `lstmjax.export` add only the names of the arrays.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells.cell import Cell, check_params
from lstmjax.cells.general_lstm import GeneralLSTM, GeneralLSTMParams
from lstmjax.cells.lstm import LSTM, LSTMParams
from lstmjax.sequence.bidirectional import Bidirectional, Directions
from lstmjax.sequence.layers import Layer, Layers, layers
from lstmjax.types import Array, Params, State
from lstmjax.wrappers.stack import Stack, stack

GATES = "ifgo"
"""The order of this library: input gate, forget gate, candidate, output gate."""


Converted: TypeAlias = tuple[Cell | Layer, Params]
"""A cell or layer, and its parameters."""


Entry: TypeAlias = tuple[LSTM | GeneralLSTM, Any]
"""One LSTM, and its parameters."""


class Format(NamedTuple):
    """The parameter layout of one LSTM in a library."""

    gates: str = GATES
    """The order of the gates."""
    transposed: bool = False
    """Kernels are ``[4 * hidden, size]``, for W x; else ``[size, 4 * hidden]``, for x W."""
    biases: int = 1
    """Number of biases, which are added."""
    forget_offset: float = 0.0
    """The constant that the library's code adds to the forget gate's pre-activation, besides the bias."""


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
    """The parameters of one LSTM in the layout of a library, as NumPy arrays."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    biases: tuple[np.ndarray, ...]
    projection: np.ndarray | None = None
    """``[hidden, outputs]``, or its transpose."""
    peepholes: np.ndarray | None = None
    """``[3 * hidden]``, in the order of the gates, the candidate left out."""

    def single(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kernel, recurrent kernel and bias, for a format with one bias."""
        (bias,) = self.biases
        return self.kernel, self.recurrent_kernel, bias


def read(
    name: str,
    form: Format,
    kernel: Any,
    recurrent_kernel: Any,
    *biases: Any,
    projection: Any = None,
    peepholes: Any = None,
) -> Entry:
    """A cell and its parameters, from arrays in a format; without biases, the bias is zero.

    Two biases are added; only this and an offset of the forget gate can round.

    Raises:
      ValueError: the shapes or dtypes are not those of one LSTM; the message begins with ``name``.
    """
    named = {"kernel": kernel, "recurrent kernel": recurrent_kernel, "projection": projection}
    named |= {f"bias {number}": bias for number, bias in enumerate(biases)} | {"peepholes": peepholes}
    arrays = {part: as_numpy(name, array) for part, array in named.items() if array is not None}
    if form.transposed:  # from here on, kernels are oriented as in this library
        arrays = {part: array.T for part, array in arrays.items()}
    features, hidden, outputs = _check(name, arrays)
    dtype = arrays["kernel"].dtype
    bias = np.zeros(4 * hidden, dtype)
    for number in range(len(biases)):
        bias = bias + arrays[f"bias {number}"]
    bias = _ordered(bias, form.gates, GATES)
    if form.forget_offset:
        bias[hidden : 2 * hidden] += dtype.type(form.forget_offset)
    kernels = [_ordered(arrays[part], form.gates, GATES) for part in ("kernel", "recurrent kernel")]
    usual = [jnp.asarray(array) for array in (*kernels, bias)]
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype}
    if projection is None and peepholes is None:
        return LSTM(features, hidden, **options), LSTMParams(*usual)
    options |= {"peepholes": peepholes is not None, "projection": None if projection is None else outputs}
    cell = GeneralLSTM(features, hidden, **options)
    kernel, recurrent, bias_array = usual
    seen, matrix = arrays.get("peepholes"), arrays.get("projection")
    return cell, GeneralLSTMParams(
        kernel=kernel,
        recurrent_kernel=recurrent,
        bias=bias_array,
        peepholes=None if seen is None else jnp.asarray(_peepholes(seen, form.gates, GATES)),
        gate_kernel=None,
        projection=None if matrix is None else jnp.array(matrix),  # a copy
        norms=None,
    )


def _check(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[int, int, int]:
    """Sizes of inputs, cell state and outputs of an LSTM; ValueError if the arrays are not those of one."""
    shapes = {part: array.shape for part, array in arrays.items()}
    features, columns = shapes["kernel"] if len(shapes["kernel"]) == 2 else (0, 0)
    hidden = columns // 4
    outputs = shapes.get("projection", (hidden,))[-1]
    want: dict[str, tuple[int, ...]] = {
        "kernel": (features, 4 * hidden),
        "recurrent kernel": (outputs, 4 * hidden),
        "projection": (hidden, outputs),
        "peepholes": (3 * hidden,),
    }
    if not hidden or any(shape != want.get(part, (4 * hidden,)) for part, shape in shapes.items()):
        raise ValueError(
            f"{name}: an LSTM has kernels [D, 4H] and [H, 4H] and biases [4H]; with a projection [H, P], the "
            f"second is [P, 4H]; peepholes are [3H]. Got shapes, of transposes where the library has them, "
            f"{shapes}."
        )
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1 or not jnp.issubdtype(arrays["kernel"].dtype, jnp.floating):
        raise ValueError(f"{name}: all arrays must be of one floating point dtype, got {dtypes}.")
    return features, hidden, outputs


def read_joined(name: str, form: Format, kernel: Any, bias: Any, **more: Any) -> Entry:
    """`read`, for an LSTM whose two kernels are concatenated along the first axis."""
    whole = as_numpy(name, kernel)
    columns = whole.shape[1] if whole.ndim == 2 else 0
    outputs = columns // 4 if more.get("projection") is None else np.shape(more["projection"])[-1]
    if not columns or columns % 4 or whole.shape[0] <= outputs:
        raise ValueError(f"{name}: the kernel must be [D + H, 4H], got {whole.shape}.")
    features = whole.shape[0] - outputs
    return read(name, form, whole[:features], whole[features:], bias, **more)


def write(form: Format, cell: LSTM | GeneralLSTM, params: Any) -> Arrays:
    """The parameters of a cell in a format: exact, except that an offset of the forget gate may round.

    With two biases, the whole bias is in the first; the second is zero.
    """

    def turned(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.T) if form.transposed else np.array(array)

    kernel, recurrent, bias = (
        _ordered(np.asarray(array), GATES, form.gates)
        for array in (params.kernel, params.recurrent_kernel, params.bias)
    )
    if form.forget_offset:
        forget = form.gates.index("f") * cell.hidden
        bias[forget : forget + cell.hidden] -= bias.dtype.type(form.forget_offset)
    projection, peepholes = (getattr(params, part, None) for part in ("projection", "peepholes"))
    return Arrays(
        kernel=turned(kernel),
        recurrent_kernel=turned(recurrent),
        biases=(bias, *[np.zeros_like(bias)] * (form.biases - 1)),
        projection=None if projection is None else turned(np.asarray(projection)),
        peepholes=None if peepholes is None else _peepholes(np.asarray(peepholes), GATES, form.gates),
    )


def build(directions: Sequence[Sequence[Entry]]) -> Converted:
    """A cell or layer from LSTMs, lowest layer first, each with one direction or two: forward, backward."""
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
    """Stack parts: one part is returned as is, several cells become a stack, other parts become layers."""
    if len(parts) == 1:
        return parts[0]
    cells = [part for part, _ in parts if isinstance(part, Cell)]
    whole = stack(*cells) if len(cells) == len(parts) else layers(*(part for part, _ in parts))
    return whole, tuple(params for _, params in parts)


def take_apart(
    name: str, layer: Cell | Layer, params: Params, options: Set[str] = frozenset()
) -> list[tuple[Entry, ...]]:
    """The inverse of `build`: for each layer, the LSTM of each direction with its parameters.

    ``options`` are the options of `lstm` that ``name`` supports besides the standard LSTM: projection,
    peepholes.

    Raises:
      ValueError: the layer contains something that ``name`` does not support, or a parameter has another
        shape.
      TypeError: the parameters are not those of the layer.
    """
    if isinstance(layer, Stack | Layers):
        parts = layer.cells if isinstance(layer, Stack) else layer.parts
        if not isinstance(params, tuple) or len(params) != len(parts):
            raise TypeError(f"{name}: params must be a tuple with one entry for each part of {layer}.")
        taken = [
            take_apart(name, part, of_part, options) for part, of_part in zip(parts, params, strict=True)
        ]
        return [entries for part in taken for entries in part]
    if isinstance(layer, Bidirectional):
        if not isinstance(params, Directions):
            raise TypeError(f"{name}: params of a bidirectional layer must be Directions(forward, backward).")
        ways = zip((layer.forward, layer.backward), params, strict=True)
        return [tuple(_plain(name, cell, of_cell, options) for cell, of_cell in ways)]
    return [(_plain(name, layer, params, options),)]


def state_of_carry(cell: LSTM | GeneralLSTM, carry: tuple[Array, Array]) -> State:
    """The state of a cell, from Flax's carry ``(c, h)``.

    Raises:
      ValueError: the state holds more than the carry, with ``full_gate_recurrence``.
    """
    memory, hidden = carry
    state = cell.initial_state(tuple(memory.shape[:-1]))
    if len(jax.tree.leaves(state)) > 2:
        raise ValueError(f"LSTMCell: Flax's carry (c, h) is not all of the state of {cell}: use Recurrent.")
    return state._replace(hidden=hidden, cell=memory)


def as_numpy(name: str, array: Any) -> np.ndarray:
    """A NumPy array of the same dtype, from an array of NumPy, JAX, PyTorch or Keras."""
    if hasattr(array, "detach"):  # a tensor of PyTorch
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":  # NumPy has it from ml_dtypes; PyTorch cannot convert
            return np.asarray(array.float()).astype(jnp.bfloat16)
    try:
        values = np.asarray(array)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: parameters must be arrays, got {type(array).__name__}.") from error
    if values.dtype == np.object_:
        raise ValueError(f"{name}: parameters must be arrays, got {type(array).__name__}.")
    return values


def _plain(name: str, cell: Cell | Layer, params: Params, options: Set[str]) -> Entry:
    """The cell, if it computes the same as the library's LSTM."""
    if type(cell) is LSTM or (type(cell) is GeneralLSTM and _options(cell) <= options):
        assert isinstance(cell, LSTM | GeneralLSTM)
        check_params(cell, params)
        return cell, params
    also = f", with {' and '.join(sorted(options))} or without" if options else ""
    raise ValueError(
        f"{name}: only LSTMs{also}, alone or in stack, layers and bidirectional, can be converted; "
        f"got {cell}."
    )


def _options(cell: Any) -> set[str]:
    """The options in which an LSTM differs from the standard one."""
    usual = {field.name for field in dataclasses.fields(LSTM)}
    fields = [field for field in dataclasses.fields(cell) if field.name not in usual]
    return {field.name for field in fields if getattr(cell, field.name) != field.default}


def _ordered(array: np.ndarray, gates: str, wanted: str) -> np.ndarray:
    """A copy with the blocks of the last axis reordered from ``gates`` to ``wanted``."""
    blocks = np.split(array, len(gates), axis=-1)
    return np.concatenate([blocks[gates.index(gate)] for gate in wanted], axis=-1)


def _peepholes(array: np.ndarray, gates: str, wanted: str) -> np.ndarray:
    """`_ordered`, for arrays without a block for the candidate."""
    return _ordered(array, gates.replace("g", ""), wanted.replace("g", ""))


def alike(
    name: str, layer: Cell | Layer, params: Params, options: Set[str] = frozenset()
) -> list[tuple[Entry, ...]]:
    """`take_apart` for libraries whose layers all have the same state sizes and the same directions.

    Raises:
      ValueError: sizes or directions differ between layers.
    """
    taken = take_apart(name, layer, params, options)
    if len({len(entries) for entries in taken}) > 1:
        raise ValueError(f"{name}: either all layers or none must be bidirectional, got {layer}.")
    if len({(cell.hidden, cell.output_size) for entries in taken for cell, _ in entries}) > 1:
        raise ValueError(f"{name}: all LSTMs must have the same hidden size and projection, got {layer}.")
    return taken


def collect(source: Any, inside: Callable[[Any], Any], read_one: Callable[[Any], Entry]) -> Converted:
    """Read one LSTM, the two LSTMs of a bidirectional layer, or a list of layers."""
    source = inside(source)
    if isinstance(source, Directions):
        return build([[read_one(inside(way)) for way in source]])
    if isinstance(source, list | tuple):
        return pile([collect(entry, inside, read_one) for entry in source])
    return read_one(source)


def spread(name: str, layer: Cell | Layer, params: Params, write_one: Callable[[Any, Any], Any]) -> Any:
    """The inverse of `collect`."""
    written = [
        [write_one(cell, of_cell) for cell, of_cell in entries] for entries in take_apart(name, layer, params)
    ]
    layers = [Directions(*ways) if len(ways) > 1 else ways[0] for ways in written]
    return layers if len(layers) > 1 else layers[0]
