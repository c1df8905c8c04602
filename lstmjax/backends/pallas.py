r"""The recurrence of an LSTM as Pallas kernels for GPUs: one launch per sequence, with the weights on chip.

A loop in XLA launches kernels at every step, and these read the recurrent kernel :math:`R` each time. Here a
program runs `ROWS` rows of the batch through all steps: it reads :math:`R` once, then at each step only the
data of that step. The kernels are those of `lstmjax.backends.primitives`: forward, forward with residuals for
the backward pass, and the transpose of the linearization, which runs from the last step to the first,

.. math::
    \bar c_t &\mathrel{+}= \bar h_t \, o_t (1 - \tanh^2 c_t) \\
    \bar z_t &= (\bar c_t\, g_t\, i_t (1 - i_t),\; \bar c_t\, c_{t-1}\, f_t (1 - f_t),\;
                 \bar c_t\, i_t (1 - g_t^2),\; \bar h_t \tanh(c_t)\, o_t (1 - o_t)) \\
    \bar h_{t-1} &= \bar z_t R^\top, \qquad \bar c_{t-1} = \bar c_t\, f_t

Operands of products have the kernel's dtype; products are accumulated, and gates and cell state stored, in
float32.

`on_chip` computes which sizes fit. The lowering (Triton) requires block sides that are powers of two and at
least `SMALLEST`, so :math:`R` takes :math:`4 \tilde H^2` elements, where :math:`\tilde H` is ``hidden``
rounded up to such a side. They stay in the shared memory of a multiprocessor from the first step to the last,
beside two blocks of `ROWS` rows of float32 for layout conversions. An H100 has 227 KiB: ``hidden`` up to 64
in float32 and up to 128 in bfloat16.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas
from jax.experimental.pallas import triton
from jax.typing import DTypeLike

from lstmjax.backends.primitives import Kernels, primitives
from lstmjax.backends.scan import Masks, select
from lstmjax.cells.cell import matmul
from lstmjax.cells.elementwise import StagedCell
from lstmjax.cells.lstm import LSTM, LSTMGates, LSTMState
from lstmjax.sharding import varying_axes

ROWS = 16
"""Rows of the batch per program: the fewest that a product on tensor cores can have."""

SMALLEST = 16
"""The smallest side of an operand of a product."""

SHARED_MEMORY = 227 * 1024
"""Bytes of shared memory available to a program on an H100."""

DTYPES = ("float32", "bfloat16", "float16")
"""Dtypes of the computation that the kernels support; in interpret mode, float64 too."""


def on_chip(hidden: int, dtype: DTypeLike) -> int:
    """Bytes of shared memory that a program needs: for the recurrent kernel and two blocks of rows.

    Example:
      >>> on_chip(100, "bfloat16") == 4 * 128 * 128 * 2 + 2 * ROWS * 128 * 4
      True
    """
    side = _side(hidden)
    return 4 * side**2 * jnp.dtype(dtype).itemsize + 2 * ROWS * side * 4


def why_not(cell: LSTM, platform: str) -> str | None:
    """The reason why the kernels cannot run a cell on a platform; None if they can.

    On a GPU, sizes are compared with its shared memory, or with an H100's if that is not known. On other
    platforms the kernels run in interpret mode, which has no limits.

    Example:
      >>> import lstmjax
      >>> print(why_not(lstmjax.lstm(64, 64), "gpu"))
      None
      >>> why_not(lstmjax.lstm(64, 200), "cpu")
    """
    if platform != "gpu":
        return None
    dtype = jnp.dtype(cell.dtype)
    if str(dtype) not in DTYPES:
        return f"the Pallas kernels are for {', '.join(DTYPES)}"
    device: Any = jax.devices()[0]
    capability = getattr(device, "compute_capability", "9.0")
    if not capability.partition(".")[0].isdigit() or int(capability.partition(".")[0]) < 8:
        return (
            f"the Pallas kernels are for NVIDIA GPUs of compute capability 8.0 and up, this is {capability}"
        )
    there = getattr(device, "shared_memory_per_block_optin", SHARED_MEMORY)
    takes = on_chip(cell.hidden, dtype)
    if takes <= there:
        return None
    fitting = max(side for side in (16, 32, 64, 128, 256) if on_chip(side, dtype) <= there)
    return (
        f"with its recurrent kernel a program would take {takes // 1024} KiB of shared memory, and there are "
        f"{there // 1024}: hidden <= {fitting} fits in {dtype}"
    )


def _side(hidden: int) -> int:
    return max(SMALLEST, 1 << (hidden - 1).bit_length())


# The computation of one step, on blocks [rows, side]; the four gates are separate.


class _Step(NamedTuple):
    """The masks of a step, ``[rows]`` or None."""

    valid: Any
    fresh: Any

    def start(self, state: LSTMState) -> LSTMState:
        return state if self.fresh is None else select(self.fresh, _zeros(state), state)

    def where_valid(self, on_true: Any, on_false: Any) -> Any:
        return on_true if self.valid is None else select(self.valid, on_true, on_false)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _forward(refs: Any, out: Any, *, reverse: bool) -> None:
    """The kernel of ``run``, and of ``run_keeping`` if ``out`` has refs for the residuals."""
    kernels = [refs.kernel[gate] for gate in range(4)]
    biases = [refs.bias[gate][None, :] for gate in range(4)]
    dtype = refs.hidden.dtype
    time = refs.projected.shape[1]

    def step(s: Any, carry: LSTMState) -> LSTMState:
        t = time - 1 - s if reverse else s
        masks = _masks_at(refs.masks, t)
        before = masks.start(carry)

        def gate(number: int) -> jax.Array:
            product = matmul(before.hidden, kernels[number], dtype=dtype, result_dtype=biases[number].dtype)
            return refs.projected[:, t, number, :] + product + biases[number]

        totals = [gate(number) for number in range(4)]
        after = LSTMGates.of(totals).update(before)
        out.outputs[:, t, :] = masks.where_valid(after.hidden, jnp.zeros_like(after.hidden))
        if out.totals is not None:
            for number, value in enumerate(totals):
                out.totals[:, t, number, :] = value
            out.cells[:, t, :] = before.cell
            out.hiddens[:, t, :] = before.hidden
        return masks.where_valid(after, carry)

    state = _loop(time, step, LSTMState(refs.hidden[...], refs.cell[...]))
    out.hidden[...], out.cell[...] = state


def _backward(refs: Any, out: Any, *, reverse: bool) -> None:
    """The kernel of ``transposed``; ``refs.kernel`` has each gate's matrix transposed."""
    kernels = [refs.kernel[gate] for gate in range(4)]
    time = refs.totals.shape[1]

    def step(s: Any, carry: LSTMState) -> LSTMState:
        t = s if reverse else time - 1 - s  # starting at the step that was taken last
        masks = _masks_at(refs.masks, t)
        gates = LSTMGates.of([refs.totals[:, t, number, :] for number in range(4)])
        (i, f, g, o), before = gates, refs.cells[:, t, :]
        after_bar = masks.where_valid(carry, _zeros(carry))
        outputs_bar = refs.outputs[:, t, :].astype(i.dtype)
        hidden_bar = masks.where_valid(after_bar.hidden + outputs_bar, _zeros(outputs_bar))
        squashed = jnp.tanh(gates.memory(before))
        cell_bar = after_bar.cell + hidden_bar * (o * (1 - squashed * squashed))
        bars = (
            cell_bar * (i * (1 - i) * g),
            cell_bar * (f * (1 - f) * before),
            cell_bar * (i * (1 - g * g)),
            hidden_bar * (o * (1 - o) * squashed),
        )
        for number, bar in enumerate(bars):
            out.totals[:, t, number, :] = bar
        products = (
            matmul(bar.astype(kernel.dtype), kernel, dtype=kernel.dtype, result_dtype=bar.dtype)
            for bar, kernel in zip(bars, kernels, strict=True)
        )
        before_bar = LSTMState(functools.reduce(jnp.add, products), cell_bar * f)
        return masks.where_valid(masks.start(before_bar), carry)

    carry = LSTMState(refs.hidden[...].astype(refs.totals.dtype), refs.cell[...])
    hidden_bar, out.cell[...] = _loop(time, step, carry)
    out.hidden[...] = hidden_bar.astype(out.hidden.dtype)


def _loop(time: int, step: Callable[..., LSTMState], carry: LSTMState) -> LSTMState:
    return jax.lax.fori_loop(np.int32(0), np.int32(time), step, carry)


def _masks_at(masks: Masks, t: Any) -> _Step:
    return _Step(*(None if mask is None else mask[:, t] != 0 for mask in masks))


# The calls: padding to whole blocks, one program per block of rows.


class _Forward(NamedTuple):
    kernel: Any
    bias: Any
    projected: Any
    hidden: Any
    cell: Any
    masks: Masks


class _Backward(NamedTuple):
    kernel: Any
    totals: Any
    cells: Any
    hidden: Any
    cell: Any
    outputs: Any
    masks: Masks


class _Out(NamedTuple):
    hidden: Any
    cell: Any
    outputs: Any = None
    totals: Any = None
    cells: Any = None
    hiddens: Any = None


def _for_one_model(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel without the axis of models, and without the cell states of all steps, as one of `Kernels`."""

    def function(*operands: jax.Array, masks: Masks, cell: StagedCell, reverse: bool, states: bool) -> Any:
        if type(cell) is not LSTM or operands[0].shape[0] != 1 or states:
            return NotImplemented
        results = kernel(
            *(x[0] for x in operands), masks=jax.tree.map(lambda x: x[0], masks), reverse=reverse
        )
        return results if results is NotImplemented else [x[None] for x in results]

    return function


def _run(interpret: bool, keeping: bool, *operands: jax.Array, masks: Masks, reverse: bool) -> Any:
    kernel, bias, _, projected, hidden, cell = operands
    if _is_for_scans(projected, interpret):
        return NotImplemented
    steps = projected.shape[:-1]
    outputs = jax.typeof(hidden).update(shape=(*steps, hidden.shape[-1]))
    results = [*map(jax.typeof, (hidden, cell)), outputs]
    if keeping:
        results += [jax.typeof(projected), outputs.update(dtype=cell.dtype), outputs]
    size = hidden.shape[-1]
    inputs = _Forward(
        kernel=_square(_by_gate(kernel, size).swapaxes(0, 1)),
        bias=_pad(_by_gate(bias, size), {-1: _side(size)}),
        projected=_blocks(_by_gate(projected, size)),
        hidden=_blocks(hidden),
        cell=_blocks(cell),
        masks=_mask_blocks(masks),
    )
    wide = inputs.projected
    steps, numbers = wide.shape[:2], wide.shape[-1:]
    out = _Out(
        hidden=_like(inputs.hidden),
        cell=_like(inputs.cell),
        outputs=_like(inputs.hidden, (*steps, *numbers)),
        totals=_like(wide) if keeping else None,
        cells=_like(inputs.cell, (*steps, *numbers)) if keeping else None,
        hiddens=_like(inputs.hidden, (*steps, *numbers)) if keeping else None,
    )
    done = _call(functools.partial(_forward, reverse=reverse), inputs, out, results, interpret)
    no_cells = jnp.zeros((*cell.shape[:-1], 0, cell.shape[-1]), cell.dtype)
    last_hidden, last_cell, outputs, *kept = done
    if keeping:
        totals, cells, hiddens = kept
        kept = [totals, hiddens, cells]
    return [last_hidden, last_cell, outputs, no_cells, *kept]


def _transposed(interpret: bool, *operands: jax.Array, masks: Masks, reverse: bool) -> Any:
    kernel, vectors, totals, _, cells, hidden_bar, cell_bar, outputs_bar, _ = operands
    if _is_for_scans(totals, interpret):
        return NotImplemented
    size = hidden_bar.shape[-1]
    inputs = _Backward(
        kernel=_square(jnp.moveaxis(_by_gate(kernel, size), 0, -1)),
        totals=_blocks(_by_gate(totals, size)),
        cells=_blocks(cells),
        hidden=_blocks(hidden_bar),
        cell=_blocks(cell_bar),
        outputs=_blocks(outputs_bar),
        masks=_mask_blocks(masks),
    )
    out = _Out(hidden=_like(inputs.hidden), cell=_like(inputs.cell), totals=_like(inputs.totals))
    results = [*map(jax.typeof, (hidden_bar, cell_bar, totals))]
    done = _call(functools.partial(_backward, reverse=reverse), inputs, out, results, interpret)
    hidden_bar, cell_bar, totals_bar = done
    no_vectors = jnp.zeros((totals.shape[0], *vectors.shape), totals.dtype)
    return [totals_bar, no_vectors, hidden_bar, cell_bar]


def _is_for_scans(x: jax.Array, interpret: bool) -> bool:
    """Whether the array is empty, or inside `jax.shard_map`, which interpret mode does not support."""
    return 0 in x.shape or (interpret and bool(varying_axes(x)))


def _call(kernel: Callable[..., None], inputs: Any, out: _Out, results: Any, interpret: bool) -> Any:
    """Run a kernel, one program per block of rows; results are cut to the shapes of ``results``."""
    warps = 4 if inputs.kernel.shape[-1] <= 32 else 8
    specs = inputs._replace(
        **{
            name: jax.tree.map(_whole if name in ("kernel", "bias") else _of_rows, getattr(inputs, name))
            for name in inputs._fields
        }
    )
    (padded,) = pallas.pallas_call(
        kernel,
        out_shape=(out,),
        grid=(inputs.hidden.shape[0] // ROWS,),
        in_specs=(specs,),
        out_specs=(jax.tree.map(_of_rows, out),),
        compiler_params=None if interpret else triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
    )(inputs)
    return [_cut(x, wanted) for x, wanted in zip(jax.tree.leaves(padded), results, strict=True)]


def _of_rows(x: Any) -> pallas.BlockSpec:
    return pallas.BlockSpec((ROWS, *x.shape[1:]), lambda i: (i, *(0 for _ in x.shape[1:])))


def _whole(x: Any) -> pallas.BlockSpec:
    return pallas.BlockSpec(x.shape, lambda i: tuple(0 for _ in x.shape))


def _like(x: jax.Array, shape: tuple[int, ...] | None = None) -> Any:
    return jax.typeof(x).update(shape=x.shape if shape is None else shape)


def _by_gate(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], 4, size)


def _square(kernel: jax.Array) -> jax.Array:
    return _pad(kernel, dict.fromkeys((-2, -1), _side(kernel.shape[-1])))


def _blocks(x: jax.Array) -> jax.Array:
    return _pad(x, {0: _whole_blocks(x.shape[0]), -1: _side(x.shape[-1])})


def _mask_blocks(masks: Masks) -> Masks:
    """Masks as int32: one byte per mask would do, but all versions can load words."""
    return jax.tree.map(lambda mask: _pad(mask.astype(jnp.int32), {0: _whole_blocks(mask.shape[0])}), masks)


def _whole_blocks(rows: int) -> int:
    return -(-rows // ROWS) * ROWS


def _pad(x: jax.Array, sizes: dict[int, int]) -> jax.Array:
    """Pad axes with zeros at the end, up to the given sizes."""
    widths = [(0, 0)] * x.ndim
    for axis, size in sizes.items():
        widths[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, widths) if any(width for _, width in widths) else x


def _cut(x: jax.Array, wanted: Any) -> jax.Array:
    """Padded blocks without the padding, with the gates concatenated again."""
    size = wanted.shape[-1] if x.ndim <= len(wanted.shape) else wanted.shape[-1] // 4
    return x[: wanted.shape[0], ..., :size].reshape(wanted.shape)


def _kernels(interpret: bool) -> Kernels:
    return Kernels(
        run=_for_one_model(functools.partial(_run, interpret, False)),
        run_keeping=_for_one_model(functools.partial(_run, interpret, True)),
        transposed=_for_one_model(functools.partial(_transposed, interpret)),
    )


PALLAS = primitives("pallas", _kernels(interpret=False), platform="cuda")
"""The recurrence with the kernels on an NVIDIA GPU; elsewhere as scans."""

INTERPRETED = primitives("interpreted", _kernels(interpret=True), platform=None)
"""The same in interpret mode, slow, on any platform: for tests without a GPU."""
