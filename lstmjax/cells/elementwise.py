"""Cells whose step is made of stages: a product with a recurrent kernel, then a function of each hidden unit.

Most have one stage (`ElementwiseCell`); some need a second product with what the first stage gives.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.cells.cell import GatedCell, biased, check_step, matmul
from lstmjax.types import Array, Params, State


class Weights(NamedTuple):
    """The weights of a stage, by what they do."""

    kernel: Array
    """``[features, inputs * hidden]``: to the first columns."""
    recurrent_kernel: Array
    """``[hidden, products * hidden]``: to the first columns, and to those that have no input."""
    bias: Array | None
    """``[columns * hidden]``."""
    vectors: tuple[Array, ...] = ()
    """Each ``[hidden]``: further weights of the units, such as peepholes."""


class Structure(NamedTuple):
    """The columns of a stage, and its vectors."""

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

    @property
    def summed(self) -> bool:
        """Whether all columns have both terms: then their tangents are given as a sum."""
        return self.shared == self.columns

    def totals(self, inputs: jax.Array, products: jax.Array) -> jax.Array:
        """Pre-activations ``[..., columns * hidden]`` from their terms; linear in both.

        Args:
          inputs: ``[..., inputs * hidden]``.
          products: ``[..., products * hidden]``.
        """
        if self.summed:
            return inputs + products
        shared = self.shared * inputs.shape[-1] // self.inputs
        both = inputs[..., :shared] + products[..., :shared]
        return jnp.concatenate([both, inputs[..., shared:], products[..., shared:]], axis=-1)


class Stage(NamedTuple):
    """A product, and then a function of each hidden unit by itself."""

    structure: Structure
    function: Callable[[Sequence[Array], Sequence[Array], Sequence[Array]], Sequence[Any]]
    """From the columns, the vectors and the leaves before the stage, to the leaves after it."""

    def after(
        self, columns: Sequence[Array], vectors: Sequence[Array], leaves: Sequence[Array]
    ) -> tuple[Any, ...]:
        """The leaves after the stage."""
        return tuple(self.function(columns, vectors, leaves))


@dataclasses.dataclass(frozen=True, repr=False)
class StagedCell(GatedCell):
    r"""A cell that is a sequence of stages, for fast backends.

    .. math:: s \leftarrow \phi_k(W_k x_t + R_k s^{(1)} + b_k, v_k, s)

    for each stage k in turn, where :math:`s` begins as the state before the step and ends as the one after
    it; :math:`s^{(1)}` is its first leaf. After the last stage that is the hidden state, which is also the
    output. All leaves are ``[..., hidden]``, and the state begins as zeros. Pre-activations are columns of
    ``hidden`` numbers. A column of the product that must not be added to one of :math:`W x_t`, as in the
    candidate of a GRU, comes after all of these.
    """

    @property
    @abc.abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages; none if the cell's options make its step more than that."""

    @abc.abstractmethod
    def stage_weights(self, params: Params) -> tuple[Weights, ...]:
        """The parameters by what they do in each stage."""

    def step(
        self, params: Params, state: State, inputs: Float[Array, "... features"]
    ) -> tuple[State, Float[jax.Array, "... hidden"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors."""
        check_step(self, params, state, inputs)
        assert self.stages, f"{type(self).__name__} must define a step for its options."
        leaves: Sequence[Any]
        leaves, tree = jax.tree.flatten(state)
        for stage, weights in zip(self.stages, self.stage_weights(params), strict=True):
            columns = self.columns_of(stage.structure, weights, leaves[0], inputs)
            leaves = stage.after(columns, weights.vectors, leaves)
        return jax.tree.unflatten(tree, leaves), jnp.asarray(leaves[0])

    def columns_of(
        self, structure: Structure, weights: Weights, first: Array, inputs: Array
    ) -> list[jax.Array]:
        """The columns of pre-activations of a stage, in the cell's ``wide_dtype``; ``first`` is a leaf."""
        product = functools.partial(matmul, dtype=self.dtype, result_dtype=self.wide_dtype)
        total = structure.totals(product(inputs, weights.kernel), product(first, weights.recurrent_kernel))
        return jnp.split(biased(total, weights.bias), structure.columns, axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class ElementwiseCell(StagedCell):
    r"""A cell of one stage: a product and a function :math:`\phi` of each hidden unit by itself.

    .. math:: s_t = \phi(W x_t + R h_{t-1} + b, v, s_{t-1})
    """

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage, if there is a `structure`."""
        return () if self.structure is None else (Stage(self.structure, self.elementwise),)

    def stage_weights(self, params: Params) -> tuple[Weights, ...]:
        """The one of `weights`."""
        return (self.weights(params),)

    def totals(self, params: Params, state: State, inputs: Array) -> list[jax.Array]:
        """The columns of pre-activations of one step, in the cell's ``wide_dtype``."""
        assert self.structure is not None
        return self.columns_of(self.structure, self.weights(params), jax.tree.leaves(state)[0], inputs)

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
