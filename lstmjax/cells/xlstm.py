"""The two cells of the xLSTM: exponential gates, with a scalar memory (sLSTM) or a matrix memory (mLSTM).

Exponential gates can overflow. Both cells therefore store their memory divided by ``exp(m)``, where the
*stabilizer* m follows the largest gate; the outputs do not depend on it.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.checks import check_sizes, resolve_number
from lstmjax.types import Array, DTypeLike, Key


@dataclasses.dataclass(frozen=True, repr=False)
class HeadedCell(GatedCell):
    """Base class of the cells of the xLSTM: heads, and the form of the forget gate."""

    heads: int = 1
    exponential_forget: bool = False
    forget_bias: float | initializers.GateBias = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.maker, heads=self.heads)
        if self.hidden % self.heads:
            raise ValueError(
                f"{self.maker}: hidden must be a multiple of heads, got {self.hidden} and {self.heads}."
            )

    @property
    def head_size(self) -> int:
        """Hidden units of one head."""
        return self.hidden // self.heads

    @property
    def most(self) -> float:
        """The largest exponent whose exponential can be squared and inverted, as derivatives do."""
        return -math.log(jnp.finfo(self.wide_dtype).tiny) / 2

    def weigh(
        self, i: jax.Array, f: jax.Array, stabilizer: Array, empty: jax.Array, least: float = -math.inf
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What is kept of the memory, what is written to it, and the next stabilizer, at least ``least``.

        An empty memory has no scale, whatever its stabilizer: it takes that of the first write. Its slope
        is kept nevertheless, for a learned initial state.
        """
        before = self.log_forget(f) + stabilizer
        after = jnp.maximum(jnp.where(empty, i, jnp.maximum(before, i)), least)
        return jnp.exp(jnp.minimum(before - after, self.most)), jnp.exp(i - after), after

    def log_forget(self, f: jax.Array) -> jax.Array:
        """The logarithm of the forget gate, from its pre-activation."""
        return f if self.exponential_forget else jax.nn.log_sigmoid(f)

    def product(self, inputs: Array, kernel: Array) -> jax.Array:
        """``inputs @ kernel`` with operands of ``dtype``, in the wide dtype."""
        return matmul(inputs, kernel, dtype=self.dtype, result_dtype=self.wide_dtype)

    def by_head(self, array: jax.Array) -> jax.Array:
        """``[..., hidden]`` as ``[..., heads, head_size]``."""
        return array.reshape(*array.shape[:-1], self.heads, self.head_size)


class SLSTMParams(NamedTuple):
    """Parameters of an sLSTM; gates in the order input, forget, candidate, output."""

    kernel: Array
    """``[features, 4 * hidden]``: W."""
    recurrent_kernel: Array
    """``[heads, head_size, 4 * head_size]``: R, its diagonal blocks."""
    bias: Array | None
    """``[4 * hidden]``: b; None without biases."""


class SLSTMState(NamedTuple):
    """State of an sLSTM; all but ``hidden`` are at least float32."""

    hidden: Array
    """``[..., hidden]``, of the dtype of the computation: the last output, h."""
    cell: Array
    """``[..., hidden]``: the memory, c divided by exp(m)."""
    normalizer: Array
    """``[..., hidden]``: the sum of the gates' weights, n divided by exp(m)."""
    stabilizer: Array
    """``[..., hidden]``: m."""


@dataclasses.dataclass(frozen=True, repr=False)
class SLSTM(HeadedCell):
    """The specification of an sLSTM; made by `slstm`."""

    maker: ClassVar[str] = "slstm"

    def init(self, key: Key) -> SLSTMParams:
        """Fresh parameters: an initialized kernel for each gate (and head), `forget_bias`, other biases 0."""
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        block = dataclasses.replace(self, hidden=self.head_size, heads=1)
        blocks = [
            block.gates(self.recurrent_init, k, 4, self.head_size)
            for k in jax.random.split(recurrent_key, self.heads)
        ]
        bias_init = initializers.gate_bias(self.forget_bias)
        return SLSTMParams(
            kernel=self.gates(self.kernel_init, kernel_key, 4, self.features),
            recurrent_kernel=initializers.joined(jnp.stack, blocks),
            bias=bias_init(bias_key, self.hidden, self.param_dtype).reshape(-1) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> SLSTMState:
        """Zeros ``[*batch_shape, hidden]``."""
        shape = (*batch_shape, self.hidden)
        wide = [jnp.zeros(shape, self.wide_dtype) for _ in range(3)]
        return SLSTMState(jnp.zeros(shape, self.dtype), *wide)

    def step(
        self, params: SLSTMParams, state: SLSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[SLSTMState, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors, `slstm` for the equations."""
        check_step(self, params, state, inputs)
        total = biased(self.product(inputs, params.kernel), params.bias)
        i, f, z, o = (
            own + recurrent
            for own, recurrent in zip(
                jnp.split(total, 4, axis=-1), self._recurrent(params, state.hidden), strict=True
            )
        )
        keep, write, stabilizer = self.weigh(i, f, state.stabilizer, state.normalizer == 0)
        cell = keep * state.cell + write * jnp.tanh(z)
        normalizer = keep * state.normalizer + write
        hidden = (jax.nn.sigmoid(o) * (cell / normalizer)).astype(self.dtype)
        return SLSTMState(hidden, cell, normalizer, stabilizer), hidden

    def _recurrent(self, params: SLSTMParams, hidden: Array) -> list[jax.Array]:
        """The recurrent term of each of the four gates, separately for each head."""
        total = jnp.einsum(
            "...hs,hsg->...hg",
            self.by_head(jnp.asarray(hidden)),
            params.recurrent_kernel.astype(self.dtype),
            preferred_element_type=self.wide_dtype,
        )
        return [gate.reshape(hidden.shape) for gate in jnp.split(total, 4, axis=-1)]


def slstm(
    features: int,
    hidden: int,
    *,
    heads: int = 1,
    exponential_forget: bool = False,
    forget_bias: float | initializers.GateBias = 1.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> SLSTM:
    r"""The sLSTM of the xLSTM: exponential gates, normalized to a weighted mean over the past.

    .. math::
        i_t &= \exp(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        z_t &= \tanh (W_z x_t + R_z h_{t-1} + b_z) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot z_t \\
        n_t &= f_t \odot n_{t-1} + i_t \\
        h_t &= o_t \odot c_t / n_t

    Each R is block-diagonal, with one block per head. The state holds :math:`c_t` and :math:`n_t` divided by
    :math:`\exp(m_t)`, where :math:`m_t = \max(\log f_t + m_{t-1}, \log i_t)`, or :math:`m_t = \log i_t` where
    :math:`n_{t-1} = 0`, as it is before the first step.

    Args:
      features: size of an input vector, D.
      hidden: size of the hidden state and of the outputs, H.
      heads: number of blocks in each R; divides ``hidden``.
      exponential_forget: if True, :math:`\exp` in place of :math:`\sigma` in :math:`f_t`.
      forget_bias: initial value of b_f: a number, or a `GateBias`.
      bias: if False, there is no b: the parameter is None.
      kernel_init: initializer of each gate's ``[features, hidden]`` kernel.
      recurrent_init: initializer of each ``[head_size, head_size]`` block of each gate's recurrent kernel.
      dtype: of inputs, hidden state and outputs, and of the operands of products; gates are computed and
        the rest of the state is kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell` whose parameters are `SLSTMParams` and whose state is an `SLSTMState`.

    Raises:
      ValueError: a size is not a positive integer, or ``hidden`` is not a multiple of ``heads``.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Beck et al. 2024 (arXiv:2405.04517, section 2.2).

    Example:
      >>> cell = slstm(3, 4, heads=2)
      >>> cell.step(cell.init(jax.random.key(0)), cell.initial_state((2,)), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    return SLSTM(
        features,
        hidden,
        heads=heads,
        exponential_forget=exponential_forget,
        forget_bias=forget_bias,
        kernel_init=kernel_init,
        recurrent_init=recurrent_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
    )


class MLSTMParams(NamedTuple):
    """Parameters of an mLSTM."""

    kernel: Array
    """``[features, 4 * hidden]``: W, of query, key, value and output gate."""
    bias: Array | None
    """``[4 * hidden]``: b, of the same; None without biases."""
    gate_kernel: Array
    """``[features, 2 * heads]``: w, of the input and the forget gate of each head."""
    gate_bias: Array
    """``[2 * heads]``: b, of the same."""


class MLSTMState(NamedTuple):
    """State of an mLSTM, at least float32."""

    cell: Array
    """``[..., heads, head_size, head_size]``: the memory, C divided by exp(m), from keys to values."""
    normalizer: Array
    """``[..., heads, head_size]``: the sum of the keys, n divided by exp(m)."""
    stabilizer: Array
    """``[..., heads]``: m."""


class MLSTMStep(NamedTuple):
    """What an input says to an mLSTM, which does not see its state."""

    query: jax.Array
    """``[..., heads, head_size]``."""
    key: jax.Array
    value: jax.Array
    i: jax.Array
    """``[..., heads]``: the logarithm of the input gate."""
    f: jax.Array
    """``[..., heads]``: the pre-activation of the forget gate."""
    o: jax.Array
    """``[..., hidden]``: the pre-activation of the output gate."""


@dataclasses.dataclass(frozen=True, repr=False)
class MLSTM(HeadedCell):
    """The specification of an mLSTM; made by `mlstm`."""

    maker: ClassVar[str] = "mlstm"

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_number(self.maker, self, "forget_bias")

    def init(self, key: Key) -> MLSTMParams:
        """Fresh parameters: `kernel_init` for each kernel; biases 0 except `forget_bias`."""
        kernel_key, gate_key = jax.random.split(key)
        gate_bias = jnp.zeros((2, self.heads), self.param_dtype).at[1].set(self.forget_bias)
        return MLSTMParams(
            kernel=self.gates(self.kernel_init, kernel_key, 4, self.features),
            bias=jnp.zeros(4 * self.hidden, self.param_dtype) if self.bias else None,
            gate_kernel=self.kernel_init(gate_key, (self.features, 2 * self.heads), self.param_dtype),
            gate_bias=gate_bias.reshape(-1),
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> MLSTMState:
        """Zeros; see `MLSTMState` for the shapes."""
        size = self.head_size
        shapes: Any = ((self.heads, size, size), (self.heads, size), (self.heads,))
        return MLSTMState(*(jnp.zeros((*batch_shape, *shape), self.wide_dtype) for shape in shapes))

    def step(
        self, params: MLSTMParams, state: MLSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[MLSTMState, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors, `mlstm` for the equations."""
        check_step(self, params, state, inputs)
        query, key, value, i, f, o = self.steps(params, inputs)
        empty = self.is_empty(state)
        keep, write, stabilizer = self.weigh(i, f, state.stabilizer, empty, least=-self.most)
        keep, key_weighted = keep[..., None], write[..., None] * key
        normalizer = keep * state.normalizer + key_weighted
        cell = keep[..., None] * state.cell + value[..., :, None] * key_weighted[..., None, :]
        one = jnp.exp(-jnp.minimum(stabilizer, self.most))[..., None]
        found = jnp.maximum(jnp.abs((normalizer * query).sum(axis=-1, keepdims=True)), one)
        read = (cell * query[..., None, :]).sum(axis=-1) / found
        hidden = jax.nn.sigmoid(o) * read.reshape(*inputs.shape[:-1], self.hidden)
        return MLSTMState(cell, normalizer, stabilizer), hidden.astype(self.dtype)

    def is_empty(self, state: MLSTMState) -> jax.Array:
        """Whether nothing has been written to a memory, ``[..., heads]``."""
        return (state.normalizer == 0).all(axis=-1) & (state.cell == 0).all(axis=(-2, -1))

    def steps(self, params: MLSTMParams, inputs: Array) -> MLSTMStep:
        """What the inputs of any number of steps say."""
        gates = biased(self.product(inputs, params.gate_kernel), params.gate_bias)
        i, f = jnp.split(gates, 2, axis=-1)
        query, key, value, o = jnp.split(self.product(inputs, params.kernel), 4, axis=-1)
        total = jnp.concatenate([query, key / math.sqrt(self.head_size), value, o], axis=-1)
        query, key, value, o = jnp.split(biased(total, params.bias), 4, axis=-1)
        return MLSTMStep(self.by_head(query), self.by_head(key), self.by_head(value), i, f, o)


def mlstm(
    features: int,
    hidden: int,
    *,
    heads: int = 1,
    exponential_forget: bool = False,
    forget_bias: float = 1.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> MLSTM:
    r"""The mLSTM of the xLSTM: a matrix memory, written with keys and read with queries.

    .. math::
        q_t &= W_q x_t + b_q, \quad k_t = W_k x_t / \sqrt{d} + b_k, \quad v_t = W_v x_t + b_v \\
        i_t &= \exp(w_i^\top x_t + b_i) \\
        f_t &= \sigma(w_f^\top x_t + b_f) \\
        o_t &= \sigma(W_o x_t + b_o) \\
        C_t &= f_t C_{t-1} + i_t v_t k_t^\top \\
        n_t &= f_t n_{t-1} + i_t k_t \\
        h_t &= o_t \odot C_t q_t / \max(|n_t^\top q_t|, 1)

    for each head, of size :math:`d`; the gates i and f are scalars, one per head. The state holds :math:`C_t`
    and :math:`n_t` divided by :math:`\exp(m_t)`, where :math:`m_t = \max(\log f_t + m_{t-1}, \log i_t)`, or
    :math:`m_t = \log i_t` where the memory is empty, as it is before the first step. It is not the
    multiplicative LSTM, which is called mLSTM too (`multiplicative_lstm`).

    Args:
      features: size of an input vector, D.
      hidden: size of the outputs, H, of all heads together.
      heads: number of heads, each with its own memory; divides ``hidden``.
      exponential_forget: if True, :math:`\exp` in place of :math:`\sigma` in :math:`f_t`.
      forget_bias: initial value of b_f.
      bias: if False, q, k, v and o have no b: the parameter is None. The gates i and f keep theirs.
      kernel_init: initializer of each kernel.
      dtype: of inputs and outputs, and of the operands of products with kernels; the rest is computed and
        the state is kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell` whose parameters are `MLSTMParams` and whose state is an `MLSTMState`.

    Raises:
      ValueError: a size is not a positive integer, or ``hidden`` is not a multiple of ``heads``.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Beck et al. 2024 (arXiv:2405.04517, section 2.3).

    Example:
      >>> cell = mlstm(3, 4, heads=2)
      >>> cell.step(cell.init(jax.random.key(0)), cell.initial_state((2,)), jnp.ones((2, 3)))[1].shape
      (2, 4)
    """
    return MLSTM(
        features,
        hidden,
        heads=heads,
        exponential_forget=exponential_forget,
        forget_bias=forget_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
    )
