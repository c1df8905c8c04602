r"""What of an LSTM depends on the step before: the recurrence, and its linearization, two ways each.

The recurrence takes the products :math:`x_t W` and adds :math:`h_{t-1} R + b`. Its linearization
around a run is a linear map from the tangents of that input and of the initial state,

.. math::
    \dot c_t &= f_t \dot c_{t-1} + g_t \dot i_t + c_{t-1} \dot f_t + i_t \dot g_t \\
    \dot h_t &= \tanh(c_t) \dot o_t + o_t (1 - \tanh^2(c_t)) \dot c_t

`XLA` has both as scans over time-major arrays, which JAX differentiates and transposes itself. `NATIVE` has
them as primitives over batch-major arrays whose code on CPU is C++ (`lstmjax.native`), the transpose
included. On other platforms, and where a transformation has no native code, the primitives are the scans.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lstmjax.cell import LSTMState, matmul
from lstmjax.scan import Masks, select, vary_alike
from lstmjax.types import Array


class Kept(NamedTuple):
    """What the linearization needs of each step."""

    gates: Array
    """``[..., 4 * hidden]``: input, forget, candidate and output gate."""
    cell: Array
    """``[..., hidden]``: cell state before the step."""
    hidden: Array
    """``[..., hidden]``: hidden state before the step."""


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """One way to run the recurrence; the time axis is where ``time_major`` says."""

    time_major: bool
    """Arrays are ``[time, ..., size]``; else ``[..., time, size]``."""
    run: Callable[..., tuple[LSTMState, jax.Array]]
    """``(kernel, bias, projected, state, masks, reverse)`` to the last state and outputs."""
    run_keeping: Callable[..., tuple[LSTMState, jax.Array, Kept]]
    """The same, and what the linearization needs."""
    linear: Callable[..., tuple[LSTMState, jax.Array]]
    """``(kernel, kept, masks, gates_dot, state_dot, reverse)`` to the tangents of last state and outputs."""


def run_keeping(
    kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, reverse: bool
) -> tuple[LSTMState, jax.Array, Kept]:
    """The recurrence as a scan over time-major arrays; see `Recurrence`."""
    product = functools.partial(matmul, dtype=state.hidden.dtype, result_dtype=projected.dtype)

    def step(carry: LSTMState, inputs: tuple[jax.Array, Masks]) -> Any:
        projected_t, masks_t = inputs
        before = _start(carry, masks_t)
        i, f, g, o = jnp.split(projected_t + product(before.hidden, kernel) + bias, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        cell = f * before.cell + i * g
        hidden = (o * jnp.tanh(cell)).astype(before.hidden.dtype)
        after, output = _end(LSTMState(hidden, cell), carry, masks_t)
        kept = Kept(jnp.concatenate([i, f, g, o], axis=-1), before.cell, before.hidden)
        return after, (output, kept)

    after, (outputs, kept) = jax.lax.scan(step, state, (projected, masks), reverse=reverse)
    return after, outputs, kept


def run(
    kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, reverse: bool
) -> tuple[LSTMState, jax.Array]:
    """The recurrence as a scan over time-major arrays; see `Recurrence`."""
    after, outputs, _ = run_keeping(kernel, bias, projected, state, masks, reverse)
    return after, outputs


def linear(
    kernel: jax.Array, kept: Kept, masks: Masks, gates_dot: jax.Array, state_dot: LSTMState, reverse: bool
) -> tuple[LSTMState, jax.Array]:
    """The linearization as a scan over time-major arrays; see `Recurrence`."""
    product = functools.partial(matmul, dtype=kept.hidden.dtype, result_dtype=gates_dot.dtype)

    # Without the checkpoint the slopes of the gates, which depend on no tangent, would be computed by a loop
    # of their own beforehand and stored, at more cost than computing them where they are needed.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def step(carry: LSTMState, inputs: tuple[jax.Array, Kept, Masks]) -> tuple[LSTMState, jax.Array]:
        gates_dot_t, kept_t, masks_t = inputs
        before = _start(carry, masks_t)
        total = gates_dot_t + product(before.hidden, kernel)
        i_dot, f_dot, g_dot, o_dot = jnp.split(total, 4, axis=-1)
        i, f, g, o = jnp.split(kept_t.gates, 4, axis=-1)
        squashed = jnp.tanh(f * kept_t.cell + i * g)
        cell_dot = (
            f * before.cell
            + (i * (1 - i) * g) * i_dot
            + (f * (1 - f) * kept_t.cell) * f_dot
            + (i * (1 - g * g)) * g_dot
        )
        hidden_dot = (o * (1 - o) * squashed) * o_dot + (o * (1 - squashed**2)) * cell_dot
        return _end(LSTMState(hidden_dot.astype(before.hidden.dtype), cell_dot), carry, masks_t)

    return jax.lax.scan(step, state_dot, (gates_dot, kept, masks), reverse=reverse)


def _start(carry: LSTMState, masks: Masks) -> LSTMState:
    """The state that a step starts from, or its tangent: zero after a boundary."""
    if masks.fresh is None:
        return carry
    return select(masks.fresh, jax.tree.map(jnp.zeros_like, carry), carry)


def _end(after: LSTMState, carry: LSTMState, masks: Masks) -> tuple[LSTMState, Any]:
    """The state after a step and the output, or their tangents: unchanged and zero where there is no step."""
    if masks.valid is None:
        return after, after.hidden
    output = select(masks.valid, after.hidden, jnp.zeros_like(after.hidden))
    return select(masks.valid, after, carry), output


XLA = Recurrence(time_major=True, run=run, run_keeping=run_keeping, linear=linear)


# The primitives. Their operands are flat: the weights, arrays of floats, and those masks that there are;
# `masked` says of `valid` and `fresh` whether it is there.


def _primitive(
    name: str, plain: Callable[..., Any], native: Callable[..., Any], avals: Any, shared: int
) -> Primitive:
    """A primitive that computes ``plain``, on CPU by ``native``, and has all rules but that of transposition.

    Args:
      name: of the primitive, with ``lstmjax_`` before it.
      plain: a JAX function of the operands and keywords; it is what is differentiated.
      native: the same by native code.
      avals: from the abstract operands and keywords to the abstract results.
      shared: how many operands, the first, have no batch axes.
    """
    primitive = Primitive(f"lstmjax_{name}")
    primitive.multiple_results = True
    primitive.def_impl(
        lambda *operands, **keywords: jax.jit(functools.partial(primitive.bind, **keywords))(*operands)
    )
    primitive.def_abstract_eval(avals)
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=True))
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=True), platform="cpu")

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **keywords: Any) -> Any:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        return jax.jvp(functools.partial(plain, **keywords), tuple(primals), tuple(tangents))

    def batch(operands: Sequence[Any], axes: Sequence[int | None], **keywords: Any) -> Any:
        (size,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
        bind = functools.partial(primitive.bind, **keywords)
        if all(axis is None for axis in axes[:shared]):  # one more batch axis
            rest = zip(operands[shared:], axes[shared:], strict=True)
            operands = [*operands[:shared], *(_to_front(x, axis, size) for x, axis in rest)]
            return bind(*operands), [0] * len(avals(*map(jax.typeof, operands), **keywords))
        operands = [_to_front(x, axis, size) for x, axis in zip(operands, axes, strict=True)]
        results = jax.lax.map(lambda each: bind(*each), operands)  # several models, one after the other
        return results, [0] * len(results)

    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch
    return primitive


def _to_front(x: jax.Array, axis: int | None, size: int) -> jax.Array:
    return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)


def _unpack(masked: tuple[bool, bool], masks: Sequence[jax.Array]) -> Masks:
    masks = list(masks)
    return Masks(*(masks.pop(0) if present else None for present in masked))


def _time_major(tree: Any, axis: int = -2) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), tree)


def _batch_major(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2), tree)


def _run_keeping_plain(
    kernel: jax.Array,
    bias: jax.Array,
    projected: jax.Array,
    hidden: jax.Array,
    cell: jax.Array,
    *masks: jax.Array,
    masked: tuple[bool, bool],
    reverse: bool,
) -> tuple[jax.Array, ...]:
    state, time_masks = LSTMState(hidden, cell), _time_major(_unpack(masked, masks), -1)
    after, outputs, kept = run_keeping(kernel, bias, _time_major(projected), state, time_masks, reverse)
    return (*after, *_batch_major((outputs, *kept)))


def _run_plain(*operands: jax.Array, **keywords: Any) -> tuple[jax.Array, ...]:
    return _run_keeping_plain(*operands, **keywords)[:3]


def _run_keeping_avals(*operands: Any, **_: Any) -> Any:
    _, _, projected, hidden, cell = operands[:5]
    per_step = projected.update(shape=(*projected.shape[:-1], hidden.shape[-1]))
    return [hidden, cell, per_step, projected, per_step, per_step]


def _run_avals(*operands: Any, **keywords: Any) -> Any:
    return _run_keeping_avals(*operands, **keywords)[:3]


def _linear_plain(
    kernel: jax.Array,
    gates: jax.Array,
    cell: jax.Array,
    gates_dot: jax.Array,
    hidden_dot: jax.Array,
    cell_dot: jax.Array,
    *masks: jax.Array,
    masked: tuple[bool, bool],
    reverse: bool,
) -> tuple[jax.Array, ...]:
    kept = Kept(*_time_major((gates, cell, cell)))  # the hidden states are only asked for their dtype
    state_dot, time_masks = LSTMState(hidden_dot, cell_dot), _time_major(_unpack(masked, masks), -1)
    after, outputs = linear(kernel, kept, time_masks, _time_major(gates_dot), state_dot, reverse)
    return *jax.tree.leaves(after), _batch_major(outputs)


def _linear_avals(*operands: Any, **_: Any) -> Any:
    _, _, cell, _, hidden_dot, cell_dot = operands[:6]
    return [hidden_dot, cell_dot, cell]


def _transposed_plain(
    kernel: jax.Array,
    gates: jax.Array,
    cell: jax.Array,
    hidden_bar: jax.Array,
    cell_bar: jax.Array,
    outputs_bar: jax.Array,
    *masks: jax.Array,
    **keywords: Any,
) -> tuple[jax.Array, ...]:
    def function(*tangents: jax.Array) -> tuple[jax.Array, ...]:
        return _linear_plain(kernel, gates, cell, *tangents, *masks, **keywords)

    return jax.linear_transpose(function, gates, hidden_bar, cell_bar)((hidden_bar, cell_bar, outputs_bar))


def _transposed_avals(*operands: Any, **_: Any) -> Any:
    _, gates, _, hidden_bar, cell_bar = operands[:5]
    return [gates, hidden_bar, cell_bar]


def _native(
    target: str, avals: Callable[..., Any], shared: int, floats: int, aliases: dict[int, int]
) -> Callable[..., Any]:
    """The function of operands and keywords that calls native code.

    Args:
      target: one of `lstmjax.native.TARGETS`.
      avals: from the abstract operands and keywords to the abstract results.
      shared: how many operands, the first, have no batch axes.
      floats: how many operands there are before the masks.
      aliases: which operand's memory is taken for which result.
    """

    def call(*operands: jax.Array, masked: tuple[bool, bool], reverse: bool, **keywords: Any) -> Any:
        rank = operands[shared].ndim - 2
        batch = operands[shared].shape[:rank]
        rows = [x.reshape(math.prod(batch), *x.shape[rank:]) for x in operands[shared:]]
        inputs = [*operands[:shared], *rows[: floats - shared]]
        none = vary_alike(jnp.zeros((0, 0), bool), like=operands)
        masks = [none if mask is None else mask for mask in _unpack(masked, rows[floats - shared :])]
        results = avals(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs), **keywords)
        foreign = jax.ffi.ffi_call(
            f"lstmjax_{target}_{operands[0].dtype}",
            results,
            input_output_aliases=aliases,
            vmap_method="sequential",
        )
        return [x.reshape(*batch, *x.shape[1:]) for x in foreign(*inputs, *masks, reverse=reverse)]

    return call


_run_p = _primitive("run", _run_plain, _native("lstm_forward", _run_avals, 2, 5, {}), _run_avals, 2)
_run_keeping_p = _primitive(
    "run_keeping",
    _run_keeping_plain,
    _native("lstm_forward_keeping", _run_keeping_avals, 2, 5, {}),
    _run_keeping_avals,
    2,
)
_linear_p = _primitive("linear", _linear_plain, _linear_plain, _linear_avals, 1)
_transposed_p = _primitive(
    "transposed",
    _transposed_plain,
    _native("lstm_backward", _transposed_avals, 1, 6, {1: 0}),
    _transposed_avals,
    1,
)


def _transpose_linear(cotangents: Sequence[Any], *operands: Any, **keywords: Any) -> Any:
    kernel, gates, cell, *tangents = operands[:6]
    bars = _transposed_p.bind(
        kernel, gates, cell, *map(ad.instantiate_zeros, cotangents), *operands[6:], **keywords
    )
    wanted = (bar if ad.is_undefined_primal(x) else None for bar, x in zip(bars, tangents, strict=True))
    return [None] * 3 + list(wanted) + [None] * len(operands[6:])


def _transpose_transposed(cotangents: Sequence[Any], *operands: Any, **keywords: Any) -> Any:
    kernel, gates, cell, *bars = operands[:6]
    tangents = _linear_p.bind(
        kernel, gates, cell, *map(ad.instantiate_zeros, cotangents), *operands[6:], **keywords
    )
    wanted = (dot if ad.is_undefined_primal(x) else None for dot, x in zip(tangents, bars, strict=True))
    return [None] * 3 + list(wanted) + [None] * len(operands[6:])


ad.primitive_transposes[_linear_p] = _transpose_linear
ad.primitive_transposes[_transposed_p] = _transpose_transposed


def _operands(masks: Masks, *arrays: Array) -> tuple[list[jax.Array], tuple[bool, bool]]:
    present = [mask for mask in masks if mask is not None]
    operands = vary_alike([*arrays, *present], like=())
    return operands, (masks.valid is not None, masks.fresh is not None)


def _native_run(
    kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, reverse: bool
) -> tuple[LSTMState, jax.Array]:
    operands, masked = _operands(masks, kernel, bias, projected, *state)
    hidden, cell, outputs = _run_p.bind(*operands, masked=masked, reverse=reverse)
    return LSTMState(hidden, cell), outputs


def _native_run_keeping(
    kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, reverse: bool
) -> tuple[LSTMState, jax.Array, Kept]:
    operands, masked = _operands(masks, kernel, bias, projected, *state)
    hidden, cell, outputs, *kept = _run_keeping_p.bind(*operands, masked=masked, reverse=reverse)
    return LSTMState(hidden, cell), outputs, Kept(*kept)


def _native_linear(
    kernel: jax.Array, kept: Kept, masks: Masks, gates_dot: jax.Array, state_dot: LSTMState, reverse: bool
) -> tuple[LSTMState, jax.Array]:
    operands, masked = _operands(masks, kernel, kept.gates, kept.cell, gates_dot, *state_dot)
    hidden_dot, cell_dot, outputs_dot = _linear_p.bind(*operands, masked=masked, reverse=reverse)
    return LSTMState(hidden_dot, cell_dot), outputs_dot


NATIVE = Recurrence(time_major=False, run=_native_run, run_keeping=_native_run_keeping, linear=_native_linear)
