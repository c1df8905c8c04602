"""The reference backend: a scan over the steps of a cell, with three selections around each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell
from lstmjax.checks import check_tree, describe
from lstmjax.sharding import vary_alike
from lstmjax.types import Params, State


class Masks(NamedTuple):
    """Masks of the steps: booleans ``[time, ...]``, or None without such a mask."""

    valid: jax.Array | None
    """The step is valid; elsewhere (padding) the state is kept and the output is 0."""
    fresh: jax.Array | None
    """The step starts from the initial state."""


def scan(
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    states: bool = False,
    initial: State | None = None,
    loop: Callable[..., Any] = jax.lax.scan,
) -> tuple[State, jax.Array, State | None]:
    """Scan ``cell.step`` over time-major inputs ``[time, ..., features]``, finite also where not valid.

    Returns the last state, the outputs ``[time, ..., output_size]``, and, with ``states``, the states after
    each step ``[time, ...]``, 0 where not valid. ``initial`` replaces the cell's own initial state, ``loop``
    what scans.
    """
    if initial is None:
        initial = cell.initial_state(inputs.shape[1:-1])
    initial = vary_alike(initial, like=state)

    def body(carry: State, step: tuple[jax.Array, Masks]) -> tuple[State, Any]:
        inputs_t, masks_t = step
        before = carry if masks_t.fresh is None else select(masks_t.fresh, initial, carry)
        after, outputs_t = _checked(cell, cell.step(params, before, inputs_t), carry, inputs_t.shape[:-1])
        shown = outputs_t, after if states else None
        if masks_t.valid is not None:
            shown = select(masks_t.valid, shown, jax.tree.map(jnp.zeros_like, shown))
            after = select(masks_t.valid, after, carry)
        return after, shown

    after, (outputs, each) = loop(body, state, (inputs, masks), reverse=reverse)
    return after, outputs, each


def _checked(cell: Cell, result: Any, before: State, batch_shape: tuple[int, ...]) -> tuple[State, jax.Array]:
    """What a step returned; TypeError or ValueError unless it is a state like that before, and outputs."""
    name = f"{type(cell).__name__}.step"
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name} must return the next state and the outputs, got {describe(result)}.")
    after, outputs = result
    check_tree(f"the state that {name} returns: state", after, before, "initial_state")
    if jnp.shape(outputs) != (*batch_shape, cell.output_size):
        raise ValueError(
            f"{name} must return outputs [..., output_size], {(*batch_shape, cell.output_size)}, got "
            f"{describe(outputs)}."
        )
    return after, outputs


def decayed(decay: jax.Array, before: jax.Array) -> jax.Array:
    """Their product, but 0 where ``decay`` is 0, whatever came before: no NaN or inf passes a boundary."""
    return decay * jnp.where(decay == 0, jnp.zeros_like(before), before)


def select(mask: jax.Array, on_true: Any, on_false: Any) -> Any:
    """`jnp.where` over two pytrees whose leaves begin with the axes of ``mask``."""

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(one, on_true, on_false)
