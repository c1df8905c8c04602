"""The gated recurrent unit."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.types import Array, DTypeLike, Key


class GRUParams(NamedTuple):
    """Parameters of a gated recurrent unit; gates in the order reset, update, candidate."""

    kernel: Array
    """``[features, 3 * hidden]``: W."""
    recurrent_kernel: Array
    """``[hidden, 3 * hidden]``: R."""
    bias: Array | None
    """``[3 * hidden]``: b; None without biases."""
    candidate_bias: Array | None
    """``[hidden]``: b', the recurrent bias of the candidate; None if ``reset_after`` or ``bias`` is False."""


class GRUGates(NamedTuple):
    """Gates of a GRU in one step, each ``[..., hidden]``, as in the equations of `lstmjax.gru`."""

    reset_gate: jax.Array
    update_gate: jax.Array
    candidate: jax.Array

    def memory(self, before: jax.Array) -> jax.Array:
        """The hidden state after the step, from the one before it."""
        return (1 - self.update_gate) * self.candidate + self.update_gate * before


@dataclasses.dataclass(frozen=True, repr=False)
class GRU(GatedCell):
    """The specification of a gated recurrent unit; made by `gru`."""

    reset_after: bool = True

    def init(self, key: Key) -> GRUParams:
        """Fresh parameters; the biases are zero."""
        kernel_key, recurrent_key = jax.random.split(key)
        return GRUParams(
            kernel=self.gates(self.kernel_init, kernel_key, 3, self.features),
            recurrent_kernel=self.gates(self.recurrent_init, recurrent_key, 3, self.hidden),
            bias=jnp.zeros((3 * self.hidden,), self.param_dtype) if self.bias else None,
            candidate_bias=jnp.zeros((self.hidden,), self.param_dtype)
            if self.bias and self.reset_after
            else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        """Zeros ``[*batch_shape, hidden]``."""
        return jnp.zeros((*batch_shape, self.hidden), self.dtype)

    def step(
        self, params: GRUParams, state: Array, inputs: Float[Array, "... features"]
    ) -> tuple[jax.Array, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors, `gru` for the equations."""
        check_step(self, params, state, inputs)
        gates = self.gates_of(params, state, inputs)
        hidden = gates.memory(jnp.asarray(state, self.wide_dtype)).astype(self.dtype)
        return hidden, hidden

    def gates_of(self, params: GRUParams, state: Array, inputs: Array) -> GRUGates:
        """The gates of one step, in the cell's ``wide_dtype``."""
        product = functools.partial(matmul, dtype=self.dtype, result_dtype=self.wide_dtype)
        from_input = biased(product(inputs, params.kernel), params.bias)
        reset_x, update_x, candidate_x = jnp.split(from_input, 3, axis=-1)
        gates_kernel, candidate_kernel = jnp.split(params.recurrent_kernel, [2 * self.hidden], axis=-1)
        if not self.reset_after:
            reset_h, update_h = jnp.split(product(state, gates_kernel), 2, axis=-1)
            reset = jax.nn.sigmoid(reset_x + reset_h)
            seen = (reset * state.astype(self.wide_dtype)).astype(self.dtype)
            candidate_h = product(seen, candidate_kernel)
        else:
            from_state = product(state, params.recurrent_kernel)
            reset_h, update_h, candidate_h = jnp.split(from_state, 3, axis=-1)
            reset = jax.nn.sigmoid(reset_x + reset_h)
            candidate_h = reset * biased(candidate_h, params.candidate_bias)
        update = jax.nn.sigmoid(update_x + update_h)
        candidate = jnp.tanh(candidate_x + candidate_h)
        return GRUGates(reset, update, candidate)


def gru(
    features: int,
    hidden: int,
    *,
    reset_after: bool = True,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> GRU:
    r"""A gated recurrent unit, with the reset gate after the product, as in cuDNN and PyTorch, or before it.

    .. math::
        r_t &= \sigma(W_r x_t + R_r h_{t-1} + b_r) \\
        z_t &= \sigma(W_z x_t + R_z h_{t-1} + b_z) \\
        n_t &= \tanh (W_n x_t + b_n + r_t \odot (R_n h_{t-1} + b'_n)) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Args:
      features: size of an input vector, D.
      hidden: size of the hidden state and of the outputs, H.
      reset_after: if False, the reset gate is applied before the product, and there is no b':
        :math:`n_t = \tanh(W_n x_t + b_n + R_n (r_t \odot h_{t-1}))`.
      bias: if False, there is no b and no b': the parameter is None.
      kernel_init: initializer of each gate's ``[features, hidden]`` kernel.
      recurrent_init: initializer of each gate's ``[hidden, hidden]`` recurrent kernel.
      dtype: of inputs, hidden state and outputs.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Cho et al. 2014 (arXiv:1406.1078), with the reset gate before the product; after it: cuDNN 5.
    """
    return GRU(
        features,
        hidden,
        kernel_init=kernel_init,
        recurrent_init=recurrent_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
        reset_after=reset_after,
    )
