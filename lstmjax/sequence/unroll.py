"""The sequence contract: run any cell over a batch of sequences.

The guarantees of `unroll`, for every cell and wrapper, are listed in ``docs/design.md`` and checked in
``tests/sequence/test_unroll.py``. Resets and padding are three selections around each step: a reset restores
the initial state before the step; in the padding the state is kept and the output is zero.
"""

import functools
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend, run
from lstmjax.backends.scan import Masks
from lstmjax.cells.cell import Cell, check_cell, check_inputs, check_params, check_state
from lstmjax.checks import check_lengths, describe
from lstmjax.sequence.remat import Remat, run_in_segments, segment
from lstmjax.sharding import over_automatic_axes, vary_alike
from lstmjax.types import Array, Params, State


@runtime_checkable
class WholeSequence(Protocol):
    """What is run by itself over whole sequences: a `lstmjax.Layer`."""

    def apply(self, *arguments: Any, **options: Any) -> tuple[State, jax.Array]:
        """Run over sequences, with the arguments of `unroll`."""


def unroll(
    cell: "Cell | WholeSequence",
    params: Params,
    inputs: Float[Array, "*batch time features"],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    reverse: bool = False,
    *,
    backend: Backend = "auto",
    remat: Remat = None,
) -> tuple[State, Float[jax.Array, "*batch time output"]]:
    """Run a cell, or a layer, over a batch of sequences.

    Args:
      cell: any `Cell`; or a `Layer`, whose ``apply`` is called.
      params: as ``cell.init`` returns them.
      inputs: ``[..., time, features]`` of the cell's ``input_dtype``; the batch may have any rank, none
        included, and time may be 0.
      state: the state before the first step, ``[..., ...]``; by default ``cell.initial_state``.
      lengths: integers ``[...]`` in ``0..time``: the number of valid steps of each row; by default all.
        Inputs beyond a row's length, NaN included, have no influence on any value or gradient.
      resets: booleans ``[..., time]``: true at the first step of a new sequence, where the state is reset
        to ``cell.initial_state`` (for several sequences packed in one row). With ``reverse`` the boundary
        is the same: no state passes from a step with a reset to the step before it.
      reverse: run from the last valid step of each row to the first. Outputs stay at the position of
        their inputs.
      backend: which backend runs the cell, see `lstmjax.backends`; the result is the same.
      remat: for gradients of long sequences in little memory: the backward pass recomputes the inner states
        of segments of this many steps, or, with ``"sqrt"``, of the square root of the number of steps.
        Memory besides inputs and outputs then grows as that root, and the gradient takes one more forward
        pass.

    Returns:
      The state after the last valid step of each row (after the first one if ``reverse``; the initial
      state for a row of length 0), and the outputs ``[..., time, output_size]``, zero beyond the lengths.

    Raises:
      ValueError: a shape does not fit, ``backend`` or ``remat`` is unknown, or ``lengths`` (where its
        values are known, that is outside of ``jit``) is not in ``0..time``. A length known only at run time
        is taken as 0 if negative and as ``time`` if larger.
      TypeError: a dtype or the structure of a tree does not fit.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> params = cell.init(jax.random.key(0))
      >>> lengths = jnp.array([5, 0])
      >>> state, outputs = lstmjax.unroll(cell, params, jnp.ones((2, 5, 3)), lengths=lengths)
      >>> outputs.shape, float(jnp.abs(state.cell[1]).max())
      ((2, 5, 4), 0.0)
    """
    if isinstance(cell, WholeSequence):
        return cell.apply(params, inputs, state, lengths, resets, reverse, backend=backend, remat=remat)
    check_cell("unroll", cell)
    check_inputs(cell, inputs, axes="[..., time, features]")
    check_params(cell, params)
    *batch_shape, time, _ = inputs.shape
    if state is not None:
        check_state(cell, state, tuple(batch_shape))
    if lengths is not None:
        lengths = check_lengths(lengths, tuple(batch_shape), time)
    if resets is not None:
        resets = check_resets(resets, (*batch_shape, time))
    run_over = functools.partial(
        _unroll, cell, reverse=bool(reverse), backend=backend, steps=segment(remat, time)
    )
    arguments = (params, inputs, state, lengths, resets)
    return over_automatic_axes(run_over, *arguments, rows=inputs, rank=len(batch_shape))


@functools.partial(jax.jit, static_argnames=("reverse", "backend", "steps"))
def _unroll(
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State | None,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    *,
    reverse: bool,
    backend: Backend,
    steps: int | None,
) -> tuple[State, jax.Array]:
    """`unroll` after the checks; jitted, so that a call outside of jit compiles once for each shape."""
    *batch_shape, time, _ = inputs.shape
    if state is None:
        state = cell.initial_state(tuple(batch_shape))
    state = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)  # no weak types
    state = vary_alike(state, like=(params, inputs, lengths, resets))
    valid = None if lengths is None else jnp.arange(time) < lengths[..., None].astype(int)
    if valid is not None:
        inputs = jnp.where(valid[..., None], inputs, jnp.zeros_like(inputs))
    if resets is not None:
        resets = boundaries(resets, valid, reverse)
    masks = jax.tree.map(lambda mask: jnp.moveaxis(mask, -1, 0), Masks(valid, resets))
    way = run if steps is None else functools.partial(run_in_segments, steps)
    state, outputs, _ = way(backend, cell, params, jnp.moveaxis(inputs, -2, 0), state, masks, reverse)
    return state, jnp.moveaxis(outputs, 0, -2)


def boundaries(resets: jax.Array, valid: jax.Array | None, reverse: bool) -> jax.Array:
    """Where the state must be reset before a step, in the direction of the run.

    A reset at t separates step t from step t - 1. Running forward the first step after the boundary is t,
    running in reverse it is t - 1; a reset in the padding separates nothing.
    """
    if valid is not None:
        resets = resets & valid
    if not reverse:
        return resets
    return jnp.concatenate([resets[..., 1:], jnp.zeros_like(resets[..., :1])], axis=-1)


def check_resets(resets: Any, shape: tuple[int, ...]) -> Array:
    """Resets as an array; raise unless they are booleans ``[..., time]``."""
    resets = resets if isinstance(resets, jax.Array) else np.asarray(resets)
    if resets.dtype != jnp.bool_:
        raise TypeError(f"resets must be booleans, got {describe(resets)}: use resets != 0.")
    if resets.shape != shape:
        raise ValueError(f"resets must be [..., time] with shape {shape}, got {resets.shape}.")
    return resets
