"""The gates of one step by name, for what changes or records them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cell import LSTM, LSTMParams, LSTMState, matmul
from lstmjax.types import Array


class LSTMGates(NamedTuple):
    """Gates of an LSTM in one step, each ``[..., hidden]``, as in the equations of `lstmjax.lstm`."""

    input_gate: jax.Array
    forget_gate: jax.Array
    candidate: jax.Array
    output_gate: jax.Array

    def memory(self, before: Array) -> jax.Array:
        """The cell state after the step, from that before it."""
        return self.forget_gate * before + self.input_gate * self.candidate


def lstm_gates(cell: LSTM, params: LSTMParams, state: LSTMState, inputs: Array) -> LSTMGates:
    """The gates of one step of an LSTM, in its ``wide_dtype``."""
    product = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    gates = product(inputs, params.kernel) + product(state.hidden, params.recurrent_kernel)
    i, f, g, o = jnp.split(gates + params.bias.astype(cell.wide_dtype), 4, axis=-1)
    return LSTMGates(jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o))
