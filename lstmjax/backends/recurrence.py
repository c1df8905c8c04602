r"""The recurrence of an LSTM, and its linearization.

The recurrence takes the products :math:`x_t W` and adds :math:`h_{t-1} R + b`. Its linearization
around a run is a linear map from the tangents of that input and of the initial state,

.. math::
    \dot c_t &= f_t \dot c_{t-1} + g_t \dot i_t + c_{t-1} \dot f_t + i_t \dot g_t \\
    \dot h_t &= \tanh(c_t) \dot o_t + o_t (1 - \tanh^2(c_t)) \dot c_t

`XLA` implements both as scans over time-major arrays, which JAX differentiates and transposes. The primitives
of `lstmjax.backends.primitives` compute the same, with faster kernels on some platforms.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.backends.scan import Masks, select
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.lstm import LSTMState
from lstmjax.types import Array


class Kept(NamedTuple):
    """Residuals of each step for the linearization."""

    gates: Array
    """``[..., 4 * hidden]``: input, forget, candidate and output gate."""
    cell: Array
    """``[..., hidden]``: cell state before the step."""
    hidden: Array
    """``[..., hidden]``: hidden state before the step."""


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """An implementation of the recurrence: `XLA` is time-major, ``[time, ..., size]``, others batch-major."""

    run: Callable[..., tuple[LSTMState, LSTMState]]
    """``(kernel, bias, projected, state, masks, reverse, states)`` to the last state and to the states after
    each step, 0 in the padding. The cell states have no steps (``[..., 0, hidden]``) unless ``states`` is
    true."""
    run_keeping: Callable[..., tuple[LSTMState, LSTMState, Kept]]
    """The same, with the residuals of the linearization."""
    linear: Callable[..., tuple[LSTMState, LSTMState]]
    """``(kernel, kept, masks, gates_dot, state_dot, reverse, states)`` to the tangents of the results of
    run."""


def run_keeping(
    kernel: Array,
    bias: Array,
    projected: jax.Array,
    state: LSTMState,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[LSTMState, LSTMState, Kept]:
    """The recurrence as a scan over time-major arrays; see `Recurrence`."""
    product = functools.partial(matmul, dtype=state.hidden.dtype, result_dtype=projected.dtype)

    def step(carry: LSTMState, inputs: tuple[jax.Array, Masks]) -> Any:
        projected_t, masks_t = inputs
        before = start(carry, masks_t)
        total = biased(projected_t + product(before.hidden, kernel), bias)
        i, f, g, o = jnp.split(total, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        cell = f * before.cell + i * g
        hidden = (o * jnp.tanh(cell)).astype(before.hidden.dtype)
        after, shown = end(LSTMState(hidden, cell), carry, masks_t)
        kept = Kept(jnp.concatenate([i, f, g, o], axis=-1), before.cell, before.hidden)
        return after, (shown, kept)

    after, (shown, kept) = jax.lax.scan(step, state, (projected, masks), reverse=reverse)
    return after, _only_asked(shown, states), kept


def run(*arguments: Any) -> tuple[LSTMState, LSTMState]:
    """The recurrence as a scan over time-major arrays; see `Recurrence`."""
    return run_keeping(*arguments)[:2]


def linear(
    kernel: jax.Array,
    kept: Kept,
    masks: Masks,
    gates_dot: jax.Array,
    state_dot: LSTMState,
    reverse: bool,
    states: bool,
) -> tuple[LSTMState, LSTMState]:
    """The linearization as a scan over time-major arrays; see `Recurrence`."""
    product = functools.partial(matmul, dtype=kept.hidden.dtype, result_dtype=gates_dot.dtype)

    # Without the checkpoint, the derivatives of the gates, which depend on no tangent, would be computed in a
    # separate loop beforehand and stored, at a higher cost than computing them where they are used.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def step(carry: LSTMState, inputs: tuple[jax.Array, Kept, Masks]) -> tuple[LSTMState, LSTMState]:
        gates_dot_t, kept_t, masks_t = inputs
        before = start(carry, masks_t)
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
        return end(LSTMState(hidden_dot.astype(before.hidden.dtype), cell_dot), carry, masks_t)

    after, shown = jax.lax.scan(step, state_dot, (gates_dot, kept, masks), reverse=reverse)
    return after, _only_asked(shown, states)


def _only_asked(shown: LSTMState, states: bool) -> LSTMState:
    return shown if states else shown._replace(cell=shown.cell[:0])


def start(carry: LSTMState, masks: Masks) -> LSTMState:
    """The state before a step, or its tangent: zero after a boundary."""
    if masks.fresh is None:
        return carry
    return select(masks.fresh, jax.tree.map(jnp.zeros_like, carry), carry)


def end(after: LSTMState, carry: LSTMState, masks: Masks) -> tuple[LSTMState, LSTMState]:
    """The state after a step, as it is carried on and as it is shown: in padding, unchanged and zero."""
    if masks.valid is None:
        return after, after
    shown = select(masks.valid, after, jax.tree.map(jnp.zeros_like, after))
    return select(masks.valid, after, carry), shown


XLA = Recurrence(run=run, run_keeping=run_keeping, linear=linear)
