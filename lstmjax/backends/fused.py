r"""An `ElementwiseCell` over a sequence with a custom derivative.

The values are those of the scan over ``step``. The derivative is a `jax.custom_jvp`, a linear map from
tangents to tangents. It consists of the tangents of the pre-activations, outside of any loop,

.. math:: \dot z_t = \dot x_t W + x_t \dot W + h_{t-1} \dot R + \dot b

and the linearized recurrence (`lstmjax.backends.recurrence`), which adds :math:`\dot h_{t-1} R`. JAX
transposes it into the gradient, where each kernel's gradient is one product after the loop; differentiating
the scan would instead accumulate one product per step. JAX can also vectorize it and differentiate it again,
so every transformation works and there is only one derivation to check.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.backends.recurrence import Leaves, Recurrence, is_summed, structure_of
from lstmjax.backends.scan import Masks, scan
from lstmjax.cells.cell import biased, matmul
from lstmjax.cells.elementwise import ElementwiseCell
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Params, State

CONFLICTING = 128


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 6, 7))
def fused(
    recurrence: Recurrence,
    cell: ElementwiseCell,
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
    projected = _product(recurrence, cell, inputs, weights.kernel)
    leaves, tree = jax.tree.flatten(state)
    keywords: Any = {"masks": masks, "cell": cell, "reverse": reverse, "states": states}
    results = recurrence.run(*weights[1:], projected, *leaves, **keywords)
    return jax.tree.unflatten(tree, results[: len(leaves)]), jax.tree.unflatten(tree, results[len(leaves) :])


@fused.defjvp
def _fused_jvp(
    recurrence: Recurrence, cell: ElementwiseCell, reverse: bool, states: bool, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    params, inputs, state, masks = primals
    params_dot, inputs_dot, state_dot, _ = tangents
    multiply = functools.partial(_product, recurrence, cell)
    weights, weights_dot = jax.jvp(functools.partial(_weights, cell), (params,), (params_dot,))
    leaves, tree = jax.tree.flatten(state)
    count = len(leaves)
    keywords: Any = {"masks": masks, "cell": cell, "reverse": reverse, "states": states}
    projected = multiply(inputs, weights.kernel)
    results = recurrence.run_keeping(*weights[1:], projected, *leaves, **keywords)
    kept = results[2 * count :]
    terms_dot = _terms_dot(
        cell,
        multiply(inputs_dot, weights.kernel) + multiply(inputs, weights_dot.kernel, by_columns=True),
        multiply(kept[1], weights_dot.recurrent_kernel, by_columns=True),
        weights_dot.bias,
    )
    vectors_dot = jnp.broadcast_to(weights_dot.vectors, (*leaves[0].shape[:-1], *weights_dot.vectors.shape))
    dots = recurrence.linear(
        weights.recurrent_kernel,
        weights.vectors,
        *kept,
        *terms_dot,
        vectors_dot,
        *jax.tree.leaves(state_dot),
        **keywords,
    )
    values, tangents = (
        tuple(jax.tree.unflatten(tree, each[i * count : (i + 1) * count]) for i in range(2))
        for each in (results, dots)
    )
    return values, tangents


class _Weights(NamedTuple):
    """`Weights` in the dtypes of the computation, with the vectors as one array ``[vectors, hidden]``."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    vectors: Array


def _weights(cell: ElementwiseCell, params: Params) -> _Weights:
    kernel, recurrent_kernel, bias, vectors = cell.weights(params)
    wide = cell.wide_dtype
    if bias is None:
        bias = vary_alike(jnp.zeros(structure_of(cell).columns * cell.hidden, wide), like=kernel)
    stacked = vary_alike(jnp.zeros((0, cell.hidden), wide), like=kernel)
    if vectors:
        stacked = jnp.stack([vector.astype(wide) for vector in vectors])
    return _Weights(kernel, recurrent_kernel.astype(cell.dtype), bias.astype(wide), stacked)


def _terms_dot(cell: ElementwiseCell, inputs: jax.Array, products: jax.Array, bias: Array) -> Leaves:
    """The tangents of the terms of the pre-activations, as `Recurrence.linear` takes them."""
    with_inputs, own = jnp.split(bias, [inputs.shape[-1]])
    inputs = biased(inputs, with_inputs)
    if is_summed(cell):
        return (inputs + products,)
    return inputs, biased(products, jnp.pad(own, (products.shape[-1] - own.size, 0)))


def _product(
    recurrence: Recurrence, cell: ElementwiseCell, inputs: Array, kernel: Array, by_columns: bool = False
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
