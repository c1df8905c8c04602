"""The sequence contract: run any cell over a batch of sequences.

The guarantees of `unroll`, for every cell and wrapper, are listed in ``docs/design.md`` and checked in
``tests/sequence/test_unroll.py``. Resets and padding are three selections around each step: a reset restores
the initial state before the step; in the padding, as in every step that a mask skips, the state is kept and
the output is zero.
"""

import functools
from typing import Any, Literal, Protocol, TypedDict, overload, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend, requested, run
from lstmjax.backends.scan import Masks
from lstmjax.cells.cell import Cell, check_cell, check_inputs, check_params, check_state
from lstmjax.checks import check_lengths, check_process, describe
from lstmjax.sequence.remat import Remat, run_in_segments, segment
from lstmjax.sharding import over_automatic_axes, vary_alike
from lstmjax.types import Array, Params, State


class Options(TypedDict, total=False):
    """The keyword arguments of `unroll` that layers and modules take too."""

    mask: Bool[Array, "*sequence"] | None
    initial_state: State | None
    time_axis: int
    backend: Backend
    remat: Remat


@runtime_checkable
class WholeSequence(Protocol):
    """What is run by itself over whole sequences: a `lstmjax.Layer`."""

    def apply(self, *arguments: Any, **options: Any) -> tuple[State, jax.Array]:
        """Run over sequences, with the arguments of `unroll`."""


@overload
def unroll(
    *arguments: Any, return_states: Literal[False] = ..., **options: Any
) -> tuple[State, jax.Array]: ...
@overload
def unroll(
    *arguments: Any, return_states: Literal[True], **options: Any
) -> tuple[State, jax.Array, State]: ...
def unroll(  # type: ignore[misc]
    cell: "Cell | WholeSequence",
    params: Params,
    inputs: Float[Array, "*sequence features"],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*sequence"] | None = None,
    reverse: bool = False,
    *,
    mask: Bool[Array, "*sequence"] | None = None,
    initial_state: State | None = None,
    return_states: bool = False,
    time_axis: int = -2,
    backend: Backend = "auto",
    remat: Remat = None,
) -> Any:
    """Run a cell, or a layer, over a batch of sequences.

    Args:
      cell: any `Cell`; or a `Layer`, whose ``apply`` is called.
      params: as ``cell.init`` returns them.
      inputs: ``[..., time, features]`` of the cell's ``input_dtype``; the batch may have any rank, none
        included, and time may be 0.
      state: the state before the first step, ``[..., ...]``; by default the initial state.
      lengths: integers ``[...]`` in ``0..time``: the number of valid steps of each row; by default all.
        Inputs beyond a row's length, NaN included, have no influence on any value or gradient.
      resets: booleans ``[..., time]``: true at the first step of a new sequence, where the state is reset
        to the initial state (for several sequences packed in one row). With ``reverse`` the boundary
        is the same: no state passes from a step with a reset to the step before it.
      reverse: run from the last valid step of each row to the first. Outputs stay at the position of
        their inputs.
      mask: booleans ``[..., time]``: false where a step is skipped, as if it were not in the sequence:
        padding on the left or in between, besides that after ``lengths``. A reset at a skipped step holds at
      the next. initial_state: the state of a new sequence, without batch axes, such as a learned one; by
        default ``cell.initial_state``.
      return_states: whether the states after each step are returned too; of cells, not of layers.
      time_axis: the axis of time in ``inputs``, and so in ``resets``, ``mask``, outputs and states: 0 for
        arrays ``[time, ..., features]``.
      backend: which backend runs the cell, see `lstmjax.backends`; the result is the same.
      remat: for gradients of long sequences in little memory: the backward pass recomputes the inner states
        of segments of this many steps, or, with ``"sqrt"``, of the square root of the number of steps.
        Memory besides inputs and outputs then grows as that root, and the gradient takes one more forward
        pass.

    Returns:
      The state after the last valid step of each row (after the first one if ``reverse``; the state before
      the first step for a row without valid steps), and the outputs ``[..., time, output_size]``, zero where
      a step is not valid. With ``return_states`` also the states after each step, a tree of arrays
      ``[..., time, ...]``, zero where a step is not valid.

    Raises:
      ValueError: a shape does not fit, ``backend`` or ``remat`` is unknown, or ``lengths`` (where its
        values are known, that is outside of ``jit``) is not in ``0..time``. A length known only at run time
        is taken as 0 if negative and as ``time`` if larger.
      TypeError: a dtype or the structure of a tree does not fit.
      RuntimeError: the process was forked from one in which a cell had run.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> params = cell.init(jax.random.key(0))
      >>> lengths = jnp.array([5, 0])
      >>> state, outputs = lstmjax.unroll(cell, params, jnp.ones((2, 5, 3)), lengths=lengths)
      >>> outputs.shape, float(jnp.abs(state.cell[1]).max())
      ((2, 5, 4), 0.0)
      >>> state, outputs, states = lstmjax.unroll(
      ...     cell, params, jnp.ones((5, 2, 3)), time_axis=0, return_states=True
      ... )
      >>> states.cell.shape
      (5, 2, 4)
    """
    if not isinstance(cell, Cell) and isinstance(cell, WholeSequence):
        if return_states:
            raise ValueError("unroll: return_states is for cells; of a layer, run its cells one by one.")
        options = Options(
            mask=mask, initial_state=initial_state, time_axis=time_axis, backend=backend, remat=remat
        )
        return cell.apply(params, inputs, state, lengths, resets, reverse, **options)
    axis, lengths, resets, mask = checked(
        "unroll", cell, params, inputs, state, initial_state, lengths, resets, mask, time_axis
    )
    run_over = functools.partial(
        _unroll,
        cell,
        reverse=bool(reverse),
        states=bool(return_states),
        axis=axis,
        backend=requested(backend),
        steps=segment(remat, inputs.shape[axis]),
    )
    arguments = (params, inputs, state, initial_state, lengths, resets, mask)
    results = over_automatic_axes(run_over, *arguments, rows=inputs, time_axis=axis)
    return results if return_states else results[:2]


def checked(
    name: str,
    cell: Cell,
    params: Params,
    inputs: Array,
    state: State | None,
    initial_state: State | None,
    lengths: Any,
    resets: Any,
    mask: Any,
    time_axis: Any,
) -> tuple[int, Any, Any, Any]:
    """The axis of time, and lengths, resets and mask as arrays; raises as `unroll` says, which has a name."""
    check_process()
    check_cell(name, cell)
    check_inputs(cell, inputs, axes="[..., time, features]")
    check_params(cell, params)
    axis, batch_shape = axes_of(inputs, time_axis)
    sequence, time = inputs.shape[:-1], inputs.shape[axis]
    if state is not None:
        check_state(cell, state, batch_shape)
    if initial_state is not None:
        check_state(cell, initial_state, (), name="initial_state")
    if lengths is not None:
        lengths = check_lengths(lengths, batch_shape, time)
    if resets is not None:
        resets = check_flags("resets", resets, sequence)
    if mask is not None:
        mask = check_flags("mask", mask, sequence)
    return axis, lengths, resets, mask


@functools.partial(jax.jit, static_argnames=("reverse", "states", "axis", "backend", "steps"))
def _unroll(
    cell: Cell,
    params: Params,
    inputs: Any,
    state: State | None,
    initial_state: State | None,
    lengths: Any,
    resets: Any,
    mask: Any,
    *,
    reverse: bool,
    states: bool,
    axis: int,
    backend: Backend,
    steps: int | None,
) -> tuple[State, jax.Array, State | None]:
    """`unroll` after the checks; jitted, so that a call outside of jit compiles once for each shape."""
    inputs, state, initial, masks = prepared(
        cell, params, inputs, state, initial_state, lengths, resets, mask, reverse, axis
    )
    way = run if steps is None else functools.partial(run_in_segments, steps)
    after, *shown = way(
        backend,
        cell,
        params,
        inputs,
        state,
        masks,
        reverse,
        prefix=mask is None,
        states=states,
        initial=None if initial_state is None or resets is None else initial,
    )
    return after, *jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axis), shown)


def prepared(
    cell: Cell,
    params: Params,
    inputs: Any,
    state: State | None,
    initial_state: State | None,
    lengths: Any,
    resets: Any,
    mask: Any,
    reverse: bool,
    axis: int,
) -> tuple[jax.Array, State, State, Masks]:
    """Time-major inputs, 0 where not valid; the state before them and that of a new sequence; the masks."""
    inputs, resets, mask = jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), (inputs, resets, mask))
    time, *batch_shape = inputs.shape[:-1]
    initial = cell.initial_state(tuple(batch_shape))
    if initial_state is not None:
        initial = jax.tree.map(lambda leaf, like: jnp.broadcast_to(leaf, like.shape), initial_state, initial)
    state = initial if state is None else state
    state = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)  # no weak types
    state = vary_alike(state, like=(params, inputs, lengths, resets, mask, initial))
    valid = mask
    if lengths is not None:
        step = jax.lax.broadcasted_iota(int, (time, *batch_shape), 0)
        valid = step < lengths[None].astype(int)
        valid = valid if mask is None else valid & mask
    if valid is not None:
        inputs = jnp.where(valid[..., None], inputs, jnp.zeros_like(inputs))
    if resets is not None:
        resets = boundaries(resets, valid, reverse, prefix=mask is None)
    return inputs, state, initial, Masks(valid, resets)


def boundaries(resets: jax.Array, valid: jax.Array | None, reverse: bool, prefix: bool = True) -> jax.Array:
    """Where the state must be reset before a step, in the direction of the run; arrays are ``[time, ...]``.

    A reset at t separates the valid steps from t on from those before. Running forward the first step after
    the boundary is the first of the former, running in reverse it is the last of the latter; where no valid
    step follows, a reset separates nothing. ``prefix`` says that a row's valid steps are its first ones.
    """
    start = jnp.zeros_like(resets[:1])
    if valid is None or prefix:
        fresh = resets if valid is None else resets & valid
        return jnp.concatenate([fresh[1:], start]) if reverse else fresh
    number = jax.lax.broadcasted_iota(jnp.int32, resets.shape, 0)
    last = jax.lax.cummax(jnp.where(valid, number, -1))
    before = jnp.concatenate([jnp.full_like(last[:1], -1), last[:-1]])
    fresh = valid & (jax.lax.cummax(jnp.where(resets, number, -1)) > before)
    if not reverse:
        return fresh
    following = jax.lax.cummin(jnp.where(valid, number, len(resets)), reverse=True)
    following = jnp.concatenate([following[1:], jnp.full_like(following[:1], len(resets))])
    return valid & jnp.take_along_axis(jnp.concatenate([fresh, start]), following, axis=0)


def check_flags(name: str, flags: Any, shape: tuple[int, ...]) -> Array:
    """Resets or a mask as an array; raise unless they are booleans of the shape of the sequences."""
    flags = flags if isinstance(flags, jax.Array) else np.asarray(flags)
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name} must be booleans, got {describe(flags)}: use {name} != 0.")
    if flags.shape != shape:
        raise ValueError(f"{name} must be [..., time] with shape {shape}, got {flags.shape}.")
    return flags


def axes_of(inputs: Array, time_axis: Any) -> tuple[int, tuple[int, ...]]:
    """The axis of time of inputs, counted from the first axis, and their batch shape; ValueError if none."""
    axis, rank = time_axis, inputs.ndim
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -rank <= axis < rank:
        raise ValueError(
            f"time_axis must be an axis of the inputs, from {-rank} to {rank - 2}, got {axis!r}."
        )
    if axis % rank == rank - 1:
        raise ValueError(f"time_axis {axis} is the last axis of the inputs, which is that of the features.")
    axis = int(axis % rank)
    return axis, (*inputs.shape[:axis], *inputs.shape[axis + 1 : -1])
