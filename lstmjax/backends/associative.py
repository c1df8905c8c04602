r"""A linear cell over a sequence in a logarithmic number of steps, by an associative scan.

The composition of two steps, :math:`h \mapsto a_1 h + b_1` and then :math:`h \mapsto a_2 h + b_2`, has the
same form, :math:`h \mapsto a_2 a_1 h + (a_2 b_1 + b_2)`, and composition is associative. Masks are encoded
in the coefficients: a boundary has :math:`a = 0`, padding :math:`a = 1` and :math:`b = 0`, and the initial
state is added to the first :math:`b`.

Source: Blelloch 1990 (CMU-CS-90-190, section 1.4.1); Martin and Cundy 2018 (arXiv:1709.04057).
"""

import math

import jax
import jax.numpy as jnp

from lstmjax.backends.scan import Masks, decayed, select
from lstmjax.cells.minimal import LinearCell, LinearParams, LinearState

_Step = tuple[jax.Array, jax.Array]


def associative(
    cell: LinearCell,
    params: LinearParams,
    inputs: jax.Array,
    state: LinearState,
    masks: Masks,
    reverse: bool,
) -> tuple[LinearState, jax.Array, LinearState]:
    """Run a linear cell over time-major inputs; arguments and results as in `lstmjax.backends.scan.scan`."""
    *leading, features = inputs.shape
    coefficients = cell.coefficients(params, inputs.reshape(math.prod(leading), features))
    decay, addend = (rows.reshape(*leading, cell.hidden) for rows in coefficients)
    if leading[0] == 0:
        return state, addend.astype(cell.dtype), LinearState(addend)
    if masks.fresh is not None:
        decay = select(masks.fresh, jnp.zeros_like(decay), decay)
    if masks.valid is not None:
        decay = select(masks.valid, decay, jnp.ones_like(decay))
        addend = select(masks.valid, addend, jnp.zeros_like(addend))
    first, last = (-1, 0) if reverse else (0, -1)
    addend = addend.at[first].add(decayed(decay[first], jnp.asarray(state.cell)))
    _, cells = jax.lax.associative_scan(_together, (decay, addend), reverse=reverse)
    shown = cells if masks.valid is None else select(masks.valid, cells, jnp.zeros_like(cells))
    return LinearState(cells[last]), shown.astype(cell.dtype), LinearState(shown)


def _together(one: _Step, other: _Step) -> _Step:
    """The composition of two steps: ``one``, then ``other``."""
    return decayed(other[0], one[0]), decayed(other[0], one[1]) + other[1]
