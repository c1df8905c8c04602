"""The multiplicative LSTM: its recurrent transition depends on the input."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.cells.lstm import LSTMGates, LSTMState
from lstmjax.types import Array, DTypeLike, Key


class MultiplicativeLSTMParams(NamedTuple):
    """Parameters of a multiplicative LSTM; gates in the order input, forget, candidate, output."""

    kernel: Array
    """``[features, 4 * hidden]``: W."""
    recurrent_kernel: Array
    """``[hidden, 4 * hidden]``: from the intermediate state to the gates, R."""
    bias: Array | None
    """``[4 * hidden]``: b; None without biases."""
    factor_kernel: Array
    """``[features, hidden]``: from the input to the intermediate state, W_m."""
    factor_recurrent_kernel: Array
    """``[hidden, hidden]``: from the hidden state to the intermediate state, R_m."""


@dataclasses.dataclass(frozen=True, repr=False)
class MultiplicativeLSTM(GatedCell):
    """An LSTM with an input-dependent recurrent transition; made by `multiplicative_lstm`."""

    forget_bias: float | initializers.GateBias = 1.0

    maker: ClassVar[str] = "multiplicative_lstm"

    def init(self, key: Key) -> MultiplicativeLSTMParams:
        """Fresh parameters: an initialized kernel for each gate, `forget_bias`, other biases 0."""
        keys = jax.random.split(key, 5)
        bias_init = initializers.gate_bias(self.forget_bias)
        return MultiplicativeLSTMParams(
            kernel=self.gates(self.kernel_init, keys[0], 4, self.features),
            recurrent_kernel=self.gates(self.recurrent_init, keys[1], 4, self.hidden),
            bias=bias_init(keys[2], self.hidden, self.param_dtype).reshape(-1) if self.bias else None,
            factor_kernel=self.gates(self.kernel_init, keys[3], 1, self.features),
            factor_recurrent_kernel=self.gates(self.recurrent_init, keys[4], 1, self.hidden),
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """Zeros: hidden ``[*batch_shape, hidden]`` and cell of the same shape."""
        shape = (*batch_shape, self.hidden)
        return LSTMState(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.wide_dtype))

    def step(
        self, params: MultiplicativeLSTMParams, state: LSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[LSTMState, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step`, and `multiplicative_lstm` for the equations."""
        check_step(self, params, state, inputs)
        product = functools.partial(matmul, dtype=self.dtype, result_dtype=self.wide_dtype)
        from_hidden = product(state.hidden, params.factor_recurrent_kernel)
        intermediate = (product(inputs, params.factor_kernel) * from_hidden).astype(self.dtype)
        total = product(inputs, params.kernel) + product(intermediate, params.recurrent_kernel)
        after = LSTMGates.of(jnp.split(biased(total, params.bias), 4, axis=-1)).update(state)
        return after, jnp.asarray(after.hidden)


def multiplicative_lstm(
    features: int,
    hidden: int,
    *,
    forget_bias: float | initializers.GateBias = 1.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> MultiplicativeLSTM:
    r"""A multiplicative LSTM: its recurrent transition depends on the input.

    .. math::
        m_t = (W_m x_t) \odot (R_m h_{t-1})

    replaces :math:`h_{t-1}` in the equations of `lstm`, which also describes the arguments.

    Returns:
      A `Cell` whose parameters are `MultiplicativeLSTMParams` and whose state is an `LSTMState`.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Krause et al. 2016 (arXiv:1609.07959).

    Example:
      >>> cell = multiplicative_lstm(3, 4)
      >>> cell.step(cell.init(jax.random.key(0)), cell.initial_state((2,)), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    return MultiplicativeLSTM(
        features,
        hidden,
        kernel_init=kernel_init,
        recurrent_init=recurrent_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
        forget_bias=forget_bias,
    )
