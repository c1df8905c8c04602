"""The plain recurrent cell."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import initializers
from lstmjax.cells.elementwise import ElementwiseCell, Structure
from lstmjax.types import Array, DTypeLike, Key


class ElmanParams(NamedTuple):
    """Parameters of a plain recurrent cell."""

    kernel: Array
    """``[features, hidden]``: W."""
    recurrent_kernel: Array
    """``[hidden, hidden]``: R."""
    bias: Array | None
    """``[hidden]``: b; None without biases."""


@dataclasses.dataclass(frozen=True, repr=False)
class Elman(ElementwiseCell):
    """The specification of a plain recurrent cell; made by `elman`."""

    def init(self, key: Key) -> ElmanParams:
        """Fresh parameters; the bias is zero."""
        kernel_key, recurrent_key = jax.random.split(key)
        return ElmanParams(
            kernel=self.gates(self.kernel_init, kernel_key, 1, self.features),
            recurrent_kernel=self.gates(self.recurrent_init, recurrent_key, 1, self.hidden),
            bias=jnp.zeros((self.hidden,), self.param_dtype) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        """Zeros ``[*batch_shape, hidden]``."""
        return jnp.zeros((*batch_shape, self.hidden), self.dtype)

    @property
    def structure(self) -> Structure:
        """One column."""
        return Structure(columns=1, inputs=1, products=1)

    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> tuple[jax.Array]:
        """The hidden state after a step; see `ElementwiseCell.elementwise`."""
        return (jnp.tanh(totals[0]).astype(self.dtype),)


def elman(
    features: int,
    hidden: int,
    *,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> Elman:
    r"""A plain recurrent cell: :math:`h_t = \tanh(W x_t + R h_{t-1} + b)`.

    Args:
      features: size of an input vector, D.
      hidden: size of the hidden state and of the outputs, H.
      bias: if False, there is no b: the parameter is None.
      kernel_init: initializer of the ``[features, hidden]`` kernel.
      recurrent_init: initializer of the ``[hidden, hidden]`` recurrent kernel.
      dtype: of inputs, hidden state and outputs.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Elman 1990 (Cognitive Science 14(2)).
    """
    return Elman(features, hidden, kernel_init, recurrent_init, dtype, param_dtype, bias=bias)
