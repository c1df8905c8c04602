"""The reference backend: a scan over the steps of a cell, with three selections around each."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell
from lstmjax.sharding import vary_alike
from lstmjax.types import Params, State


class Masks(NamedTuple):
    """Masks of the steps: booleans ``[time, ...]``, or None without such a mask."""

    valid: jax.Array | None
    """The step is valid; elsewhere (padding) the state is kept and the output is 0."""
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
