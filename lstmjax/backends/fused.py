r"""The LSTM over a sequence with a custom derivative.

The values are those of the scan over ``step``. The derivative is a `jax.custom_jvp`, a linear map from
tangents to tangents. It consists of the tangent of the gates' input, outside of any loop,

.. math:: \dot z_t = \dot x_t W + x_t \dot W + h_{t-1} \dot R + \dot b

and the linearized recurrence (`lstmjax.backends.recurrence`), which adds :math:`\dot h_{t-1} R`. JAX
transposes it into the gradient, where each kernel's gradient is one product after the loop; differentiating
the scan would instead accumulate one product per step. JAX can also vectorize it and differentiate it again,
so every transformation works and there is only one derivation to check.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends.recurrence import XLA, Recurrence
from lstmjax.backends.scan import Masks, scan
from lstmjax.cells.cell import GatedCell, biased, matmul
from lstmjax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstmjax.sharding import vary_alike
from lstmjax.types import Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 6, 7))
def fused_lstm(
    recurrence: Recurrence,
    cell: LSTM,
    params: LSTMParams,
    inputs: jax.Array,
    state: LSTMState,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[LSTMState, LSTMState]:
    """Run an LSTM over inputs with the time axis that the recurrence expects.

    Arguments are otherwise those of `lstmjax.backends.scan.scan`, results those of `Recurrence.run`.
    """
    if recurrence == XLA and not states:
        # A small LSTM's pre-activations stay in the processor's cache within the scan.
        after, outputs, _ = scan(cell, params, inputs, state, masks, reverse)
        return after, LSTMState(
            outputs, vary_alike(jnp.zeros((0, *state.cell.shape), state.cell.dtype), like=after)
        )
    projected = product(cell, recurrence != XLA, inputs, params.kernel)
    return recurrence.run(*_recurrent(cell, params), projected, state, masks, reverse, states)


@fused_lstm.defjvp
def _fused_lstm_jvp(
    recurrence: Recurrence, cell: LSTM, reverse: bool, states: bool, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    params, inputs, state, masks = primals
    params_dot, inputs_dot, state_dot, _ = tangents
    multiply = functools.partial(product, cell, recurrence != XLA)
    kernel, bias = _recurrent(cell, params)
    projected = multiply(inputs, params.kernel)
    after, shown, kept = recurrence.run_keeping(kernel, bias, projected, state, masks, reverse, states)
    gates_dot = (
        multiply(inputs_dot, params.kernel)
        + multiply(inputs, params_dot.kernel)
        + multiply(kept.hidden, params_dot.recurrent_kernel)
    )
    gates_dot = biased(gates_dot, params_dot.bias)
    dots = recurrence.linear(kernel, kept, masks, gates_dot, state_dot, reverse, states)
    return (after, shown), dots


def _recurrent(cell: LSTM, params: LSTMParams) -> tuple[Array, Array]:
    """Recurrent kernel and bias in the dtypes that the recurrence expects."""
    kernel, bias = params.recurrent_kernel, params.bias
    if bias is None:
        bias = vary_alike(jnp.zeros(4 * cell.hidden, cell.wide_dtype), like=kernel)
    return kernel.astype(cell.dtype), bias.astype(cell.wide_dtype)


def product(cell: GatedCell, batch_major: bool, inputs: Array, kernel: Array) -> jax.Array:
    """The product for all steps at once, batch-major as a product of two matrices.

    With more axes, XLA on CPU would transpose the larger operand of its transpose in memory. Only the axes of
    one batch and of time are joined: others could not stay divided over devices.
    """
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    if not batch_major or inputs.ndim != 3:
        return multiply(inputs, kernel)
    batch, time, features = inputs.shape
    return multiply(inputs.reshape(batch * time, features), kernel).reshape(batch, time, kernel.shape[-1])
