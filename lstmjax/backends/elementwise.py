r"""The fast path of `ElementwiseCell`: the recurrence and its linearization, for any function of the units.

The recurrence takes the products :math:`x_t W`, adds :math:`h_{t-1} R + b` and applies :math:`\phi`, the cell's
function of each unit. It keeps the totals and the state before each step. The linearization around a run is

.. math:: \dot s_t = \mathrm{J}\phi \, (\dot z_t + \dot h_{t-1} R, \dot v, \dot s_{t-1})

where :math:`\dot z_t = \dot x_t W + x_t \dot W + h_{t-1} \dot R + \dot b` is computed for all steps at once. JAX
transposes it into the gradient, with one product per kernel after the loop; `lstmjax.backends.fused` says more.

Each is a primitive over batch-major arrays: a scan, which also defines its derivative, and on a CPU the loop of
``native.cc`` around :math:`\phi` in C++ (`lstmjax.backends.codegen`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from lstmjax.backends.fused import product
from lstmjax.backends.native import cell_call
from lstmjax.backends.primitives import operands_of, primitive, transpose_each_other, unpack
from lstmjax.backends.recurrence import end, start
from lstmjax.backends.scan import Masks
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.elementwise import ElementwiseCell, Structure
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Params

Leaves = tuple[jax.Array, ...]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 6, 7))
def fused_elementwise(
    native: bool,
    cell: ElementwiseCell,
    params: Params,
    inputs: jax.Array,
    state: Leaves,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[Leaves, Leaves]:
    """Run a cell over inputs, batch-major if ``native``, else time-major.

    Returns the leaves of the last state, and those of the states after each step, 0 in the padding; all but
    the hidden state have no steps unless ``states`` is true. Arguments are otherwise those of
    `lstmjax.backends.scan.scan`.
    """
    weights = _weights(cell, params)
    projected = product(cell, native, inputs, weights.kernel)
    return _run(native, cell, weights, projected, state, masks, reverse, states)[:2]


@fused_elementwise.defjvp
def _fused_elementwise_jvp(
    native: bool, cell: ElementwiseCell, reverse: bool, states: bool, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    params, inputs, state, masks = primals
    params_dot, inputs_dot, state_dot, _ = tangents
    multiply = functools.partial(product, cell, native)
    weights, weights_dot = jax.jvp(functools.partial(_weights, cell), (params,), (params_dot,))
    projected = multiply(inputs, weights.kernel)
    after, shown, totals, before = _run(native, cell, weights, projected, state, masks, reverse, states, True)
    size = _structure(cell).inputs * cell.hidden
    bias_dot, own_bias_dot = weights_dot.bias[:size], weights_dot.bias[size:]
    inputs_dot = multiply(inputs_dot, weights.kernel) + multiply(inputs, weights_dot.kernel)
    products_dot = multiply(before[0], weights_dot.recurrent_kernel)
    terms_dot: Leaves = (biased(inputs_dot, bias_dot), _of_own_columns(products_dot, own_bias_dot))
    if _is_summed(cell):
        terms_dot = (sum(terms_dot),)
    batch = state[0].shape[:-1]
    vectors_dot = jnp.broadcast_to(weights_dot.vectors, (*batch, *weights_dot.vectors.shape))
    kept, dots = (totals, before), (*terms_dot, vectors_dot, *state_dot)
    return (after, shown), _linear(native, cell, weights, kept, dots, masks, reverse, states)


def _is_summed(cell: ElementwiseCell) -> bool:
    """Whether all pre-activations have a term of the input and one of the hidden state: their tangents are added."""
    return _structure(cell).shared == _structure(cell).columns


def _of_own_columns(products: jax.Array, bias: jax.Array) -> jax.Array:
    """Products with the biases of the last columns, those without inputs."""
    return biased(products, jnp.pad(bias, (products.shape[-1] - bias.shape[-1], 0))) if bias.size else products


class _Weights(NamedTuple):
    """`Weights` in the dtypes of the computation, with the vectors as one array ``[vectors, hidden]``."""

    kernel: Array
    recurrent_kernel: jax.Array
    bias: jax.Array
    vectors: jax.Array


def _weights(cell: ElementwiseCell, params: Params) -> _Weights:
    kernel, recurrent_kernel, bias, vectors = cell.weights(params)
    size, wide = cell.hidden, cell.wide_dtype
    if bias is None:
        bias = vary_alike(jnp.zeros(_structure(cell).columns * size, wide), like=kernel)
    stacked = jnp.stack([v.astype(wide) for v in vectors]) if vectors else None
    if stacked is None:
        stacked = vary_alike(jnp.zeros((0, size), wide), like=kernel)
    return _Weights(kernel, recurrent_kernel.astype(cell.dtype), bias.astype(wide), stacked)


def _structure(cell: ElementwiseCell) -> Structure:
    assert cell.structure is not None
    return cell.structure


def _run(
    native: bool,
    cell: ElementwiseCell,
    weights: _Weights,
    projected: jax.Array,
    state: Leaves,
    masks: Masks,
    reverse: bool,
    states: bool,
    keeping: bool = False,
) -> tuple[Leaves, ...]:
    """Last state and states after each step; with ``keeping`` also the totals and the state before each."""
    arguments = (*weights[1:], projected, *state)
    keywords = {"cell": cell, "reverse": reverse, "states": states}
    if not native:
        results = _run_keeping(*arguments, masks=masks, **keywords)
    else:
        chosen = RUN_KEEPING if keeping else RUN
        operands, masked = operands_of(masks, *arguments)
        results = chosen.bind(*operands, masked=masked, **keywords)
    count = len(state)
    after, shown, *kept = (tuple(results[i * count : (i + 1) * count]) for i in range(2))
    if keeping:
        kept = [results[2 * count], tuple(results[2 * count + 1 :])]
    return after, shown, *kept


def _linear(
    native: bool,
    cell: ElementwiseCell,
    weights: _Weights,
    kept: tuple[jax.Array, Leaves],
    dots: Leaves,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[Leaves, Leaves]:
    """The tangents of last state and states after each step."""
    arguments = (weights.recurrent_kernel, weights.vectors, kept[0], *kept[1], *dots)
    keywords = {"cell": cell, "reverse": reverse, "states": states}
    if not native:
        results = _linear_scan(*arguments, masks=masks, **keywords)
    else:
        operands, masked = operands_of(masks, *arguments)
        results = LINEAR.bind(*operands, masked=masked, **keywords)
    count = len(kept[1])
    return tuple(results[:count]), tuple(results[count:])


# The scans, time-major.


def _run_keeping(
    kernel: jax.Array,
    bias: jax.Array,
    vectors: jax.Array,
    projected: jax.Array,
    *state: jax.Array,
    masks: Masks,
    cell: ElementwiseCell,
    reverse: bool,
    states: bool,
) -> Leaves:
    """Leaves of the last state, those after each step, totals, and the leaves before each step."""
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    structure = _structure(cell)

    def step(carry: Leaves, given: tuple[jax.Array, Masks]) -> tuple[Leaves, Any]:
        projected_t, masks_t = given
        before = start(carry, masks_t)
        totals = biased(structure.totals(projected_t, multiply(before[0], kernel)), bias)
        columns = jnp.split(totals, structure.columns, axis=-1)
        after, shown = end(tuple(cell.elementwise(columns, tuple(vectors), before)), carry, masks_t)
        return after, (shown, totals, before)

    after, (shown, totals, before) = jax.lax.scan(step, tuple(state), (projected, masks), reverse=reverse)
    return *after, *_only_asked(shown, states), totals, *before


def _linear_scan(
    kernel: jax.Array,
    vectors: jax.Array,
    totals: jax.Array,
    *others: jax.Array,
    masks: Masks,
    cell: ElementwiseCell,
    reverse: bool,
    states: bool,
) -> Leaves:
    """Tangents of the last state, and of the states after each step.

    The operands end with those before each step and the tangents of the terms, the vectors, and the state.
    """
    count = _leaves(cell)
    before, dots, state_dot = others[:count], others[count:-count], others[-count:]
    *terms_dot, vectors_dot = dots
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    structure = _structure(cell)
    for_rows = jnp.broadcast_to(vectors, vectors_dot.shape)

    def units(*arguments: Any) -> Leaves:
        return tuple(cell.elementwise(*arguments))

    # The checkpoint, as in `recurrence.linear`, keeps the derivatives within the loop.
    @functools.partial(jax.checkpoint, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    def step(carry: Leaves, given: Any) -> tuple[Leaves, Leaves]:
        (inputs_dot_t, *products_dot_t), totals_t, before_t, masks_t = given
        before_dot = start(carry, masks_t)
        products_dot = sum(products_dot_t, start=multiply(before_dot[0], kernel))
        total_dot = structure.totals(inputs_dot_t, products_dot)
        primals, tangents = (
            (tuple(jnp.split(total, structure.columns, axis=-1)), tuple(jnp.moveaxis(own, -2, 0)), leaves)
            for total, own, leaves in ((totals_t, for_rows, before_t), (total_dot, vectors_dot, before_dot))
        )
        _, after_dot = jax.jvp(units, primals, tangents)
        return end(after_dot, carry, masks_t)

    given = (tuple(terms_dot), totals, tuple(before), masks)
    after, shown = jax.lax.scan(step, tuple(state_dot), given, reverse=reverse)
    return *after, *_only_asked(shown, states)


def _only_asked(shown: Leaves, states: bool) -> Leaves:
    return shown if states else (shown[0], *(leaf[:0] for leaf in shown[1:]))


# The primitives, batch-major; their operands end with the masks that are present.


def _leaves(cell: ElementwiseCell) -> int:
    return len(jax.tree.leaves(jax.eval_shape(cell.initial_state)))


def _batch_major(arrays: Leaves) -> Leaves:
    return tuple(jnp.moveaxis(x, 0, -2) for x in arrays)


def _time_major(arrays: Sequence[jax.Array]) -> Leaves:
    return tuple(jnp.moveaxis(x, -2, 0) for x in arrays)


def _masks(masked: tuple[bool, bool], operands: Sequence[jax.Array]) -> tuple[Sequence[jax.Array], Masks]:
    """Operands without the masks, and these, time-major."""
    count = len(operands) - sum(masked)
    masks = unpack(masked, operands[count:])
    return operands[:count], jax.tree.map(lambda mask: jnp.moveaxis(mask, -1, 0), masks)


def _run_keeping_plain(*operands: jax.Array, masked: tuple[bool, bool], **keywords: Any) -> Leaves:
    (kernel, bias, vectors, projected, *state), masks = _masks(masked, operands)
    (projected,) = _time_major([projected])
    results = _run_keeping(kernel, bias, vectors, projected, *state, masks=masks, **keywords)
    return *results[: len(state)], *_batch_major(results[len(state) :])


def _run_plain(*operands: jax.Array, cell: ElementwiseCell, **keywords: Any) -> Leaves:
    return _run_keeping_plain(*operands, cell=cell, **keywords)[: 2 * _leaves(cell)]


def _linear_plain(
    *operands: jax.Array, masked: tuple[bool, bool], cell: ElementwiseCell, **keywords: Any
) -> Leaves:
    count = _leaves(cell)
    (kernel, vectors, *others), masks = _masks(masked, operands)
    given = (*_time_major(others[: -count - 1]), *others[-count - 1 :])
    results = _linear_scan(kernel, vectors, *given, masks=masks, cell=cell, **keywords)
    return *results[:count], *_batch_major(results[count:])


def _transposed_plain(*operands: jax.Array, masked: tuple[bool, bool], **keywords: Any) -> Leaves:
    count, end_ = _leaves(keywords["cell"]), len(operands) - sum(masked)
    kernel, vectors, totals, *before = operands[: 3 + count]
    cotangents, masks = operands[3 + count : end_], operands[end_:]

    def function(*tangents: jax.Array) -> Leaves:
        given = (kernel, vectors, totals, *before, *tangents, *masks)
        return _linear_plain(*given, masked=masked, **keywords)

    linear = _transposed_avals(*map(jax.typeof, operands), **keywords)
    return jax.linear_transpose(function, *linear)(tuple(cotangents))


def _run_keeping_avals(*operands: Any, cell: ElementwiseCell, states: bool, **_: Any) -> list[Any]:
    projected, *leaves = operands[3 : 4 + _leaves(cell)]
    *batch, time, _inputs = projected.shape
    steps = [leaf.update(shape=(*batch, time, cell.hidden)) for leaf in leaves]
    asked = [leaf.update(shape=(*batch, time * states, cell.hidden)) for leaf in leaves[1:]]
    totals = projected.update(shape=(*batch, time, _structure(cell).columns * cell.hidden))
    return [*leaves, steps[0], *asked, totals, *steps]


def _run_avals(*operands: Any, cell: ElementwiseCell, **keywords: Any) -> list[Any]:
    return _run_keeping_avals(*operands, cell=cell, **keywords)[: 2 * _leaves(cell)]


def _linear_avals(*operands: Any, masked: Any, cell: ElementwiseCell, states: bool, **_: Any) -> list[Any]:
    count, end_ = _leaves(cell), len(operands) - sum(masked)
    totals, leaves = operands[2], operands[end_ - count : end_]
    *batch, time, _columns = totals.shape
    shown = [
        leaf.update(shape=(*batch, time * (states or number == 0), cell.hidden))
        for number, leaf in enumerate(leaves)
    ]
    return [*leaves, *shown]


def _transposed_avals(*operands: Any, cell: ElementwiseCell, **_: Any) -> list[Any]:
    count, structure = _leaves(cell), _structure(cell)
    vectors, totals = operands[1:3]
    *batch, time, _columns = totals.shape
    columns = (structure.inputs,) if _is_summed(cell) else (structure.inputs, structure.products)
    terms = [totals.update(shape=(*batch, time, number * cell.hidden)) for number in columns]
    return [*terms, totals.update(shape=(*batch, *vectors.shape[-2:])), *operands[3 + count : 3 + 2 * count]]


def _primitive(
    name: str, plain: Callable[..., Leaves], avals: Callable[..., Any], shared: int, backward: bool | None
) -> Primitive:
    kernel = None if backward is None else cell_call(avals, backward)
    return primitive("native", "cpu", f"cell_{name}", plain, kernel, avals, shared)


RUN = _primitive("run", _run_plain, _run_avals, 3, backward=False)
RUN_KEEPING = _primitive("run_keeping", _run_keeping_plain, _run_keeping_avals, 3, backward=False)
LINEAR = _primitive("linear", _linear_plain, _linear_avals, 2, backward=None)
TRANSPOSED = _primitive("transposed", _transposed_plain, _transposed_avals, 2, backward=True)
transpose_each_other(LINEAR, TRANSPOSED, lambda keywords: 3 + _leaves(keywords["cell"]))
