r"""The cross entropy over a large vocabulary, without the logits of all positions in memory.

.. math:: L = \sum_n w_n \left( \log \sum_v e^{h_n \cdot k_v + b_v} - h_n \cdot k_{y_n} - b_{y_n} \right)

Rows are processed in chunks. When differentiated, the gradient is computed together with the value, and the
residuals are the gradients of :math:`h`, :math:`k` and :math:`b`, not the logits. So there are three matrix
products in total, and none is computed twice. It is a `jax.custom_jvp` whose tangent is linear, so that
forward mode and Hessian-vector products work as well.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from lstmjax.checks import describe
from lstmjax.types import Array, at_least_float32

CHUNK_ELEMENTS = 8 * 2**20
"""The largest number of logits per chunk by default: 32 MiB of float32. In smaller chunks, accumulating the
kernel's gradient costs more time than the cache saves."""


def vocabulary_cross_entropy(
    hidden: Float[Array, "*rows hidden"],
    kernel: Float[Array, "hidden vocabulary"],
    bias: Float[Array, " vocabulary"],
    targets: Integer[Array, "*rows"],
    weights: Float[Array, "*rows"] | None = None,
    chunk: int | None = None,
) -> Float[jax.Array, ""]:
    """The sum of the weighted cross entropies of ``softmax(hidden @ kernel + bias)``, exact, chunk by chunk.

    Args:
      hidden: ``[..., hidden]``, the inputs of the output layer.
      kernel: ``[hidden, vocabulary]``; tied embeddings are passed as ``embedding.T``.
      bias: ``[vocabulary]``.
      targets: the labels, integers ``[...]`` in ``0..vocabulary - 1``; others have cross entropy NaN.
      weights: ``[...]``, a factor per position, by default 1; where it is 0, ``hidden``, NaN included, has no
        influence. Weights are constants: no gradient flows to them.
      chunk: the largest number of rows with logits in memory at once; by default `CHUNK_ELEMENTS` logits.

    Returns:
      The sum in nats, a scalar of float32 or wider.

    Raises:
      ValueError: shapes do not fit each other, or ``chunk`` is not positive.

    Example:
      >>> hidden, kernel, bias = jnp.ones((2, 3, 4)), jnp.zeros((4, 10)), jnp.zeros(10)
      >>> targets = jnp.zeros((2, 3), int)
      >>> round(float(vocabulary_cross_entropy(hidden, kernel, bias, targets)) / 6, 4)  # log(10)
      2.3026
    """
    *rows, size = hidden.shape
    if kernel.ndim != 2 or kernel.shape[0] != size or bias.shape != kernel.shape[1:]:
        raise ValueError(
            f"hidden {hidden.shape}, kernel {kernel.shape} and bias {bias.shape} must be "
            "[..., hidden], [hidden, vocabulary] and [vocabulary]."
        )
    for name, array in (("targets", targets), ("weights", weights)):
        if array is not None and array.shape != tuple(rows):
            raise ValueError(f"{name} must have shape {tuple(rows)}, as hidden has, got {array.shape}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 row, got {chunk}.")
    count, wide = math.prod(rows), at_least_float32(hidden.dtype)
    weight = jnp.ones(count, wide) if weights is None else weights.reshape(count).astype(wide)
    flat = jnp.where((weight != 0)[:, None], hidden.reshape(count, size), jnp.zeros((), hidden.dtype))
    chunks = -(-count // (chunk or max(CHUNK_ELEMENTS // kernel.shape[1], 1)))
    chunk = max(-(-count // max(chunks, 1)), 1)  # as even as possible
    batch = _Batch(classes_of(targets, kernel.shape[1]).reshape(count), jax.lax.stop_gradient(weight))
    return _cross_entropy(chunk, flat, kernel, bias, batch)


def classes_of(labels: Integer[Array, "*rows"], classes: int) -> jax.Array:
    """Labels as integers of at least 32 bits; those outside ``0..classes - 1`` become ``classes``."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {describe(labels)}.")
    labels = labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)
    return jnp.where((labels >= 0) & (labels < classes), labels, classes)


class _Batch(NamedTuple):
    targets: Array
    weights: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _cross_entropy(chunk: int, hidden: jax.Array, kernel: Array, bias: Array, batch: _Batch) -> jax.Array:
    def each(hidden_c: jax.Array, batch_c: _Batch) -> tuple[jax.Array, None]:
        return _loss(_logits(hidden_c, kernel, bias), batch_c)[0], None

    return _over_chunks(chunk, each, hidden, batch)[0]


@_cross_entropy.defjvp
def _cross_entropy_jvp(chunk: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    hidden, kernel, bias, batch = primals
    *tangents, _ = tangents

    def each(hidden_c: jax.Array, batch_c: _Batch) -> tuple[Any, jax.Array]:
        logits = _logits(hidden_c, kernel, bias)
        loss, log_sum = _loss(logits, batch_c)
        right = jnp.arange(logits.shape[1], dtype=batch_c.targets.dtype) == batch_c.targets[:, None]
        slopes = (jnp.exp(logits - log_sum[:, None]) - right.astype(logits.dtype)) * batch_c.weights[:, None]
        operand = slopes.astype(hidden.dtype)
        of_kernel = jnp.matmul(hidden_c.T, operand, preferred_element_type=slopes.dtype)
        of_hidden = jnp.matmul(operand, kernel.T.astype(hidden.dtype), preferred_element_type=slopes.dtype)
        return (loss, of_kernel, slopes.sum(0)), of_hidden

    (loss, of_kernel, of_bias), of_hidden = _over_chunks(chunk, each, hidden, batch)
    slopes = (of_hidden, of_kernel, of_bias)
    dots = [
        jnp.vdot(slope, tangent.astype(slope.dtype)) for slope, tangent in zip(slopes, tangents, strict=True)
    ]
    return loss, dots[0] + dots[1] + dots[2]


def _logits(hidden: jax.Array, kernel: Array, bias: Array) -> jax.Array:
    wide = at_least_float32(hidden.dtype)
    return jnp.matmul(hidden, kernel.astype(hidden.dtype), preferred_element_type=wide) + bias.astype(wide)


def _loss(logits: jax.Array, batch: _Batch) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of the cross entropies, and the logarithm of each row's partition sum."""
    log_sum = jax.nn.logsumexp(logits, axis=1)
    right = jnp.take_along_axis(logits, batch.targets[:, None], axis=1, mode="fill")[:, 0]
    return jnp.where(batch.weights != 0, batch.weights * (log_sum - right), 0).sum(), log_sum


def _over_chunks(
    chunk: int, function: Callable[[jax.Array, _Batch], tuple[Any, Any]], hidden: jax.Array, batch: _Batch
) -> tuple[Any, Any]:
    """The sum of the function's first result over chunks, and all rows of its second."""
    count = hidden.shape[0]
    chunks = -(-count // chunk)
    if chunks <= 1:
        return function(hidden, batch)

    def split(x: jax.Array) -> jax.Array:
        padding = [(0, chunks * chunk - count)] + [(0, 0)] * (x.ndim - 1)  # of weight 0
        return jnp.pad(x, padding).reshape(chunks, chunk, *x.shape[1:])

    def add(sums: Any, each: tuple[jax.Array, _Batch]) -> tuple[Any, Any]:
        more, rows = function(*each)
        return jax.tree.map(jnp.add, sums, more), rows

    parts = jax.tree.map(split, (hidden, batch))
    sums, first = function(*jax.tree.map(lambda x: x[0], parts))
    sums, rest = jax.lax.scan(add, sums, jax.tree.map(lambda x: x[1:], parts))
    return sums, jax.tree.map(
        lambda a, b: jnp.concatenate([a, b.reshape(-1, *b.shape[2:])])[:count], first, rest
    )
