"""The parameter layouts of other libraries' cells, as one table, and the two functions that use it.

The layouts of an LSTM, a GRU and an Elman cell differ only in the order and the sign of the gates, the
orientation of the kernels, the number of biases, and the offset that the library's code adds to the forget
gate. `lstmjax.convert` and `lstmjax.export` add only the names of the arrays.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells.elman import Elman, ElmanParams
from lstmjax.cells.general_lstm import GeneralLSTM, GeneralLSTMParams
from lstmjax.cells.gru import GRU, GRUParams
from lstmjax.cells.lstm import LSTM, LSTMParams
from lstmjax.types import Array, State

Plain: TypeAlias = LSTM | GeneralLSTM | GRU | Elman
"""A cell that other libraries have too."""


Entry: TypeAlias = tuple[Plain, Any]
"""One cell, and its parameters."""


LSTM_GATES = "ifgo"
"""The order of this library: input gate, forget gate, candidate, output gate."""

GRU_GATES = "rzn"
"""The order of this library: reset gate, update gate, candidate."""

ELMAN_GATES = "n"


class Format(NamedTuple):
    """The parameter layout of a library; the order of its gates is None for a cell that it does not have."""

    lstm: str | None = LSTM_GATES
    gru: str | None = GRU_GATES
    elman: str | None = ELMAN_GATES
    transposed: bool = False
    """Kernels are ``[4 * hidden, size]``, for W x; else ``[size, 4 * hidden]``, for x W."""
    biases: int = 1
    """Number of biases, which are added, except that a GRU's reset gate may act on the second."""
    always_biased: bool = False
    """Whether all its cells have biases: those of a cell with ``bias=False`` are then zero."""
    forget_offset: float = 0.0
    """The constant that the library's code adds to the forget gate's pre-activation, besides the bias."""
    reset_after: bool | None = True
    """Where a GRU applies its reset gate (`lstmjax.gru`); None if it has both forms."""
    negated: str = ""
    """Gates of a GRU that are 1 minus those of this library, and so of the opposite sign."""
    options: frozenset[str] = frozenset()
    """What its LSTMs may have besides the standard: projection, peepholes."""

    def gates(self, count: int) -> str | None:
        """The order of the gates of the cell that has ``count`` of them."""
        return {4: self.lstm, 3: self.gru, 1: self.elman}[count]


FORMATS = {
    "torch": Format(transposed=True, biases=2, options=frozenset({"projection"})),
    "keras": Format(gru="zrn", reset_after=None),
    "flax": Format(always_biased=True),
    "haiku": Format(
        "igfo", "zrn", None, always_biased=True, forget_offset=1.0, reset_after=False, negated="z"
    ),
    "equinox": Format(elman=None, transposed=True),
    "cudnn": Format(gru=None, elman=None, transposed=True, biases=2, always_biased=True),
    "tensorflow": Format("igfo", always_biased=True, forget_offset=1.0, reset_after=False),
    "onnx": Format(
        "iofg", "zrn", transposed=True, biases=2, reset_after=None, options=frozenset({"peepholes"})
    ),
}


class Arrays(NamedTuple):
    """The parameters of one cell in the layout of a library, as NumPy arrays."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    biases: tuple[np.ndarray, ...]
    """As many as the format has; one more, ``[hidden]``, for a GRU whose b' has no place in them. None at
    all for a cell with ``bias=False`` where the library has such cells."""
    projection: np.ndarray | None = None
    """``[hidden, outputs]``, or its transpose."""
    peepholes: np.ndarray | None = None
    """``[3 * hidden]``, in the order of the gates, the candidate left out."""


def read(
    name: str,
    form: Format,
    kernel: Any,
    recurrent_kernel: Any,
    *biases: Any,
    projection: Any = None,
    peepholes: Any = None,
    reset_after: bool | None = None,
    dtype: Any = None,
) -> Entry:
    """A cell and its parameters, from arrays in a format; its kind follows from their shapes.

    Two biases are added, except that a GRU's reset gate acts on the second, which may be that of the
    candidate alone; only this and an offset of the forget gate can round. Without any, and without an offset,
    the cell has ``bias=False``.

    Args:
      name: begins the messages of errors.
      form: the layout.
      kernel: from the inputs to the gates.
      recurrent_kernel: from the hidden state to the gates.
      biases: none, one or two.
      projection: of an LSTM, or None.
      peepholes: of an LSTM, or None.
      reset_after: the form of a GRU, in a format that has both.
      dtype: of the computation; by default that of the parameters.

    Raises:
      ValueError: the shapes or dtypes are not those of a cell.
    """
    named = {"kernel": kernel, "recurrent kernel": recurrent_kernel, "projection": projection}
    named |= {f"bias {number}": bias for number, bias in enumerate(biases)} | {"peepholes": peepholes}
    arrays = {part: as_numpy(name, array) for part, array in named.items() if array is not None}
    if form.transposed:  # from here on, kernels are oriented as in this library
        arrays = {part: array.T for part, array in arrays.items()}
    count, features, hidden, outputs = _check(name, arrays)
    gates = form.gates(count)
    if gates is None:
        raise ValueError(f"{name}: the shapes are those of a cell that this library does not have.")
    param_dtype = arrays["kernel"].dtype
    options: dict[str, Any] = {"dtype": param_dtype if dtype is None else dtype, "param_dtype": param_dtype}

    def ours(array: np.ndarray) -> np.ndarray:
        """In the order and with the signs of this library."""
        return _ordered(_signed(array, gates, form), gates, _GATES[count])

    given = [arrays[f"bias {number}"] for number in range(len(biases))]
    given = [np.pad(bias, (count * hidden - bias.size, 0)) for bias in given]  # b' may come alone
    if count == 4 and form.forget_offset:
        given.append(_offset(form, gates, hidden, param_dtype))
    options["bias"] = bool(given)
    candidate_bias = None
    if count == 3:
        is_after = options["reset_after"] = form.reset_after if reset_after is None else reset_after
        if is_after is None:
            raise ValueError(
                f"{name}: weights without biases do not tell where a GRU applies its reset gate: give the "
                "layer itself."
            )
        if is_after and given:
            first, second = (*given, np.zeros_like(given[0]))[:2]
            candidate_bias = second[2 * hidden :]
            given = [first, np.pad(second[: 2 * hidden], (0, hidden))]
    total = ours(functools.reduce(np.add, given)) if given else None
    usual = ours(arrays["kernel"]), ours(arrays["recurrent kernel"]), total
    seen, matrix = arrays.get("peepholes"), arrays.get("projection")
    cell: Plain
    params: Any
    if count == 1:
        cell, params = Elman(features, hidden, **options), ElmanParams(*usual)
    elif count == 3:
        cell, params = GRU(features, hidden, **options), GRUParams(*usual, candidate_bias)
    elif seen is None and matrix is None:
        cell, params = LSTM(features, hidden, **options), LSTMParams(*usual)
    else:
        options |= {"peepholes": seen is not None, "projection": None if matrix is None else outputs}
        seen = None if seen is None else _peepholes(seen, gates, LSTM_GATES)
        cell, params = (
            GeneralLSTM(features, hidden, **options),
            GeneralLSTMParams(*usual, peepholes=seen, gate_kernel=None, projection=matrix, norms=None),
        )
    return cell, jax.tree.map(jnp.array, params)


def _check(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[int, int, int, int]:
    """Number of gates, sizes of inputs, cell state and outputs; ValueError if the arrays are of no cell."""
    shapes = {part: array.shape for part, array in arrays.items()}
    features, columns = shapes["kernel"] if len(shapes["kernel"]) == 2 else (0, 0)
    outputs = shapes["recurrent kernel"][0] if shapes["recurrent kernel"] else 0
    hidden = shapes.get("projection", (outputs,))[0]
    count = columns // max(hidden, 1)
    want: dict[str, tuple[int, ...]] = {
        "kernel": (features, count * hidden),
        "recurrent kernel": (outputs, count * hidden),
        "projection": (hidden, outputs),
        "peepholes": (3 * hidden,),
    }
    candidate_only = {"bias 1": (hidden,)} if count == 3 else {}
    fits = all(
        shape in (want.get(part, (count * hidden,)), candidate_only.get(part))
        for part, shape in shapes.items()
    )
    is_lstm = count == 4 or not {"projection", "peepholes"} & set(arrays)
    if not features or count not in _GATES or not fits or not is_lstm:
        models = " With an axis of models before the others, see lstmjax.convert.members."
        raise ValueError(
            f"{name}: an LSTM has kernels [D, 4H] and [H, 4H] and biases [4H], a GRU 3H and an Elman cell H "
            f"for 4H; with a projection [H, P], an LSTM's second kernel is [P, 4H]; peepholes are [3H]. Got "
            f"shapes, of transposes where the library has them, {shapes}."
            f"{models * (len(shapes['kernel']) > 2)}"
        )
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1 or not jnp.issubdtype(arrays["kernel"].dtype, jnp.floating):
        raise ValueError(f"{name}: all arrays must be of one floating point dtype, got {dtypes}.")
    return count, features, hidden, outputs


def read_joined(name: str, form: Format, count: int, kernel: Any, bias: Any, **more: Any) -> Entry:
    """`read`, for a cell of ``count`` gates whose two kernels are concatenated along the first axis."""
    whole = as_numpy(name, kernel)
    columns = whole.shape[1] if whole.ndim == 2 else 0
    outputs = columns // count if more.get("projection") is None else np.shape(more["projection"])[-1]
    if not columns or columns % count or whole.shape[0] <= outputs:
        raise ValueError(f"{name}: the kernel must be [D + H, {count}H], got {whole.shape}.")
    features = whole.shape[0] - outputs
    return read(name, form, whole[:features], whole[features:], bias, **more)


def write(form: Format, cell: Plain, params: Any) -> Arrays:
    """The parameters of a cell in a format: exact, except that an offset of the forget gate may round.

    With two biases, the whole bias is in the first; the second is zero but for b' of a GRU.
    """
    count = params.kernel.shape[-1] // cell.hidden
    gates = form.gates(count)
    assert gates is not None
    if not cell.bias and form.always_biased:
        params = _with_zeros(cell, params)

    def theirs(array: Array) -> np.ndarray:
        return _signed(_ordered(np.asarray(array), _GATES[count], gates), gates, form)

    def turned(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.T) if form.transposed else np.array(array)

    biases: list[np.ndarray] = []
    if params.bias is not None:
        bias = theirs(params.bias)
        bias -= _offset(form, gates, cell.hidden, bias.dtype)
        candidate_bias = getattr(params, "candidate_bias", None)
        second = np.zeros(0, bias.dtype) if candidate_bias is None else np.array(candidate_bias)
        if form.biases == 2:
            second = np.pad(second, (bias.size - second.size, 0))
        biases = [bias, second] if second.size else [bias]
    projection, peepholes = (getattr(params, part, None) for part in ("projection", "peepholes"))
    return Arrays(
        kernel=turned(theirs(params.kernel)),
        recurrent_kernel=turned(theirs(params.recurrent_kernel)),
        biases=tuple(biases),
        projection=None if projection is None else turned(np.asarray(projection)),
        peepholes=None if peepholes is None else _peepholes(np.asarray(peepholes), LSTM_GATES, gates),
    )


def _offset(form: Format, gates: str, hidden: int, dtype: Any) -> np.ndarray:
    """What the library's code adds to the gates of an LSTM, besides the bias."""
    return np.repeat([form.forget_offset * (gate == "f") for gate in gates], hidden).astype(dtype)


def _with_zeros(cell: Plain, params: Any) -> Any:
    """The parameters of a cell without biases, as those of one with."""
    zeros = np.zeros(params.kernel.shape[-1], params.kernel.dtype)
    if isinstance(cell, GRU) and cell.reset_after:
        params = params._replace(candidate_bias=zeros[: cell.hidden])
    return params._replace(bias=zeros)


def convertible(form: Format, cell: Any) -> bool:
    """Whether the library has a cell that computes the same."""
    if type(cell) is LSTM or type(cell) is GeneralLSTM:
        return form.lstm is not None and _options(cell) <= form.options
    if type(cell) is GRU:
        return form.gru is not None and form.reset_after in (None, cell.reset_after)
    return type(cell) is Elman and form.elman is not None


def kinds(form: Format) -> str:
    """The cells that a library has, in words."""
    also = f" (with {' and '.join(sorted(form.options))} or without)" if form.options else ""
    where = {None: "", True: " with reset_after=True", False: " with reset_after=False"}[form.reset_after]
    names = {f"LSTMs{also}": form.lstm, f"GRUs{where}": form.gru, "Elman cells": form.elman}
    return ", ".join(name for name, gates in names.items() if gates is not None)


def as_numpy(name: str, array: Any) -> np.ndarray:
    """A NumPy array of the same dtype, from one of NumPy, JAX, PyTorch or Keras, or boxed by linen."""
    if hasattr(array, "unbox"):  # an array with metadata
        array = array.unbox()
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


_GATES = {4: LSTM_GATES, 3: GRU_GATES, 1: ELMAN_GATES}


def _options(cell: Any) -> set[str]:
    """The options in which an LSTM differs from the standard one."""
    usual = {field.name for field in dataclasses.fields(LSTM)}
    fields = [field for field in dataclasses.fields(cell) if field.name not in usual]
    return {field.name for field in fields if getattr(cell, field.name) != field.default}


def _signed(array: np.ndarray, gates: str, form: Format) -> np.ndarray:
    """The blocks of the last axis, in the order of ``gates``, negated where the format has the opposite."""
    if len(gates) != 3 or not form.negated:
        return array
    blocks = zip(gates, np.split(array, len(gates), axis=-1), strict=True)
    return np.concatenate([-block if gate in form.negated else block for gate, block in blocks], axis=-1)


def _ordered(array: np.ndarray, gates: str, wanted: str) -> np.ndarray:
    """A copy with the blocks of the last axis reordered from ``gates`` to ``wanted``."""
    blocks = np.split(array, len(gates), axis=-1)
    return np.concatenate([blocks[gates.index(gate)] for gate in wanted], axis=-1)


def _peepholes(array: np.ndarray, gates: str, wanted: str) -> np.ndarray:
    """`_ordered`, for arrays without a block for the candidate."""
    return _ordered(array, gates.replace("g", ""), wanted.replace("g", ""))
