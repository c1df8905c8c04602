r"""A `StagedCell` over a sequence with a custom derivative.

The values are those of the scan over ``step``. The derivative is a `jax.custom_jvp`, a linear map from
tangents to tangents. It consists of the tangents of the pre-activations, outside of any loop,

.. math:: \dot z_t = \dot x_t W + x_t \dot W + s_t \dot R + \dot b

of each stage, where :math:`s_t` is what the stage multiplies with R, and the linearized recurrence
(`lstmjax.backends.recurrence`), which adds :math:`\dot s_t R`. JAX
transposes it into the gradient, where each kernel's gradient is one product after the loop; differentiating
the scan would instead accumulate one product per step. JAX can also vectorize it and differentiate it again,
so every transformation works and there is only one derivation to check.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.backends.recurrence import Leaves, Recurrence, counts, parts
from lstmjax.backends.scan import Masks, scan
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.elementwise import StagedCell
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Params, State

CONFLICTING = 128


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 6, 7))
def fused(
    recurrence: Recurrence,
    cell: StagedCell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[State, State]:
    """Run a cell over inputs with the time axis that the recurrence expects.

    Returns the last state and the states after each step, 0 in the padding; all leaves but the hidden state
    have no steps unless ``states`` is true. Arguments are otherwise those of `lstmjax.backends.scan.scan`.
    """
    if not recurrence.batch_major and not states:
        # A small cell's pre-activations stay in the processor's cache within the scan.
        after, outputs, _ = scan(cell, params, inputs, state, masks, reverse)
        leaves, tree = jax.tree.flatten(after)
        none = [vary_alike(jnp.zeros((0, *leaf.shape), leaf.dtype), like=after) for leaf in leaves[1:]]
        return after, jax.tree.unflatten(tree, [outputs, *none])
    weights = _weights(cell, params)
    projected = [_product(recurrence, cell, inputs, stage.kernel) for stage in weights]
    leaves, tree = jax.tree.flatten(state)
    keywords: Any = {"masks": masks, "cell": cell, "reverse": reverse, "states": states}
    results = recurrence.run(*_flat(stage[1:] for stage in weights), *projected, *leaves, **keywords)
    return jax.tree.unflatten(tree, results[: len(leaves)]), jax.tree.unflatten(tree, results[len(leaves) :])


@fused.defjvp
def _fused_jvp(
    recurrence: Recurrence, cell: StagedCell, reverse: bool, states: bool, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    params, inputs, state, masks = primals
    params_dot, inputs_dot, state_dot, _ = tangents
    multiply = functools.partial(_product, recurrence, cell)
    weights, weights_dot = jax.jvp(functools.partial(_weights, cell), (params,), (params_dot,))
    leaves, tree = jax.tree.flatten(state)
    count = len(leaves)
    keywords: Any = {"masks": masks, "cell": cell, "reverse": reverse, "states": states}
    projected = [multiply(inputs, stage.kernel) for stage in weights]
    results = recurrence.run_keeping(*_flat(stage[1:] for stage in weights), *projected, *leaves, **keywords)
    kept = results[2 * count :]
    kept_of_stages = parts(kept, *counts(cell).kept[:-1])
    terms_dot = [
        _terms_dot(
            stage.structure.summed,
            multiply(inputs_dot, own.kernel) + multiply(inputs, dot.kernel, by_columns=True),
            multiply(first, dot.recurrent_kernel, by_columns=True),
            dot.bias,
        )
        for stage, own, dot, (_, first, *_) in zip(
            cell.stages, weights, weights_dot, kept_of_stages, strict=True
        )
    ]
    rows = leaves[0].shape[:-1]
    dots = recurrence.linear(
        *_flat((stage.recurrent_kernel, stage.vectors) for stage in weights),
        *kept,
        *_flat(terms_dot),
        *(jnp.broadcast_to(dot.vectors, (*rows, *dot.vectors.shape)) for dot in weights_dot),
        *jax.tree.leaves(state_dot),
        **keywords,
    )
    values, tangents = (
        tuple(jax.tree.unflatten(tree, each[i * count : (i + 1) * count]) for i in range(2))
        for each in (results, dots)
    )
    return values, tangents


_flat = itertools.chain.from_iterable


class _Weights(NamedTuple):
    """`Weights` in the dtypes of the computation, with the vectors as one array ``[vectors, hidden]``."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    vectors: Array


def _weights(cell: StagedCell, params: Params) -> list[_Weights]:
    """Those of each stage."""
    wide, found = cell.wide_dtype, []
    for stage, own in zip(cell.stages, cell.stage_weights(params), strict=True):
        bias, stacked = (
            vary_alike(jnp.zeros(shape, wide), like=own.kernel)
            for shape in (stage.structure.columns * cell.hidden, (0, cell.hidden))
        )
        if own.bias is not None:
            bias = own.bias.astype(wide)
        if own.vectors:
            stacked = jnp.stack([vector.astype(wide) for vector in own.vectors])
        found.append(_Weights(own.kernel, own.recurrent_kernel.astype(cell.dtype), bias, stacked))
    return found


def _terms_dot(summed: bool, inputs: jax.Array, products: jax.Array, bias: Array) -> Leaves:
    """The tangents of the terms of the pre-activations of a stage, as `Recurrence.linear` takes them."""
    with_inputs, own = jnp.split(bias, [inputs.shape[-1]])
    inputs = biased(inputs, with_inputs)
    if summed:
        return (inputs + products,)
    return inputs, biased(products, jnp.pad(own, (products.shape[-1] - own.size, 0)))


def _product(
    recurrence: Recurrence, cell: StagedCell, inputs: Array, kernel: Array, by_columns: bool = False
) -> jax.Array:
    """The product for all steps at once, batch-major as a product of two matrices.

    With more axes, XLA on CPU would transpose the larger operand of its transpose in memory. Only the axes of
    one batch and of time are joined: others could not stay divided over devices.

    ``by_columns`` says that the transpose with respect to the kernel will be asked for, which reads the
    inputs column by column. On CPU, numbers a multiple of `CONFLICTING` apart displace each other from the
    cache, and it is faster to transpose the inputs first.
    """
    multiply = functools.partial(matmul, dtype=cell.dtype, result_dtype=cell.wide_dtype)
    if not recurrence.batch_major or inputs.ndim != 3:
        return multiply(inputs, kernel)
    batch, time, features = inputs.shape
    rows = inputs.reshape(batch * time, features)
    if by_columns and recurrence.platform == "cpu" and features % CONFLICTING == 0:
        rows = jax.lax.optimization_barrier(rows.T).T
    return multiply(rows, kernel).reshape(batch, time, kernel.shape[-1])
