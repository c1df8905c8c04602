"""The gradient of a loss with respect to the states of a cell, step by step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax.cells.cell import Cell, check_inputs
from lstmjax.diagnostics.traces import _no_nudges, _run, _state_of, _unpack
from lstmjax.types import Array, Params, State
from lstmjax.wrappers.stack import Stack
from lstmjax.wrappers.wrapper import Wrapper


class Flow(NamedTuple):
    """Norms of the gradient of a loss with respect to the states after each step, ``[..., time]``."""

    hidden: jax.Array
    cell: jax.Array | None
    """None for a cell without one."""


def gradient_flow(
    cell: Cell,
    params: Params,
    inputs: Float[Array, "*batch time features"],
    loss: Callable[[jax.Array], jax.Array],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    reverse: bool = False,
) -> Any:
    r"""The gradient of a loss that reaches each step: norms over the units, for each row and step.

    .. math:: \Bigl\| \frac{d L}{d h_t} \Bigr\|_2, \quad \Bigl\| \frac{d L}{d c_t} \Bigr\|_2

    These are total derivatives, through the output of step t and all later steps; that of :math:`c_t` goes
    through :math:`h_t` too. They are the gradients used in training: with `clip_gradient` or
    `truncate_gradient` around a cell, the clipped or truncated ones.

    Args:
      cell: as for `trace`.
      params: as ``cell.init`` or ``cell.sample`` returns them.
      inputs: ``[..., time, features]``.
      loss: maps outputs ``[..., time, output_size]`` to a scalar.
      state: as for `unroll`, and so are the other arguments.
      lengths: integers ``[...]``.
      resets: booleans ``[..., time]``.
      reverse: run from the last step to the first.

    Returns:
      `Flow` of arrays ``[..., time]``; for a stack, a tuple with one per cell.

    Raises:
      TypeError: the cell is of another kind; else as `unroll`.
      ValueError: as `unroll`.

    Source: Hochreiter 1991 (diploma thesis, TU Munich); Bengio, Simard and Frasconi 1994 (IEEE Trans. Neural
    Networks 5(2)).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.elman(features=3, hidden=4)
      >>> flow = gradient_flow(
      ...     cell, cell.init(jax.random.key(0)), jnp.ones((20, 3)), lambda outputs: outputs[-1].sum()
      ... )
      >>> float(flow.hidden[-1]), bool(flow.hidden[0] < 0.1 * flow.hidden[-1])
      (2.0, True)
    """
    masks = {"state": state, "lengths": lengths, "resets": resets, "reverse": reverse}
    check_inputs(cell, inputs, axes="[..., time, features]")

    def loss_of(nudges: jax.Array) -> jax.Array:
        return loss(_run(cell, params, jnp.asarray(inputs), nudges, masks)[0])

    gradient = jax.grad(loss_of)(_no_nudges(cell, inputs))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, gradient.dtype), _state_of(cell))
    return _norms(cell, _unpack(gradient, like))


def _norms(cell: Cell, gradient: Any) -> Any:
    if isinstance(cell, Stack):
        return tuple(_norms(part, inner) for part, inner in zip(cell.cells, gradient, strict=True))
    if isinstance(cell, Wrapper):
        return _norms(cell.cell, gradient)
    norm = functools.partial(jnp.linalg.norm, axis=-1)
    if isinstance(gradient, jax.Array):
        return Flow(norm(gradient), None)
    return Flow(norm(gradient.hidden), norm(gradient.cell))
