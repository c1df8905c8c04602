r"""The recurrence of an `ElementwiseCell`, and its linearization, as scans.

The recurrence takes the products :math:`x_t W`, adds :math:`h_{t-1} R + b`, and applies :math:`\phi`, the
cell's function of each unit. Its linearization around a run is a linear map from the tangents of these terms,
of the vectors and of the initial state,

.. math:: \dot s_t = \mathrm{J}\phi \, (\dot z_t + \dot h_{t-1} R, \; \dot v, \; \dot s_{t-1})

`XLA` has both over time-major arrays, and JAX differentiates and transposes them. The primitives of
`lstmjax.backends.primitives` compute the same, with faster kernels on some platforms.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends.scan import Masks, select
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.elementwise import ElementwiseCell, Structure

Leaves = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """An implementation of the recurrence; keywords are ``masks``, ``cell``, ``reverse`` and ``states``.

    Arrays of steps are ``[..., time, size]`` if batch-major, else ``[time, ..., size]``. For a cell with S
    leaves of state, results are S leaves of the last state and S of the states after each step, which are 0
    in the padding. All but the hidden state have no steps unless ``states`` is true.
    """

    run: Callable[..., Leaves]
    """Of recurrent kernel, bias, vectors ``[vectors, hidden]``, products ``x W``, and S leaves of state."""
    run_keeping: Callable[..., Leaves]
    """The same, and further the pre-activations and S leaves of the state before each step."""
    linear: Callable[..., Leaves]
    """Of recurrent kernel, vectors, pre-activations, S leaves before each step, and tangents: of the terms of
    the pre-activations, one array or two (`is_summed`), of the vectors for each row, and of S leaves of the
    initial state; to the tangents of the results of ``run``."""
    batch_major: bool
    platform: str | None = None
    """The platform that it is for, as JAX's lowering names it; None for everywhere."""


def is_summed(cell: ElementwiseCell) -> bool:
    """Whether all pre-activations have an input and a product: then their tangents are given as a sum."""
    return structure_of(cell).shared == structure_of(cell).columns


def structure_of(cell: ElementwiseCell) -> Structure:
    """The structure of a cell that has one."""
    assert cell.structure is not None
    return cell.structure


@functools.cache
def leaves_of(cell: ElementwiseCell) -> int:
    """Number of leaves of a cell's state."""
    with jax.enable_x64(True):  # a float64 cell is not warned of here
        return len(jax.tree.leaves(jax.eval_shape(cell.initial_state)))


def run_keeping(
    kernel: jax.Array,
    bias: jax.Array,
    vectors: jax.Array,
    projected: jax.Array,
    *state: jax.Array,
    masks: Masks,
    cell: ElementwiseCell,
    reverse: bool,
    states: bool,
) -> Leaves:
    """The recurrence with its residuals over time-major arrays; see `Recurrence`."""
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    structure = structure_of(cell)

    def step(carry: Leaves, given: tuple[jax.Array, Masks]) -> tuple[Leaves, Any]:
        projected_t, masks_t = given
        before = start(carry, masks_t)
        totals = biased(structure.totals(projected_t, multiply(before[0], kernel)), bias)
        columns = jnp.split(totals, structure.columns, axis=-1)
        after, shown = end(tuple(cell.elementwise(columns, tuple(vectors), before)), carry, masks_t)
        return after, (shown, totals, before)

    after, (shown, totals, before) = jax.lax.scan(step, tuple(state), (projected, masks), reverse=reverse)
    return *after, *_only_asked(shown, states), totals, *before


def run(*operands: jax.Array, cell: ElementwiseCell, **keywords: Any) -> Leaves:
    """The recurrence over time-major arrays; see `Recurrence`."""
    return run_keeping(*operands, cell=cell, **keywords)[: 2 * leaves_of(cell)]


def linear(
    kernel: jax.Array,
    vectors: jax.Array,
    totals: jax.Array,
    *others: jax.Array,
    masks: Masks,
    cell: ElementwiseCell,
    reverse: bool,
    states: bool,
) -> Leaves:
    """The linearization over time-major arrays; see `Recurrence`."""
    count = leaves_of(cell)
    before, dots, state_dot = others[:count], others[count:-count], others[-count:]
    *terms_dot, vectors_dot = dots
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    structure = structure_of(cell)
    for_rows = jnp.broadcast_to(vectors, vectors_dot.shape)

    def units(*arguments: Any) -> Leaves:
        return tuple(cell.elementwise(*arguments))

    # Without the checkpoint, the derivatives of the units, which depend on no tangent, would be computed in a
    # separate loop beforehand and stored, at a higher cost than computing them where they are used.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def step(carry: Leaves, given: Any) -> tuple[Leaves, Leaves]:
        (inputs_dot_t, *products_dot_t), totals_t, before_t, masks_t = given
        before_dot = start(carry, masks_t)
        products_dot = sum(products_dot_t, start=multiply(before_dot[0], kernel))
        total_dot = structure.totals(inputs_dot_t, products_dot)
        primals, tangents = (
            (tuple(jnp.split(total, structure.columns, axis=-1)), tuple(jnp.moveaxis(own, -2, 0)), leaves)
            for total, own, leaves in ((totals_t, for_rows, before_t), (total_dot, vectors_dot, before_dot))
        )
        _, after_dot = jax.jvp(units, primals, tangents)
        return end(after_dot, carry, masks_t)

    given = (tuple(terms_dot), totals, tuple(before), masks)
    after, shown = jax.lax.scan(step, tuple(state_dot), given, reverse=reverse)
    return *after, *_only_asked(shown, states)


def _only_asked(shown: Leaves, states: bool) -> Leaves:
    return shown if states else (shown[0], *(leaf[:0] for leaf in shown[1:]))


def start(carry: Leaves, masks: Masks) -> Leaves:
    """The state before a step, or its tangent: zero after a boundary."""
    if masks.fresh is None:
        return carry
    return select(masks.fresh, jax.tree.map(jnp.zeros_like, carry), carry)


def end(after: Leaves, carry: Leaves, masks: Masks) -> tuple[Leaves, Leaves]:
    """The state after a step, as it is carried on and as it is shown: in padding, unchanged and zero."""
    if masks.valid is None:
        return after, after
    shown = select(masks.valid, after, jax.tree.map(jnp.zeros_like, after))
    return select(masks.valid, after, carry), shown


XLA = Recurrence(run=run, run_keeping=run_keeping, linear=linear, batch_major=False)
