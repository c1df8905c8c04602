"""The plain way to run a cell over time: a scan over its steps, with three selections around each."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cell import Cell
from lstmjax.types import Params, State


class Masks(NamedTuple):
    """What is special about a step: booleans ``[time, ...]``, or None where nothing is."""

    valid: jax.Array | None
    """The row has a step here; elsewhere the state stays as it is and the output is 0."""
    fresh: jax.Array | None
    """The step starts from the initial state."""


def scan(
    cell: Cell, params: Params, inputs: jax.Array, state: State, masks: Masks, reverse: bool
) -> tuple[State, jax.Array]:
    """Scan ``cell.step`` over time-major inputs ``[time, ..., features]``, finite also where not valid.

    Returns the last state and the outputs ``[time, ..., output_size]``.
    """
    initial = vary_alike(cell.initial_state(inputs.shape[1:-1]), like=state)

    def body(carry: State, step: tuple[jax.Array, Masks]) -> tuple[State, jax.Array]:
        inputs_t, masks_t = step
        before = carry if masks_t.fresh is None else select(masks_t.fresh, initial, carry)
        after, outputs_t = cell.step(params, before, inputs_t)
        if masks_t.valid is not None:
            after = select(masks_t.valid, after, carry)
            outputs_t = select(masks_t.valid, outputs_t, jnp.zeros_like(outputs_t))
        return after, outputs_t

    return jax.lax.scan(body, state, (inputs, masks), reverse=reverse)


def select(mask: jax.Array, on_true: Any, on_false: Any) -> Any:
    """`jnp.where` over two pytrees whose leaves begin with the axes of ``mask``."""

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(one, on_true, on_false)


def vary_alike(tree: Any, like: Any) -> Any:
    """Mark ``tree`` as varying over the mesh axes (of `jax.shard_map`) that anything in either varies over.

    A scan wants the types of the state before and after a step to be equal, and the state after it varies
    over all that the parameters and inputs do. Outside of ``shard_map`` this does nothing.
    """
    axes = frozenset[str]().union(*(varying_axes(leaf) for leaf in jax.tree.leaves((tree, like))))

    def one(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree)


def varying_axes(leaf: Any) -> frozenset[str]:
    """The mesh axes (of `jax.shard_map`) that an array varies over."""
    axis_type = getattr(jax.typeof(leaf), "manual_axis_type", None)
    return frozenset() if axis_type is None else axis_type.varying
