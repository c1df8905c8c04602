"""Export of cells and layers as programs that run without this library: StableHLO and ONNX."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from lstmjax.cells import convolutional, elman, general_lstm, gru, lstm, minimal, multiplicative, xlstm
from lstmjax.cells.cell import Cell
from lstmjax.cells.elman import Elman
from lstmjax.cells.gru import GRU
from lstmjax.convert.formats import FORMATS, Entry, write
from lstmjax.convert.structure import take_apart
from lstmjax.sequence.bidirectional import Directions
from lstmjax.sequence.layers import Layer
from lstmjax.sequence.unroll import unroll
from lstmjax.types import Params
from lstmjax.wrappers.highway import HighwayParams
from lstmjax.wrappers.per_step_dropout import Counted

NAMED_TREES = {
    tree.__name__: tree
    for module in (lstm, general_lstm, elman, gru, minimal, multiplicative, convolutional, xlstm)
    for tree in vars(module).values()
    if isinstance(tree, type) and issubclass(tree, tuple) and tree.__module__ == module.__name__
} | {tree.__name__: tree for tree in (Directions, HighwayParams, Counted)}
"""Parameters and states, as arguments and results of functions that users export with `jax.export`."""

for _name, _tree in NAMED_TREES.items():
    jax.export.register_namedtuple_serialization(_tree, serialized_name=f"lstmjax.{_name}")

OPSET = 17
"""The ONNX operator set version of exported models; the LSTM operator is the same from 14 to 21."""


def export_stablehlo(
    cell: Cell | Layer,
    params: Params | None = None,
    *,
    batch_shape: Sequence[int | str] = ("batch",),
    time: int | str = "time",
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> jax.export.Exported:
    """A cell or layer over sequences as one StableHLO program, for any batch size and sequence length.

    The program is ``call(inputs, lengths, state) -> state, outputs``, with the arguments and results of
    `lstmjax.unroll`, except that the state is a tuple of its arrays in the order of `jax.tree.leaves`, and
    that lengths out of range are clipped to 0 or ``time``. ``jax.export.deserialize`` in the same or a later
    version of JAX (for at least six months) does not need this library, and other compilers can read
    ``mlir_module()``. The backend is ``"scan"``, since this library's kernels are not available there.

    Args:
      cell: any cell or layer.
      params: its parameters, which become constants of the program; None to make them the first argument, a
        tuple of their arrays.
      batch_shape: sizes of the batch, or names of symbolic sizes of at least 1.
      time: number of steps, or a name as above.
      platforms: the platforms that the program can run on.

    Returns:
      An object whose ``serialize()`` returns bytes; ``serialize(vjp_order=1)`` includes the derivative.

    Raises:
      ValueError: a shape or a platform is invalid, or a parameter does not have the shape of the cell's.
      TypeError: the parameters are not those of the cell.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> program = export_stablehlo(cell, cell.init(jax.random.key(0)), batch_shape=(2,), time=5)
      >>> data = program.serialize()
      >>> state = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
      >>> arguments = (jnp.ones((2, 5, 3)), jnp.array([5, 2]), state)
      >>> state, outputs = jax.export.deserialize(data).call(*arguments)
      >>> outputs.shape
      (2, 5, 4)
    """
    scope = jax.export.SymbolicScope()
    sizes: list[Any] = [jax.export.symbolic_shape(str(axis), scope=scope)[0] for axis in (*batch_shape, time)]
    batch, steps = tuple(sizes[:-1]), sizes[-1]
    shapes = jax.eval_shape(lambda: (cell.init(jax.random.key(0)), cell.initial_state(batch)))
    structures = [jax.tree.structure(shape) for shape in shapes]
    of_params, of_state = (tuple(jax.tree.leaves(shape)) for shape in shapes)

    def run(parameters: Any, inputs: Any, lengths: Any, state: Any) -> Any:
        before = jax.tree.unflatten(structures[1], state)
        after, outputs = unroll(cell, parameters, inputs, before, lengths, backend="scan")
        return tuple(jax.tree.leaves(after)), outputs

    def run_given(parameters: Any, inputs: Any, lengths: Any, state: Any) -> Any:
        return run(jax.tree.unflatten(structures[0], parameters), inputs, lengths, state)

    arguments = [
        jax.ShapeDtypeStruct((*batch, steps, cell.features), cell.input_dtype),
        jax.ShapeDtypeStruct(batch, jnp.int32),
        of_state,
    ]
    if params is None:
        return jax.export.export(jax.jit(run_given), platforms=platforms)(of_params, *arguments)
    program = jax.jit(lambda inputs, lengths, state: run(params, inputs, lengths, state))
    return jax.export.export(program, platforms=platforms)(*arguments)


def export_onnx(layer: Cell | Layer, params: Params, *, lengths: bool = False, state: bool = False) -> Any:
    """LSTMs, with or without peepholes, GRUs and Elman cells as an ONNX model, with one operator per layer.

    Like `lstmjax.unroll`, the model takes ``inputs``, ``[batch, time, features]``, and returns ``outputs``,
    ``[batch, time, output_size]``.

    Args:
      layer: such a cell, or a stack, layers or a bidirectional layer of them, that computes in float32 or
        float64 throughout (onnxruntime has no LSTM in float64).
      params: its parameters.
      lengths: whether the model also takes ``lengths``, int32 ``[batch]``; outputs beyond them are 0.
      state: whether the model also takes the initial state, ``hidden.0`` and (of LSTMs) ``cell.0`` for the
        lowest layer, and so on, each ``[directions, batch, hidden]``, and returns the final state as
        ``next.hidden.0`` and so on. If False, the initial state is zero.

    Returns:
      An ``onnx.ModelProto``, checked; ``onnx.save`` writes it to a file.

    Raises:
      ValueError: ONNX has no operator for it: other cells or dtypes, or directions of different kinds or
        sizes.
      TypeError: the parameters are not those of the layer.
      ImportError: the package ``onnx`` is not installed.
    """
    import onnx  # noqa: PLC0415
    from onnx import helper, numpy_helper  # noqa: PLC0415

    taken = take_apart("export_onnx", FORMATS["onnx"], layer, params)
    _check_onnx([cell for entries in taken for cell, _ in entries])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(taken[0][0][0].dtype))
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Transpose", ["inputs"], ["x.0"], perm=[1, 0, 2])]
    inputs = [value("inputs", kind, ["batch", "time", layer.features])]
    outputs = [value("outputs", kind, ["batch", "time", layer.output_size])]
    inputs += [value("lengths", onnx.TensorProto.INT32, ["batch"])] * lengths
    constants = {"sequence": np.array([0, 0, -1])}  # of Reshape, where 0 keeps an axis
    for number, entries in enumerate(taken):
        operators = {_operator(cell) for cell, _ in entries}
        if len(operators) > 1:
            raise ValueError(
                f"export_onnx: both directions must be of one kind with the same hidden size, got {layer}."
            )
        ((operator, hidden, options),) = operators
        directions = len(entries)
        weights = {f"{name}.{number}": array for name, array in _onnx_weights(entries).items()}
        constants |= weights
        parts = ("hidden", "cell") if operator == "LSTM" else ("hidden",)
        states = [f"{part}.{number}" * state for part in parts]
        after = [f"next.{name}" if name else "" for name in states]
        inputs += [value(name, kind, [directions, "batch", hidden]) for name in states if name]
        outputs += [value(name, kind, [directions, "batch", hidden]) for name in after if name]
        direction = "bidirectional" if directions == 2 else "forward"
        *names, peepholes = (name * (name in weights) for name in (f"{part}.{number}" for part in "WRBP"))
        operands = [f"x.{number}", *names, "lengths" * lengths, *states, *[peepholes] * bool(peepholes)]
        sizes: dict[str, Any] = {"hidden_size": hidden, "direction": direction, **dict(options)}
        nodes += [
            helper.make_node(operator, operands, [f"y.{number}", *after], **sizes),
            helper.make_node("Transpose", [f"y.{number}"], [f"z.{number}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"z.{number}", "sequence"], [f"x.{number + 1}"]),
        ]
    nodes.append(helper.make_node("Transpose", [f"x.{len(taken)}"], ["outputs"], perm=[1, 0, 2]))
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="lstmjax")
    onnx.checker.check_model(model, full_check=True)
    return model


def _onnx_weights(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The constants of one operator, each with a leading axis for directions."""
    arrays = [write(FORMATS["onnx"], cell, of_cell) for cell, of_cell in entries]
    parts: dict[str, list[np.ndarray | None]] = {
        "W": [one.kernel for one in arrays],
        "R": [one.recurrent_kernel for one in arrays],
        "B": [np.concatenate(one.biases) if one.biases else None for one in arrays],
        "P": [one.peepholes for one in arrays],
    }
    weights = {}
    for name, ways in parts.items():
        given = [array for array in ways if array is not None]
        if given:  # what only the other direction has is 0
            weights[name] = np.stack([np.zeros_like(given[0]) if array is None else array for array in ways])
    return weights


def _operator(cell: Any) -> tuple[str, int, tuple[tuple[str, int], ...]]:
    """The operator of a cell, its hidden size and its other attributes."""
    if isinstance(cell, GRU):
        return "GRU", cell.hidden, (("linear_before_reset", int(cell.reset_after)),)
    return "RNN" if isinstance(cell, Elman) else "LSTM", cell.hidden, ()


def _check_onnx(cells: Sequence[Any]) -> None:
    dtypes = {cell.dtype for cell in cells} | {np.dtype(cell.param_dtype) for cell in cells}
    if len(dtypes) > 1 or not dtypes <= {np.dtype("float32"), np.dtype("float64")}:
        raise ValueError(
            "export_onnx: dtype and param_dtype of all cells must be float32, or all float64; got "
            f"{', '.join(sorted(map(str, dtypes)))}."
        )
