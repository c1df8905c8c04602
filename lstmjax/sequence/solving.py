"""A cell over sequences by Newton's method (`lstmjax.backends.newton`), and how good the solution is."""

import functools
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax.backends.newton import ITERATIONS, Blocks, Certificate, why_not
from lstmjax.backends.newton import solve as solve_whole
from lstmjax.cells.cell import Cell, check_state
from lstmjax.sequence.unroll import checked, prepared
from lstmjax.types import Array, Params, State


class Solution(NamedTuple):
    """The result of `solve`."""

    state: State
    """The state after the last valid step of each row."""
    outputs: jax.Array
    """``[..., time, output_size]``, zero where a step is not valid."""
    states: State
    """The states after each step, ``[..., time, ...]``, zero where a step is not valid."""
    certificate: Certificate
    """How it was found, and how good it is."""


def solve(
    cell: Cell,
    params: Params,
    inputs: Float[Array, "*sequence features"],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*sequence"] | None = None,
    reverse: bool = False,
    *,
    blocks: Blocks = "full",
    iterations: int = ITERATIONS,
    guess: State | None = None,
) -> Solution:
    """Run a cell over a batch of sequences with all steps at once, by Newton's method.

    The result is that of `lstmjax.unroll`, with gradients; ``unroll(..., backend="newton")`` is the same
    without the certificate. An iteration has a logarithmic number of steps; for n numbers of state and T
    steps it takes memory for T n^2 numbers a row, and with full Jacobians T n^3 operations.

    Args:
      cell: any `Cell` whose state is of one floating point dtype.
      params, inputs, state, lengths, resets, reverse: as for `lstmjax.unroll`.
      blocks: what is kept of the Jacobians: ``"full"``, all; ``"units"``, of each hidden unit a block of its
        own numbers, as h and c of an LSTM; ``"diagonal"``. With less of them an iteration takes less work,
        and more iterations are needed.
      iterations: at most so many; then the steps are taken one by one.
      guess: states ``[..., time, ...]`` to begin with, such as ``states`` of the solution for the parameters
        before a step of training.

    Raises:
      ValueError: as `lstmjax.unroll` does; or ``blocks`` is unknown, or ``"units"`` for a state whose leaves
        have different shapes.
      TypeError: as `lstmjax.unroll` does; or the state is not of one floating point dtype.

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.gru(3, 4)
      >>> params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 100, 3))
      >>> solution = lstmjax.solve(cell, params, inputs)
      >>> bool(solution.certificate.converged), int(solution.certificate.iterations) < 10
      (True, True)
    """
    if blocks not in get_args(Blocks):
        raise ValueError(f"solve: blocks must be one of {', '.join(get_args(Blocks))}, got {blocks!r}.")
    axis, lengths, resets, _ = checked(
        "solve", cell, params, inputs, state, None, lengths, resets, None, time_axis=-2
    )
    if reason := why_not(cell):
        raise TypeError(f"solve: {reason}, which that of {cell} is not.")
    if guess is not None:
        check_state(cell, guess, inputs.shape[:-1], name="guess")
    run = functools.partial(
        _solve, cell, reverse=bool(reverse), axis=axis, blocks=blocks, iterations=iterations
    )
    return run(params, inputs, state, lengths, resets, guess)


@functools.partial(jax.jit, static_argnames=("reverse", "axis", "blocks", "iterations"))
def _solve(
    cell: Cell,
    params: Params,
    inputs: Any,
    state: State | None,
    lengths: Any,
    resets: Any,
    guess: State | None,
    *,
    reverse: bool,
    axis: int,
    blocks: Blocks,
    iterations: int,
) -> Solution:
    inputs, state, _, masks = prepared(
        cell, params, inputs, state, None, lengths, resets, None, reverse, axis
    )
    guess = jax.tree.map(lambda leaf: jnp.moveaxis(jnp.asarray(leaf), axis, 0), guess)
    last, outputs, states, certificate = solve_whole(
        cell, params, inputs, state, masks, reverse, blocks=blocks, iterations=iterations, guess=guess
    )
    outputs, states = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axis), (outputs, states))
    return Solution(last, outputs, states, certificate)
