r"""A cell over a sequence by Newton's method: all steps at once, again and again, until nothing changes.

The states after all steps are one unknown, which solves :math:`s_t = F_t(s_{t-1})`. Around a guess the
equations are linear; their solution is the next guess,

.. math::
   \Delta_t = J_t \Delta_{t-1} + F_t(s_{t-1}) - s_t, \qquad s_t \leftarrow s_t + \Delta_t,
   \qquad J_t = \partial F_t / \partial s_{t-1},

and an associative scan finds it in a logarithmic number of steps. With blocks of the Jacobians in their place
an iteration takes less work, and more iterations are needed. A last iteration, with all of the Jacobians,
estimates the error of what was found; where that is not small, as in a chaotic network, the steps are taken
one by one after all. The derivative solves the same linear equations, by the implicit function theorem.

Source: Lim et al. 2024 (arXiv:2309.12252, DEER); Gonzalez et al. 2024 (arXiv:2407.19115), for diagonal
  Jacobians; Danieli et al. 2025 (arXiv:2510.21450, ParaRNN), for blocks.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.backends.scan import Masks, scan, select
from lstmjax.cells.cell import Cell
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Params, State

Blocks = Literal["full", "units", "diagonal"]
"""What is kept of a Jacobian: all; of each hidden unit a block, of its own numbers, such as h and c; or the
diagonal."""

ITERATIONS = 50
"""So many iterations at most; then the steps are taken one by one."""

_einsum = functools.partial(jnp.einsum, precision="highest")


class Certificate(NamedTuple):
    """How a solution was found, and how good it is; numbers of all rows together."""

    converged: jax.Array
    """1 if it was found by Newton's method, 0 if the steps were taken one by one."""
    iterations: jax.Array
    """Iterations, each of a logarithmic number of steps; that which estimates the error not counted."""
    residual: jax.Array
    """The largest of what Newton's method left, :math:`|F_t(s_{t-1}) - s_t|`."""
    error: jax.Array
    """The largest relative error of its states, estimated by an iteration with all of the Jacobians."""
    exponent: jax.Array
    r"""An estimate of the largest Lyapunov exponent per step, :math:`\log \|J_T \cdots J_1\| / T`, of the row
    where it is largest: above 0 neighbouring states part. A row with a reset has none, and says -inf."""


def why_not(cell: Cell) -> str | None:
    """Why a cell cannot run by Newton's method: its state is not of one floating point dtype."""
    with jax.enable_x64(True):  # a float64 cell is not warned of here
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(cell.initial_state))}
    if len(dtypes) == 1 and jnp.issubdtype(next(iter(dtypes)), jnp.floating):
        return None
    return "newton is for states of one floating point dtype"


def newton(
    cell: Cell, params: Params, inputs: jax.Array, state: State, masks: Masks, reverse: bool
) -> tuple[State, jax.Array, State]:
    """Run a cell over time-major inputs; arguments and results as in `lstmjax.backends.scan.scan`."""
    if not len(inputs):
        after, outputs, each = scan(cell, params, inputs, state, masks, reverse, states=True)
        return after, outputs, each
    return _run(cell, params, inputs, state, masks, reverse, "full", ITERATIONS, None)[:3]


def solve(
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    *,
    blocks: Blocks = "full",
    iterations: int = ITERATIONS,
    guess: State | None = None,
) -> tuple[State, jax.Array, State, Certificate]:
    """As `newton`, with the certificate, for one step at least; see `lstmjax.solve` for the keywords.

    Raises:
      ValueError: ``blocks`` is ``"units"``, and the leaves of the state have different shapes.
    """
    last, outputs, each, about, step, before = _run(
        cell, params, inputs, state, masks, reverse, blocks, iterations, guess
    )
    converged, taken, residual, error = about
    exponent = _exponent(_jacobian(step, before))
    return last, outputs, each, Certificate(converged, taken, residual, error, exponent)


def _run(
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    blocks: Blocks,
    iterations: int,
    guess: State | None,
) -> tuple[Any, ...]:
    """The first results of `solve`; those of `_solve`; all steps as one function, and what is before them."""
    if reverse:
        inputs, masks, guess = jax.tree.map(lambda x: x[::-1], (inputs, masks, guess))
    step = functools.partial(_step, cell, params, inputs, masks)
    flat = _flatten(state, inputs.ndim - 2)
    begun = None if guess is None else _flatten(guess, inputs.ndim - 1)
    states, about = _solve(cell, blocks, iterations, params, inputs, flat, masks, begun)
    before = _shifted(flat, states)
    each, outputs = _transition(cell, params, inputs, masks, before)
    last = jax.tree.map(lambda leaf: leaf[-1], each)
    if masks.valid is not None:
        each, outputs = select(masks.valid, (each, outputs), jax.tree.map(jnp.zeros_like, (each, outputs)))
    if reverse:
        each, outputs = jax.tree.map(lambda x: x[::-1], (each, outputs))
    return last, outputs, each, about, step, before


def _transition(
    cell: Cell, params: Params, inputs: jax.Array, masks: Masks, before: jax.Array
) -> tuple[State, jax.Array]:
    """States and outputs after steps from given states; time is an axis like those of the batch."""
    carried = _unflatten(before, cell.initial_state())
    begin = carried
    if masks.fresh is not None:
        begin = select(masks.fresh, cell.initial_state(inputs.shape[:-1]), carried)
    after, outputs = cell.step(params, begin, inputs)
    return after if masks.valid is None else select(masks.valid, after, carried), outputs


def _shifted(state: Array, states: Array) -> jax.Array:
    """The states before each step, from those after them and the first one."""
    return jnp.concatenate([state[None], states[:-1]])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _solve(
    cell: Cell,
    blocks: Blocks,
    iterations: int,
    params: Params,
    inputs: jax.Array,
    state: Float[Array, "... numbers"],
    masks: Masks,
    guess: Float[Array, "time ... numbers"] | None,
) -> tuple[Float[jax.Array, "time ... numbers"], Float[jax.Array, " 4"]]:
    """The states after each step, in padding as before it, and the first fields of the certificate."""
    step = functools.partial(_step, cell, params)
    together = functools.partial(step, inputs, masks)
    like, tolerance = cell.initial_state(), jnp.finfo(state.dtype).eps ** 0.7

    def evaluate(states: Any, blocks: Blocks) -> tuple[jax.Array, jax.Array]:
        """What Newton's method adds to states, and the states that follow them."""
        before = _shifted(state, states)
        after = together(before)
        kept = _kept(blocks, _jacobian(together, before), like)
        return _joined(blocks, _linear(kept, _split(blocks, after - states, like))), after

    def is_open(carry: Any) -> jax.Array:
        _, number, change = carry
        return (number < iterations) & (change > tolerance)

    def iterate(carry: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        states, number, _ = carry
        added, after = evaluate(states, blocks)
        found = jnp.where(jnp.isfinite(added), states + added, after)
        found = together(_shifted(state, found))  # back to where states of the cell can be
        return found, number + 1, _largest((found - states) / (1 + jnp.abs(after)))

    begun = together(jnp.broadcast_to(state, (len(inputs), *state.shape))) if guess is None else guess
    none, change = vary_alike((jnp.zeros((), state.dtype), jnp.full((), jnp.inf, state.dtype)), like=begun)
    states, number, _ = jax.lax.while_loop(is_open, iterate, (jnp.asarray(begun), none, change))
    added, after = evaluate(states, "full")
    residual, error = _largest(after - states), _largest(added / (1 + jnp.abs(after)))
    converged = error <= tolerance  # not if it is NaN

    def one_by_one(states: jax.Array) -> jax.Array:
        del states

        def one(before: Any, now: tuple[jax.Array, Masks]) -> tuple[jax.Array, jax.Array]:
            after = step(*now, before)
            return after, after

        return jax.lax.scan(one, state, (inputs, masks))[1]

    states = jax.lax.cond(converged, lambda states: states, one_by_one, states + added)
    return states, jnp.stack([converged.astype(state.dtype), number, residual, error])


@_solve.defjvp
def _solve_jvp(cell: Cell, blocks: Blocks, iterations: int, primals: Any, tangents: Any) -> Any:
    params, inputs, state, masks, _ = primals
    *given_dot, _, _ = tangents
    states, about = _solve(cell, blocks, iterations, *primals)

    def after(params: Params, inputs: jax.Array, state: jax.Array) -> jax.Array:
        return _step(cell, params, inputs, masks, _shifted(state, states))

    _, added = jax.jvp(after, (params, inputs, state), tuple(given_dot))
    step = functools.partial(_step, cell, params, inputs, masks)
    jacobians = _jacobian(step, _shifted(state, states))

    def residual(dot: jax.Array) -> jax.Array:
        return dot - _einsum("...ij,...j->...i", jacobians, _shifted(jnp.zeros_like(dot[0]), dot))

    def forward(_: Any, added: jax.Array) -> jax.Array:
        return _safely(about[0] > 0, jacobians, added)

    def backward(_: Any, added: jax.Array) -> jax.Array:
        after = jnp.swapaxes(jnp.roll(jacobians, -1, axis=0), -1, -2)  # the first one does not matter
        return _safely(about[0] > 0, after[::-1], added[::-1])[::-1]

    dot = jax.lax.custom_linear_solve(residual, added, forward, backward)
    return (states, about), (dot, jnp.zeros_like(about))


def _safely(together: jax.Array, jacobians: jax.Array, added: jax.Array) -> jax.Array:
    """`_linear` for full Jacobians ``[time, ..., n, n]`` and ``[time, ..., n]``, or a loop over the steps."""

    def step(before: Any, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        after = _einsum("...ij,...j->...i", now[0], before) + now[1]
        return after, after

    return jax.lax.cond(
        together,
        lambda: _linear(jacobians[..., None, :, :], added[..., None, :])[..., 0, :],
        lambda: jax.lax.scan(step, jnp.zeros_like(added[0]), (jacobians, added))[1],
    )


def _step(cell: Cell, params: Params, inputs: jax.Array, masks: Masks, before: jax.Array) -> jax.Array:
    """The states ``[..., numbers]`` after steps."""
    return _flatten(_transition(cell, params, inputs, masks, before)[0], inputs.ndim - 1)


def _jacobian(step: Callable[[jax.Array], jax.Array], before: jax.Array) -> jax.Array:
    """The Jacobians ``[..., numbers, numbers]`` of steps at the states ``[..., numbers]`` before them."""

    def column(direction: jax.Array) -> jax.Array:
        return jax.jvp(step, (before,), (jnp.broadcast_to(direction, before.shape),))[1]

    return jax.vmap(column, out_axes=-1)(jnp.eye(before.shape[-1], dtype=before.dtype))


def _linear(kept: jax.Array, added: jax.Array) -> jax.Array:
    """The solution of ``x[t] = kept[t] x[t - 1] + added[t]`` from 0, in a logarithmic number of steps."""

    def compose(one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]) -> Any:
        product = _einsum("...ij,...jk->...ik", other[0], one[0])
        return product, _einsum("...ij,...j->...i", other[0], one[1]) + other[1]

    return jax.lax.associative_scan(compose, (kept, added))[1]


def _exponent(jacobians: jax.Array) -> jax.Array:
    """The logarithm of the norm of the product of all Jacobians ``[time, ..., k, k]``, per step."""

    def normed(product: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        norm = jnp.sqrt((product**2).sum((-1, -2), keepdims=True))
        return product / jnp.where(norm == 0, 1, norm), scale + jnp.log(norm)

    product, scale = normed(jacobians, jnp.zeros_like(jacobians[..., :1, :1]))
    while len(product) > 1:
        last = len(product) // 2 * 2
        both = _einsum("...ij,...jk->...ik", product[1:last:2], product[:last:2])
        halves = normed(both, scale[1:last:2] + scale[:last:2])
        product, scale = (
            jnp.concatenate([x, y[last:]]) for x, y in zip(halves, (product, scale), strict=True)
        )
    return jnp.max(scale, initial=-jnp.inf) / len(jacobians)


def _split(blocks: Blocks, numbers: jax.Array, like: State) -> jax.Array:
    """Numbers ``[..., n]`` as groups ``[..., groups, size]``, each with the block of a Jacobian."""
    if blocks == "full":
        return numbers[..., None, :]
    if blocks == "diagonal":
        return numbers[..., None]
    leaves = _leaves(like)
    return jnp.swapaxes(numbers.reshape(*numbers.shape[:-1], leaves, numbers.shape[-1] // leaves), -1, -2)


def _joined(blocks: Blocks, groups: jax.Array) -> jax.Array:
    """The inverse of `_split`."""
    groups = jnp.swapaxes(groups, -1, -2) if blocks == "units" else groups
    return groups.reshape(*groups.shape[:-2], math.prod(groups.shape[-2:]))


def _kept(blocks: Blocks, jacobians: jax.Array, like: State) -> jax.Array:
    """The blocks ``[..., groups, size, size]`` of Jacobians."""
    rows = _split(blocks, jnp.swapaxes(jacobians, -1, -2), like)  # [..., columns, groups, size]
    columns = _split(blocks, jnp.moveaxis(rows, -3, -1), like)  # [..., groups, size, groups, size]
    return jnp.einsum("...gigj->...gij", columns)


def _leaves(like: State) -> int:
    """The number of leaves of a state, which must have equal shapes."""
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(like)}
    if len(shapes) > 1:
        raise ValueError(
            f"blocks='units' is for states whose leaves have one shape, got {sorted(shapes)}: use 'full'."
        )
    return len(jax.tree.leaves(like))


def _flatten(tree: State, batch_axes: int) -> jax.Array:
    """The leaves of a state as one array ``[..., numbers]``."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    flat = [leaf.reshape(*leaf.shape[:batch_axes], math.prod(leaf.shape[batch_axes:])) for leaf in leaves]
    return jnp.concatenate(flat, axis=-1)


def _unflatten(numbers: jax.Array, like: State) -> State:
    """The inverse of `_flatten`, for leaves with the last axes of those of ``like``, a single row's state."""
    leaves, tree = jax.tree.flatten(like)
    ends = [sum(leaf.size for leaf in leaves[: i + 1]) for i in range(len(leaves) - 1)]
    found = jnp.split(numbers, ends, axis=-1)
    shaped = [x.reshape(*x.shape[:-1], *leaf.shape) for x, leaf in zip(found, leaves, strict=True)]
    return jax.tree.unflatten(tree, shaped)


def _largest(numbers: jax.Array) -> jax.Array:
    """The largest magnitude, NaN if one is not finite: XLA's maximum on CPU skips NaN in large arrays."""
    return jnp.where(jnp.isfinite(numbers).all(), jnp.max(jnp.abs(numbers), initial=0), jnp.nan)
