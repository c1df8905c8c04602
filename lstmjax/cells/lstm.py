"""The standard LSTM, for which there are fast backends; `lstmjax.lstm` makes it and its variants."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import check_step
from lstmjax.cells.elementwise import ElementwiseCell, Structure
from lstmjax.types import Array, Key


class LSTMParams(NamedTuple):
    """Parameters of an LSTM; gates are concatenated in the order input, forget, candidate, output."""

    kernel: Array
    """``[features, 4 * hidden]``: from the input to the gates, W."""
    recurrent_kernel: Array
    """``[hidden, 4 * hidden]``: from the hidden state to the gates, R."""
    bias: Array | None
    """``[4 * hidden]``: b; None without biases."""


class LSTMState(NamedTuple):
    """State of an LSTM."""

    hidden: Array
    """``[..., hidden]``, of the dtype of the computation: the last output, h."""
    cell: Array
    """``[..., hidden]``, at least float32: the memory, c."""


class LSTMGates(NamedTuple):
    """Gates of an LSTM in one step, each ``[..., hidden]``, as in the equations of `lstmjax.lstm`."""

    input_gate: jax.Array
    forget_gate: jax.Array
    candidate: jax.Array
    output_gate: jax.Array

    @classmethod
    def of(cls, totals: Sequence[Array]) -> "LSTMGates":
        """The gates from the pre-activations of i, f, g, o."""
        i, f, g, o = totals
        return cls(jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o))

    def memory(self, before: Array) -> jax.Array:
        """The cell state after the step, from the one before it."""
        return self.forget_gate * before + self.input_gate * self.candidate

    def update(self, before: LSTMState) -> LSTMState:
        """The state after the step, from the one before it, with the same dtypes."""
        cell = self.memory(before.cell)
        return LSTMState((self.output_gate * jnp.tanh(cell)).astype(before.hidden.dtype), cell)


@dataclasses.dataclass(frozen=True, repr=False)
class LSTM(ElementwiseCell):
    """The standard LSTM, for which there are fast backends; made by `lstm`, which has the equations."""

    forget_bias: float | initializers.GateBias = 1.0

    def init(self, key: Key) -> LSTMParams:
        """Fresh parameters: `kernel_init`, `recurrent_init` for each gate, `forget_bias`, other biases 0."""
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias_init = initializers.gate_bias(self.forget_bias)
        return LSTMParams(
            kernel=self.gates(self.kernel_init, kernel_key, 4, self.features),
            recurrent_kernel=self.gates(self.recurrent_init, recurrent_key, 4, self.hidden),
            bias=bias_init(bias_key, self.hidden, self.param_dtype).reshape(-1) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """Zeros: hidden ``[*batch_shape, hidden]`` and cell of the same shape."""
        shape = (*batch_shape, self.hidden)
        return LSTMState(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.wide_dtype))

    def step(
        self, params: LSTMParams, state: LSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[LSTMState, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors, `lstm` for the equations."""
        check_step(self, params, state, inputs)
        after = self.gates_of(params, state, inputs).update(state)
        return after, jnp.asarray(after.hidden)

    def gates_of(self, params: LSTMParams, state: LSTMState, inputs: Array) -> LSTMGates:
        """The gates of one step, in the cell's ``wide_dtype``."""
        return LSTMGates.of(self.totals(params, state, inputs))

    @property
    def structure(self) -> Structure:
        """The candidate and three gates."""
        return Structure(columns=4, inputs=4, products=4)

    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> LSTMState:
        """Hidden state and cell state after a step; see `ElementwiseCell.elementwise`."""
        return LSTMGates.of(totals).update(LSTMState(*state))
