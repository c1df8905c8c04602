r"""Cells whose gates do not depend on the state, so that time steps can run in parallel: minLSTM and minGRU.

Each is a linear recurrence :math:`h_t = a_t \odot h_{t-1} + b_t` whose coefficients depend on the input
alone. `lstmjax.backends.associative` runs any such `LinearCell` over all steps at once. On a CPU, which has
few cores, native code takes these two one step after the other, each unit by itself.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.cells.elementwise import ElementwiseCell, Structure, Weights
from lstmjax.checks import resolve_number
from lstmjax.types import Array, DTypeLike, Key


class LinearParams(NamedTuple):
    """Parameters of a linear cell; gates and candidate are concatenated in the order of the equations."""

    kernel: Array
    """``[features, gates * hidden]``: W."""
    bias: Array | None
    """``[gates * hidden]``: b; None without biases."""


class LinearState(NamedTuple):
    """State of a linear cell."""

    cell: Array
    """``[..., hidden]``, at least float32, since it is a sum over time: h."""


@dataclasses.dataclass(frozen=True, repr=False)
class LinearCell(GatedCell):
    r"""A cell of the form :math:`h_t = a_t \odot h_{t-1} + b_t`, where a and b depend on the input alone.

    Subclasses define the coefficients; the step and the parallel run over all steps
    (``backend="associative"``) follow from them.
    """

    columns: ClassVar[int]
    """Number of gates and candidates."""

    @abc.abstractmethod
    def coefficients(self, params: LinearParams, inputs: Array) -> tuple[jax.Array, jax.Array]:
        """``a`` and ``b`` of inputs ``[..., features]``: ``[..., hidden]``, at least float32."""

    def init(self, key: Key) -> LinearParams:
        """Fresh parameters; the biases are zero."""
        return LinearParams(
            kernel=self.gates(self.kernel_init, key, self.columns, self.features),
            bias=jnp.zeros(self.columns * self.hidden, self.param_dtype) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LinearState:
        """Zeros ``[*batch_shape, hidden]``."""
        return LinearState(jnp.zeros((*batch_shape, self.hidden), self.wide_dtype))

    def step(
        self, params: LinearParams, state: LinearState, inputs: Float[Array, "... features"]
    ) -> tuple[LinearState, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors."""
        check_step(self, params, state, inputs)
        decay, addend = self.coefficients(params, inputs)
        cell = decay * state.cell + addend
        return LinearState(cell), cell.astype(self.dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class _Minimal(LinearCell, ElementwiseCell):
    """A linear cell whose coefficients are functions of each unit's own pre-activations."""

    @abc.abstractmethod
    def unit_coefficients(self, columns: Sequence[Array]) -> tuple[jax.Array, jax.Array]:
        """``a`` and ``b`` of the columns of pre-activations, each ``[..., hidden]``."""

    def coefficients(self, params: LinearParams, inputs: Array) -> tuple[jax.Array, jax.Array]:
        """See `LinearCell.coefficients`."""
        product = matmul(inputs, params.kernel, dtype=self.dtype, result_dtype=self.wide_dtype)
        return self.unit_coefficients(jnp.split(biased(product, params.bias), self.columns, axis=-1))

    @property
    def structure(self) -> Structure | None:
        """No product with the state; None if the outputs have a narrower dtype than the state."""
        return Structure(self.columns, self.columns, 0) if self.dtype == self.wide_dtype else None

    def weights(self, params: LinearParams) -> Weights:
        """See `ElementwiseCell.weights`."""
        kernel = jnp.asarray(params.kernel)
        return Weights(kernel, kernel[:0, : self.hidden].T, params.bias)

    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> Sequence[jax.Array]:
        """See `ElementwiseCell.elementwise`."""
        decay, addend = self.unit_coefficients(totals)
        return (decay * state[0] + addend,)


@dataclasses.dataclass(frozen=True, repr=False)
class MinGRU(_Minimal):
    """The specification of a minGRU; made by `min_gru`."""

    columns: ClassVar[int] = 2
    maker: ClassVar[str] = "min_gru"

    def unit_coefficients(self, columns: Sequence[Array]) -> tuple[jax.Array, jax.Array]:
        """``1 - z`` and ``z n``; see `min_gru`."""
        update, candidate = columns
        return jax.nn.sigmoid(-update), jax.nn.sigmoid(update) * candidate


def min_gru(
    features: int,
    hidden: int,
    *,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> MinGRU:
    r"""A minGRU: a GRU without reset gate and tanh, whose update gate depends on the input alone.

    .. math::
        z_t &= \sigma(W_z x_t + b_z) \\
        n_t &= W_n x_t + b_n \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    Args:
      features: size of an input vector, D.
      hidden: size of the hidden state and of the outputs, H.
      bias: if False, there is no b: the parameter is None.
      kernel_init: initializer of each ``[features, hidden]`` kernel.
      dtype: of inputs and outputs, and of the operands of products; gates are computed and the state is
        kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell` whose parameters are `LinearParams` (z, n) and whose state is a `LinearState`.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Feng et al. 2024 (arXiv:2410.01201), the form outside log space.

    Example:
      >>> cell = min_gru(3, 4)
      >>> cell.step(cell.init(jax.random.key(0)), cell.initial_state((2,)), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    return MinGRU(features, hidden, kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, bias=bias)


@dataclasses.dataclass(frozen=True, repr=False)
class MinLSTM(_Minimal):
    """The specification of a minLSTM; made by `min_lstm`."""

    forget_bias: float = 0.0

    columns: ClassVar[int] = 3
    maker: ClassVar[str] = "min_lstm"

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_number(self.maker, self, "forget_bias")

    def init(self, key: Key) -> LinearParams:
        """Fresh parameters; the biases are zero except ``forget_bias``."""
        params = super().init(key)
        if params.bias is None:
            return params
        return params._replace(bias=jnp.asarray(params.bias).at[: self.hidden].set(self.forget_bias))

    def unit_coefficients(self, columns: Sequence[Array]) -> tuple[jax.Array, jax.Array]:
        """``f / (f + i)`` and ``i n / (f + i)``; see `min_lstm`."""
        forget, input_, candidate = columns
        # f / (f + i) is the sigmoid of log(f / i), which is accurate even where f and i both round to 0.
        odds = jax.nn.log_sigmoid(forget) - jax.nn.log_sigmoid(input_)
        return jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * candidate


def min_lstm(
    features: int,
    hidden: int,
    *,
    forget_bias: float = 0.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> MinLSTM:
    r"""A minLSTM: an LSTM without output gate and tanh, whose gates depend on the input alone and sum to 1.

    .. math::
        f_t &= \sigma(W_f x_t + b_f) \\
        i_t &= \sigma(W_i x_t + b_i) \\
        n_t &= W_n x_t + b_n \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot n_t

    Args:
      features: size of an input vector, D.
      hidden: size of the hidden state and of the outputs, H.
      forget_bias: initial value of b_f.
      bias: if False, there is no b: the parameter is None.
      kernel_init: initializer of each ``[features, hidden]`` kernel.
      dtype: of inputs and outputs, and of the operands of products; gates are computed and the state is
        kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell` whose parameters are `LinearParams` (f, i, n) and whose state is a `LinearState`.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Feng et al. 2024 (arXiv:2410.01201), the form outside log space.

    Example:
      >>> cell = min_lstm(3, 4)
      >>> cell.step(cell.init(jax.random.key(0)), cell.initial_state((2,)), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    return MinLSTM(
        features,
        hidden,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
        forget_bias=forget_bias,
    )
