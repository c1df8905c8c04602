"""The gated recurrent unit."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import initializers
from lstmjax.cells.elementwise import ElementwiseCell, Stage, Structure, Weights
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

    @classmethod
    def of(cls, totals: Sequence[Array]) -> "GRUGates":
        """The gates from their pre-activations and the candidate's two terms, with the reset gate after."""
        reset_total, update_total, candidate_x, candidate_h = totals
        reset = jax.nn.sigmoid(reset_total)
        return cls(reset, jax.nn.sigmoid(update_total), jnp.tanh(candidate_x + reset * candidate_h))

    def memory(self, before: jax.Array) -> jax.Array:
        """The hidden state after the step, from the one before it."""
        return (1 - self.update_gate) * self.candidate + self.update_gate * before


@dataclasses.dataclass(frozen=True, repr=False)
class GRU(ElementwiseCell):
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

    def gates_of(self, params: GRUParams, state: Array, inputs: Array) -> GRUGates:
        """The gates of one step, in the cell's ``wide_dtype``."""
        if self.reset_after:
            return GRUGates.of(self.totals(params, state, inputs))
        (first, last), (to_gates, to_candidate) = self.stages, self.stage_weights(params)
        totals = self.columns_of(first.structure, to_gates, state, inputs)
        seen, update, _ = first.after(totals, (), (state,))
        (candidate,) = self.columns_of(last.structure, to_candidate, seen, inputs)
        return GRUGates(jax.nn.sigmoid(totals[0]), update, jnp.tanh(candidate))

    @property
    def structure(self) -> Structure | None:
        """Two gates, and the two terms of the candidate; None with the reset gate before the product."""
        return Structure(columns=4, inputs=3, products=3) if self.reset_after else None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One; with the reset gate before the product, the gates, and then the candidate."""
        if self.reset_after:
            return super().stages
        return Stage(Structure(2, 2, 2), self._seen), Stage(Structure(1, 1, 1), self._after)

    def stage_weights(self, params: GRUParams) -> tuple[Weights, ...]:
        """The parameters by what they do, the first two thirds of the columns in the first of two stages."""
        if self.reset_after:
            return super().stage_weights(params)
        arrays = (params.kernel, params.recurrent_kernel, params.bias)
        parts = ([None] * 2 if x is None else jnp.split(x, [2 * self.hidden], axis=-1) for x in arrays)
        return tuple(Weights(*each) for each in zip(*parts, strict=True))

    def _seen(self, totals: Sequence[Array], _: Sequence[Array], state: Sequence[Array]) -> Sequence[Any]:
        """What the candidate sees of the hidden state, the update gate, and the hidden state."""
        reset, update = map(jax.nn.sigmoid, totals)
        return (reset * jnp.asarray(state[0], self.wide_dtype)).astype(self.dtype), update, state[0]

    def _after(self, totals: Sequence[Array], _: Sequence[Array], leaves: Sequence[Array]) -> Sequence[Any]:
        """The hidden state after the step."""
        update = jnp.asarray(leaves[1])
        gates = GRUGates(jnp.ones_like(update), update, jnp.tanh(totals[0]))
        return (gates.memory(jnp.asarray(leaves[2], self.wide_dtype)).astype(self.dtype),)

    def weights(self, params: GRUParams) -> Weights:
        """The parameters by what they do; b' is the bias of the fourth column."""
        bias = None
        if params.bias is not None and params.candidate_bias is not None:
            bias = jnp.concatenate([params.bias, params.candidate_bias])
        return Weights(params.kernel, params.recurrent_kernel, bias)

    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> tuple[jax.Array]:
        """The hidden state after a step; see `ElementwiseCell.elementwise`."""
        hidden = GRUGates.of(totals).memory(jnp.asarray(state[0], self.wide_dtype))
        return (hidden.astype(self.dtype),)


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
