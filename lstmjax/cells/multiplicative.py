"""The multiplicative LSTM: its recurrent transition depends on the input."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import initializers
from lstmjax.cells.elementwise import Stage, StagedCell, Structure, Weights
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
class MultiplicativeLSTM(StagedCell):
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

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The intermediate state, and then the gates."""
        return Stage(Structure(2, 1, 1), self._intermediate), Stage(Structure(4, 4, 4), self._after)

    def stage_weights(self, params: MultiplicativeLSTMParams) -> tuple[Weights, ...]:
        """The parameters by what they do."""
        factors = Weights(params.factor_kernel, params.factor_recurrent_kernel, None)
        return factors, Weights(params.kernel, params.recurrent_kernel, params.bias)

    def _intermediate(
        self, totals: Sequence[Array], _: Sequence[Array], state: Sequence[Array]
    ) -> Sequence[Any]:
        """The intermediate state, in place of the hidden one, and the cell state."""
        from_input, from_hidden = totals
        return (from_input * from_hidden).astype(self.dtype), state[1]

    def _after(self, totals: Sequence[Array], _: Sequence[Array], leaves: Sequence[Array]) -> LSTMState:
        """The state after the step."""
        return LSTMGates.of(totals).update(LSTMState(*leaves))


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
