r"""The recurrence of a `StagedCell`, and its linearization, as scans.

The recurrence takes the products :math:`x_t W_k` of each stage, adds :math:`s R_k + b_k`, where s is the
first leaf of what the stage begins with, and applies :math:`\phi_k`, the stage's function of each unit. Its
linearization around a run is a linear map from the tangents of these terms, of the vectors and of the initial
state,

.. math:: \dot s \leftarrow \mathrm{J}\phi_k \, (\dot z_{kt} + \dot s^{(1)} R_k, \; \dot v_k, \; \dot s)

`XLA` has both over time-major arrays, and JAX differentiates and transposes them. The primitives of
`lstmjax.backends.primitives` compute the same, with faster kernels on some platforms.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.backends.scan import Masks, select
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.elementwise import StagedCell

Leaves = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """An implementation of the recurrence; keywords are ``masks``, ``cell``, ``reverse`` and ``states``.

    Arrays of steps are ``[..., time, size]`` if batch-major, else ``[time, ..., size]``. For a cell with S
    leaves of state, results are S leaves of the last state and S of the states after each step, which are 0
    in the padding. All but the hidden state have no steps unless ``states`` is true.
    """

    run: Callable[..., Leaves]
    """Of recurrent kernel, bias, vectors ``[vectors, hidden]`` of each stage; products ``x W`` of each stage;
    and S leaves of state."""
    run_keeping: Callable[..., Leaves]
    """The same, and further, for each stage, the pre-activations and the leaves before it in each step."""
    linear: Callable[..., Leaves]
    """Of recurrent kernel and vectors of each stage; what ``run_keeping`` keeps; and tangents: for each stage
    of the terms of the pre-activations, one array or two (`Structure.summed`); for each stage of the vectors
    for each row; of S leaves of the initial state; to the tangents of the results of ``run``."""
    batch_major: bool
    platform: str | None = None
    """The platform that it is for, as JAX's lowering names it; None for everywhere."""


@functools.cache
def leaves_before(cell: StagedCell) -> tuple[tuple[Any, ...], ...]:
    """The dtypes of the leaves before each stage; those before the first are the leaves of the state."""
    with jax.enable_x64(True):  # a float64 cell is not warned of here
        leaves: Sequence[Any] = jax.tree.leaves(jax.eval_shape(cell.initial_state))
        found = []
        for stage in cell.stages:
            found.append(tuple(leaf.dtype for leaf in leaves))
            number = jax.ShapeDtypeStruct((), cell.wide_dtype)
            columns, _, _, vectors = ((number,) * count for count in stage.structure)
            units = tuple(jax.ShapeDtypeStruct((), leaf.dtype) for leaf in leaves)
            leaves = jax.eval_shape(stage.after, columns, vectors, units)
    return tuple(found)


class Counts(NamedTuple):
    """Numbers of arrays of a cell."""

    stages: int
    state: int
    """Leaves of the state."""
    kept: tuple[int, ...]
    """What is kept of each stage: pre-activations and leaves before it."""
    terms: tuple[int, ...]
    """Of pre-activations, whose tangents are given, of each stage."""


@functools.cache
def counts(cell: StagedCell) -> Counts:
    """The numbers of arrays of a cell."""
    before = leaves_before(cell)
    kept = tuple(1 + len(leaves) for leaves in before)
    terms = tuple(2 - stage.structure.summed for stage in cell.stages)
    return Counts(len(before), len(before[0]), kept, terms)


def parts(arrays: Sequence[Any], *sizes: int) -> list[tuple[Any, ...]]:
    """Consecutive parts of given sizes, and the rest."""
    ends = list(itertools.accumulate(sizes))
    return [tuple(arrays[a:b]) for a, b in zip([0, *ends], [*ends, None], strict=True)]


def run_keeping(*operands: jax.Array, masks: Masks, cell: StagedCell, reverse: bool, states: bool) -> Leaves:
    """The recurrence with its residuals over time-major arrays; see `Recurrence`."""
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    count = len(cell.stages)
    *weights, projected, state = parts(operands, *[3] * count, count)

    def step(carry: Leaves, given: tuple[Leaves, Masks]) -> tuple[Leaves, Any]:
        projected_t, masks_t = given
        leaves, kept = start(carry, masks_t), []
        for stage, (kernel, bias, vectors), inputs in zip(cell.stages, weights, projected_t, strict=True):
            structure = stage.structure
            totals = biased(structure.totals(inputs, multiply(leaves[0], kernel)), bias)
            kept += [totals, *leaves]
            columns = jnp.split(totals, structure.columns, axis=-1)
            leaves = stage.after(columns, tuple(vectors), leaves)
        after, shown = end(leaves, carry, masks_t)
        return after, (shown, tuple(kept))

    after, (shown, kept) = jax.lax.scan(step, state, (projected, masks), reverse=reverse)
    return *after, *_only_asked(shown, states), *kept


def run(*operands: jax.Array, cell: StagedCell, **keywords: Any) -> Leaves:
    """The recurrence over time-major arrays; see `Recurrence`."""
    return run_keeping(*operands, cell=cell, **keywords)[: 2 * counts(cell).state]


def linear(*operands: jax.Array, masks: Masks, cell: StagedCell, reverse: bool, states: bool) -> Leaves:
    """The linearization over time-major arrays; see `Recurrence`."""
    count, _, kept_sizes, terms_sizes = counts(cell)
    weights, kept, terms_dot, vectors_dot, state_dot = parts(
        operands, 2 * count, sum(kept_sizes), sum(terms_sizes), count
    )
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    stages = [
        (stage, kernel, jnp.broadcast_to(vectors, dot.shape), dot)
        for stage, kernel, vectors, dot in zip(
            cell.stages, weights[::2], weights[1::2], vectors_dot, strict=True
        )
    ]

    # Without the checkpoint, the derivatives of the units, which depend on no tangent, would be computed in a
    # separate loop beforehand and stored, at a higher cost than computing them where they are used.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def step(carry: Leaves, given: Any) -> tuple[Leaves, Leaves]:
        terms_dot_t, kept_t, masks_t = given
        leaves_dot = start(carry, masks_t)
        each = zip(
            stages, parts(terms_dot_t, *terms_sizes[:-1]), parts(kept_t, *kept_sizes[:-1]), strict=True
        )
        for (stage, kernel, vectors, dot), (inputs_dot, *products_dot), (totals, *before) in each:
            structure = stage.structure
            total_dot = structure.totals(inputs_dot, sum(products_dot, start=multiply(leaves_dot[0], kernel)))
            primals, tangents = (
                (tuple(jnp.split(total, structure.columns, axis=-1)), tuple(jnp.moveaxis(own, -2, 0)), leaves)
                for total, own, leaves in ((totals, vectors, tuple(before)), (total_dot, dot, leaves_dot))
            )
            _, leaves_dot = jax.jvp(stage.after, primals, tangents)
        return end(leaves_dot, carry, masks_t)

    after, shown = jax.lax.scan(step, state_dot, (terms_dot, kept, masks), reverse=reverse)
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
