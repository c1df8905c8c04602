"""Rematerialization: the backward pass recomputes a sequence in segments, which trades time for memory."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.backends import Backend, run
from lstmjax.backends.scan import Masks
from lstmjax.cells.cell import Cell
from lstmjax.types import Params, State

Remat = Literal["sqrt"] | int | np.integer | None
"""Steps per segment; ``"sqrt"`` for about the square root of the number of steps; None for no segments."""


def segment(remat: Remat, time: int) -> int | None:
    """Steps per segment of a sequence of ``time`` steps; None if there is only one segment.

    Raises:
      ValueError: ``remat`` is neither ``"sqrt"`` nor a positive integer nor None.
    """
    if remat == "sqrt":
        remat = math.isqrt(max(time - 1, 0)) + 1
    if remat is None:
        return None
    if not isinstance(remat, int | np.integer) or isinstance(remat, bool) or remat < 1:
        raise ValueError(f"remat must be 'sqrt', a positive number of steps or None, got {remat!r}.")
    return int(remat) if remat < time else None


def run_in_segments(
    steps: int,
    backend: Backend,
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    **more: Any,
) -> tuple[State, jax.Array, State | None]:
    """Run a cell as `lstmjax.backends.run` does, in segments of ``steps`` steps.

    The states between segments are stored for the backward pass; within a segment it runs forward again.
    With segments as long as the square root of the number of steps, memory besides inputs and outputs grows
    as that root, at the cost of one more forward pass.

    Source: Chen, Xu, Zhang and Guestrin 2016 (arXiv 1604.06174); for recurrent networks: Gruslys et al. 2016
    (arXiv 1606.03401).
    """

    @jax.checkpoint
    def one(params: Params, state: State, part: Any) -> tuple[State, Any]:
        inputs, masks = part
        after, *shown = run(backend, cell, params, inputs, state, masks, reverse, **more)
        return after, shown

    def step(state: State, part: Any) -> tuple[State, Any]:
        return one(params, state, part)

    time = inputs.shape[0]
    whole = time - time % steps

    def fold(x: jax.Array) -> jax.Array:
        return x[:whole].reshape(whole // steps, steps, *x.shape[1:])

    def unfold(folded: jax.Array, last: jax.Array) -> jax.Array:
        return jnp.concatenate([folded.reshape(whole, *folded.shape[2:]), last])

    head = jax.tree.map(fold, (inputs, masks))
    tail = jax.tree.map(lambda x: x[whole:], (inputs, masks))
    if reverse:
        state, last = one(params, state, tail)
        state, shown = jax.lax.scan(step, state, head, reverse=True)
    else:
        state, shown = jax.lax.scan(step, state, head)
        state, last = one(params, state, tail)
    return state, *jax.tree.map(unfold, shown, last)
