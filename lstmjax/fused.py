r"""The LSTM over a sequence with its own derivative.

The values are those of the scan over ``step``. The derivative is a `jax.custom_jvp`, a linear map from
tangents to tangents,

.. math::
    \dot z_t &= \dot x_t W + x_t \dot W + h_{t-1} \dot R + \dot b + \dot h_{t-1} R \\
    \dot c_t &= f_t \dot c_{t-1} + g_t \dot i_t + c_{t-1} \dot f_t + i_t \dot g_t \\
    \dot h_t &= \tanh(c_t) \dot o_t + o_t (1 - \tanh^2(c_t)) \dot c_t

of which only the terms in :math:`\dot h_{t-1}` and :math:`\dot c_{t-1}` need a loop over time. JAX transposes
it into the gradient: there, the kernels' gradients are one product each after the loop, where differentiating
the scan adds up a product in every step. JAX also maps it and differentiates it again, so every
transformation works, and there is one derivation to check.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cell import LSTM, LSTMParams, LSTMState, matmul
from lstmjax.scan import Masks, scan, select
from lstmjax.types import Array


class Kept(NamedTuple):
    """What the derivative needs of each step, ``[time, ..., hidden]`` of the cell state's dtype."""

    cell: Array
    """Cell state before the step."""
    squashed: Array
    """tanh of the cell state after the step."""
    gates: Array
    """``[time, ..., 4 * hidden]``: input, forget, candidate and output gate."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 5))
def fused_lstm(
    cell: LSTM,
    params: LSTMParams,
    inputs: jax.Array,
    state: LSTMState,
    masks: Masks,
    reverse: bool,
) -> tuple[LSTMState, jax.Array]:
    """Run an LSTM over time-major inputs; arguments and results are those of `lstmjax.scan.scan`."""
    return scan(cell, params, inputs, state, masks, reverse)


@fused_lstm.defjvp
def _fused_lstm_jvp(cell: LSTM, reverse: bool, primals: Any, tangents: Any) -> Any:
    params, inputs, state, masks = primals
    params_dot, inputs_dot, state_dot, _ = tangents
    product = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    recurrent_kernel = params.recurrent_kernel.astype(cell.dtype)

    def forward(carry: LSTMState, step: tuple[jax.Array, Masks]) -> Any:
        projected, masks_t = step
        before = _start(carry, masks_t)
        i, f, g, o = jnp.split(projected + product(before.hidden, recurrent_kernel), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        cell_state = f * before.cell + i * g
        squashed = jnp.tanh(cell_state)
        kept = Kept(before.cell, squashed, jnp.concatenate([i, f, g, o], axis=-1))
        after, output = _end(LSTMState((o * squashed).astype(cell.dtype), cell_state), carry, masks_t)
        return after, (output, before.hidden, kept)

    projected = product(inputs, params.kernel) + params.bias.astype(cell.wide_dtype)
    after, (outputs, hidden, kept) = jax.lax.scan(forward, state, (projected, masks), reverse=reverse)

    # Without the checkpoint the slopes of the gates, which depend on no tangent, would be computed by a loop
    # of their own beforehand and stored, at more cost than computing them where they are needed.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def linear(carry: LSTMState, step: tuple[jax.Array, Kept, Masks]) -> tuple[LSTMState, jax.Array]:
        gates_dot, kept_t, masks_t = step
        before = _start(carry, masks_t)
        total = gates_dot + product(before.hidden, recurrent_kernel)
        i_dot, f_dot, g_dot, o_dot = jnp.split(total, 4, axis=-1)
        i, f, g, o = jnp.split(kept_t.gates, 4, axis=-1)
        cell_dot = (
            f * before.cell
            + (i * (1 - i) * g) * i_dot
            + (f * (1 - f) * kept_t.cell) * f_dot
            + (i * (1 - g * g)) * g_dot
        )
        hidden_dot = (o * (1 - o) * kept_t.squashed) * o_dot + (o * (1 - kept_t.squashed**2)) * cell_dot
        return _end(LSTMState(hidden_dot.astype(cell.dtype), cell_dot), carry, masks_t)

    gates_dot = (
        product(inputs_dot, params.kernel)
        + product(inputs, params_dot.kernel)
        + product(hidden, params_dot.recurrent_kernel)
        + params_dot.bias.astype(cell.wide_dtype)
    )
    after_dot, outputs_dot = jax.lax.scan(linear, state_dot, (gates_dot, kept, masks), reverse=reverse)
    return (after, outputs), (after_dot, outputs_dot)


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
