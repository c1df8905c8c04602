"""Truncated back-propagation through time: the values of a full run, with a truncated gradient."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend
from lstmjax.cells.cell import Cell, check_cell, check_inputs
from lstmjax.checks import check_lengths, check_sizes
from lstmjax.sequence.unroll import check_flags, unroll
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Params, State


def truncated_bptt(
    cell: Cell,
    params: Params,
    inputs: Float[Array, "*batch time features"],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    *,
    k1: int,
    k2: int,
    backend: Backend = "auto",
) -> tuple[State, Float[jax.Array, "*batch time output"]]:
    r"""Run a cell as `lstmjax.unroll` does, with the gradient of truncated back-propagation through time.

    Time is cut into chunks of ``k1`` steps. A loss of the outputs of a chunk that ends before step
    :math:`e = (j + 1) \, k_1` is back-propagated over the ``k2`` steps from :math:`e - k_2` to :math:`e`; the
    state before these is treated as a constant. The gradient is the sum over all chunks: it is what
    `jax.grad` of any loss of the outputs gives. With ``k1=1`` every error is propagated back ``k2`` steps;
    with ``k1=k2`` the sequence is cut into chunks with the state carried over; with ``k2`` at least the
    sequence length nothing is truncated. Every step is computed about ``k2 / k1`` times, chunk by chunk.

    To update parameters between chunks, call `lstmjax.unroll` for each chunk with the state carried over:
    no gradient flows between calls.

    Args:
      cell: any `Cell`.
      params: as ``cell.init`` or ``cell.sample`` returns them.
      inputs: ``[..., time, features]``.
      state: the state before the first step; it receives gradient from the chunks that reach back to it.
      lengths: as for `unroll`.
      resets: as for `unroll`.
      k1: steps between successive back-propagations.
      k2: length of each back-propagation in steps, at least ``k1``.
      backend: as for `unroll`.

    Returns:
      The results of `unroll`. The gradient of the final state goes back as far as that of the last chunk.

    Raises:
      ValueError: ``k1`` or ``k2`` is not a positive integer, or ``k2`` is less than ``k1``; else as `unroll`.
      TypeError: as `unroll`.

    Source: Williams and Peng 1990 (Neural Computation 2(4)), there BPTT(h; h') with h = k2 and h' = k1.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> params = cell.init(jax.random.key(0))
      >>> def last(inputs):
      ...     return truncated_bptt(cell, params, inputs, k1=2, k2=4)[1][-1].sum()
      >>> jax.grad(last)(jnp.ones((8, 3))).any(axis=-1).astype(int).tolist()
      [0, 0, 0, 0, 1, 1, 1, 1]
    """
    check_sizes("truncated_bptt", k1=k1, k2=k2)
    if k2 < k1:
        raise ValueError(
            f"truncated_bptt: k2 must be at least k1, or no error reaches some steps; got k1={k1}, k2={k2}."
        )
    check_cell("truncated_bptt", cell)
    check_inputs(cell, inputs, axes="[..., time, features]")
    *batch_shape, time, _ = inputs.shape
    if lengths is not None:
        lengths = check_lengths(lengths, tuple(batch_shape), time)
    if resets is not None:
        resets = check_flags("resets", resets, (*batch_shape, time))
    reach = k2 // k1 * k1  # chunks that end here or earlier are not truncated
    run = functools.partial(unroll, cell, params, backend=backend)
    if time <= reach:
        return run(inputs, state, lengths, resets)

    def part(start: int, stop: int) -> tuple[Any, Any, Any]:
        """Inputs, lengths and resets of the steps from ``start`` to ``stop``."""
        within = (
            None if lengths is None else jnp.clip(jnp.asarray(lengths).astype(int) - start, 0, stop - start)
        )
        return inputs[..., start:stop, :], within, None if resets is None else resets[..., start:stop]

    head_inputs, head_lengths, head_resets = part(0, reach)
    _, head = run(head_inputs, state, head_lengths, head_resets)
    start = reach + k1 - k2
    start_inputs, start_lengths, start_resets = part(0, start)
    before, _ = run(start_inputs, state, start_lengths, start_resets)
    before = vary_alike(jax.tree.map(jax.lax.stop_gradient, before), like=(params, inputs, lengths, resets))
    after, tail = _windows(run, before, *part(start, time), k1=k1, k2=k2)
    return after, jnp.concatenate([head, tail[..., : time - reach, :]], axis=-2)


def _windows(
    run: Callable[..., Any],
    state: State,
    inputs: Array,
    lengths: Array | None,
    resets: Array | None,
    *,
    k1: int,
    k2: int,
) -> tuple[State, jax.Array]:
    """Run windows of ``k2`` steps, each ``k1`` after the previous; return the last ``k1`` outputs of each.

    Args:
      run: maps inputs, state, lengths and resets to state and outputs.
      state: before the first window, a constant, like the state before every window.
      inputs: ``[..., time, features]``; the last window may extend beyond the end.
      lengths: or None.
      resets: or None.
      k1: steps between the starts of successive windows.
      k2: steps per window.
    """
    *batch_shape, time, _ = inputs.shape
    count = -(-(time - (k2 - k1)) // k1)
    padding = k2 + (count - 1) * k1 - time
    if lengths is None:
        lengths = jnp.full(batch_shape, time)

    def windows(x: Array, axis: int) -> jax.Array:
        """The windows along the time axis ``-axis``, stacked along a new first axis."""
        x = jnp.pad(x, [(0, padding if i == x.ndim - axis else 0) for i in range(x.ndim)])
        at = np.arange(count)[:, None] * k1 + np.arange(k2)
        return jnp.moveaxis(jnp.take(x, at, axis=x.ndim - axis), x.ndim - axis, 0)

    parts = (
        windows(inputs, 2),
        jnp.stack([lengths - number * k1 for number in range(count)]),
        None if resets is None else windows(resets, 1),
    )

    def window(carry: tuple[State, State], part: Any) -> tuple[tuple[State, State], jax.Array]:
        before, _ = carry
        inputs, lengths, resets = part
        here, later = (None, None) if resets is None else (resets[..., :k1], resets[..., k1:])
        middle, early = run(inputs[..., :k1, :], before, jnp.clip(lengths, 0, k1), here)
        after, late = run(inputs[..., k1:, :], middle, jnp.clip(lengths - k1, 0, k2 - k1), later)
        outputs = jnp.concatenate([early, late], axis=-2)[..., k2 - k1 :, :]
        return (jax.tree.map(jax.lax.stop_gradient, middle), after), outputs

    (_, after), outputs = jax.lax.scan(window, (state, state), parts)
    outputs = jnp.moveaxis(outputs, 0, -3)
    return after, outputs.reshape(*batch_shape, count * k1, outputs.shape[-1])
