"""Cells whose step is one product with a recurrent kernel, then a function of each hidden unit by itself."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.types import Array, Params, State


class Weights(NamedTuple):
    """The weights of an `ElementwiseCell`, by what they do in a step."""

    kernel: Array
    """``[features, inputs * hidden]``: to the first columns."""
    recurrent_kernel: Array
    """``[hidden, products * hidden]``: to the first columns, and to those that have no input."""
    bias: Array | None
    """``[columns * hidden]``."""
    vectors: tuple[Array, ...] = ()
    """Each ``[hidden]``: further weights of the units, such as peepholes."""


class Structure(NamedTuple):
    """The columns of an `ElementwiseCell`, and its vectors."""

    columns: int
    """Of pre-activations."""
    inputs: int
    """The first columns, which have a term of the input."""
    products: int
    """Those with a term of the hidden state: the first columns, and all after ``inputs``; or none."""
    vectors: int = 0

    @property
    def shared(self) -> int:
        """The first columns, which have both terms."""
        return self.products - (self.columns - self.inputs)

    def totals(self, inputs: jax.Array, products: jax.Array) -> jax.Array:
        """Pre-activations ``[..., columns * hidden]`` from their terms; linear in both.

        Args:
          inputs: ``[..., inputs * hidden]``.
          products: ``[..., products * hidden]``.
        """
        if self.shared == self.columns:
            return inputs + products
        shared = self.shared * inputs.shape[-1] // self.inputs
        both = inputs[..., :shared] + products[..., :shared]
        return jnp.concatenate([both, inputs[..., shared:], products[..., shared:]], axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class ElementwiseCell(GatedCell):
    r"""A cell of a product and a function :math:`\phi` of each hidden unit by itself, for fast backends.

    .. math:: s_t = \phi(W x_t + R h_{t-1} + b, v, s_{t-1})

    The first leaf of the state is the hidden state :math:`h`, which is also the output; all leaves are
    ``[..., hidden]`` and begin as zeros. Pre-activations are columns of ``hidden`` numbers. A column of
    :math:`R h_{t-1}` that must not be added to one of :math:`W x_t`, as in the candidate of a GRU, comes
    after all of these.
    """

    def step(
        self, params: Params, state: State, inputs: Float[Array, "... features"]
    ) -> tuple[State, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors."""
        check_step(self, params, state, inputs)
        leaves, tree = jax.tree.flatten(state)
        columns, vectors = self.totals(params, state, inputs), self.weights(params).vectors
        after = self.elementwise(columns, vectors, leaves)
        return jax.tree.unflatten(tree, after), jnp.asarray(after[0])

    def totals(self, params: Params, state: State, inputs: Array) -> list[jax.Array]:
        """The columns of pre-activations of one step, in the cell's ``wide_dtype``."""
        weights, structure = self.weights(params), self.structure
        assert structure is not None, f"{type(self).__name__} must define a step for its options."
        product = functools.partial(matmul, dtype=self.dtype, result_dtype=self.wide_dtype)
        hidden = jax.tree.leaves(state)[0]
        total = structure.totals(product(inputs, weights.kernel), product(hidden, weights.recurrent_kernel))
        return jnp.split(biased(total, weights.bias), structure.columns, axis=-1)

    @property
    @abc.abstractmethod
    def structure(self) -> Structure | None:
        """The numbers of columns and vectors; None if the cell's options make it more than elementwise."""

    def weights(self, params: Params) -> Weights:
        """The parameters by what they do; by default ``kernel``, ``recurrent_kernel`` and ``bias``."""
        return Weights(params.kernel, params.recurrent_kernel, params.bias)

    @abc.abstractmethod
    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> Sequence[Any]:
        r"""The function :math:`\phi`: the leaves of the state after a step.

        Args:
          totals: the columns, each ``[..., hidden]`` of the cell's ``wide_dtype``.
          vectors: those of `weights`.
          state: the leaves of the state before the step.

        Returns:
          The leaves after it, with the same dtypes.
        """
