r"""An mLSTM over a sequence in chunks: products of matrices within each, a short scan over the memories.

At a step t there is of what step s of its chunk has written, and of the memory before the chunk,

.. math::
    \exp(D_{ts} - m_t), \quad D_{ts} = \sum_{u = s + 1}^{t} \log f_u + \log i_s, \qquad
    \exp(F_t + m_0 - m_t), \quad F_t = \sum_{u = 1}^{t} \log f_u,

where :math:`m_t` is the memory's scale. So a chunk reads by products with the keys and values of its own
steps, and with the memory before it; only the memories follow each other. A reset takes away all that is
before it, also a state that is not finite; inputs that are not reach all steps of their chunk. Padding has
:math:`\log f = 0` and writes nothing.

Source: Beck et al. 2024 (arXiv:2405.04517, appendix A.3); in chunks: Yang et al. 2024 (PMLR 235, Gated Linear
Attention Transformers).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends.scan import Masks, decayed, select
from lstmjax.cells.xlstm import MLSTM, MLSTMParams, MLSTMState

CHUNK = 64
"""Steps of a chunk."""

_einsum = functools.partial(jnp.einsum, precision="highest")


def chunkwise(
    cell: MLSTM,
    params: MLSTMParams,
    inputs: jax.Array,
    state: MLSTMState,
    masks: Masks,
    reverse: bool,
) -> tuple[MLSTMState, jax.Array, None]:
    """Run an mLSTM over time-major inputs; arguments and results as in `lstmjax.backends.scan.scan`."""
    if reverse:
        inputs, masks = jax.tree.map(lambda x: x[::-1], (inputs, masks))
    query, key, value, log_input, f, o = cell.steps(params, inputs)
    log_forget = cell.log_forget(f)
    if masks.valid is not None:
        log_forget = select(masks.valid, log_forget, jnp.zeros_like(log_forget))
        log_input = select(masks.valid, log_input, jnp.full_like(log_input, -jnp.inf))
    time = len(inputs)
    chunk = min(CHUNK, max(time, 1))
    fresh, empty = _beginnings(cell, state, key, log_input, masks)
    query, key, value = (_fold(chunk, x, -2) for x in (query, key, value))
    log_forget, fresh, empty = (_fold(chunk, x, -1) for x in (log_forget, fresh, empty))
    log_input = _fold(chunk, log_input, -1, fill=-jnp.inf)
    state, read = _chunks(cell.most, state, query, key, value, log_forget, log_input, fresh, empty)
    read = jnp.moveaxis(read, -2, 1).reshape(len(read) * chunk, *o.shape[1:])[:time]
    outputs = (jax.nn.sigmoid(o) * read).astype(cell.dtype)
    if masks.valid is not None:
        outputs = select(masks.valid, outputs, jnp.zeros_like(outputs))
    return state, outputs[::-1] if reverse else outputs, None


def _fold(chunk: int, x: jax.Array, axis: int, fill: float = 0) -> jax.Array:
    """Time, the first axis, as chunks, the first axis, and steps of a chunk; the last chunk is filled up."""
    padded = jnp.pad(x, [(0, -len(x) % chunk)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return jnp.moveaxis(padded.reshape(len(padded) // chunk, chunk, *x.shape[1:]), 1, axis)


def _beginnings(
    cell: MLSTM, state: MLSTMState, key: jax.Array, log_input: jax.Array, masks: Masks
) -> tuple[jax.Array, jax.Array]:
    """Where the state before a step is the initial one, and where it is empty: ``[time, ..., heads]``."""
    shape = key.shape[:-1]
    number = jnp.arange(1, len(key) + 1).reshape(-1, *(1,) * (key.ndim - 2))
    fresh = jnp.zeros((*shape[:-1], 1), bool) if masks.fresh is None else masks.fresh[..., None]
    writes = (key != 0).any(axis=-1) & (log_input > -jnp.inf)
    written = jnp.concatenate([jnp.where(cell.is_empty(state), -1, 0)[None], jnp.where(writes, number, -1)])
    # The step that was the last to write, before each step, and the first whose writing would count there.
    written, begun = jax.lax.cummax(written)[:-1], jax.lax.cummax(jnp.where(fresh, number, 0))
    empty = written < begun
    return jnp.broadcast_to(fresh, shape), empty if masks.valid is None else empty & masks.valid[..., None]


def _chunks(
    most: float,
    state: MLSTMState,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    log_forget: jax.Array,
    log_input: jax.Array,
    fresh: jax.Array,
    empty: jax.Array,
) -> tuple[MLSTMState, jax.Array]:
    """The last state, and what is read, ``[chunks, ..., heads, time, head_size]``, as the vectors are.

    Gates and masks are ``[chunks, ..., heads, time]``.
    """
    time = query.shape[-2]
    later = jnp.tril(jnp.broadcast_to(log_forget[..., None], (*log_forget.shape, time)), -1)
    # The sum of what lies between: the difference of two sums is less exact.
    decay = _einsum("tu,...us->...ts", jnp.tri(time, dtype=later.dtype), later)
    since = jnp.cumsum(log_forget, axis=-1)

    def within(begins: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Which steps, and whether the state before the chunk, are of the same sequence as each step."""
        part = jnp.cumsum(begins, axis=-1)
        return jnp.tril(part[..., :, None] == part[..., None, :]), part == 0

    # As in a step, an empty memory has no say in the scale, and what is written has -most at least.
    steps, has_state = within(empty)
    least = jnp.where(log_input > -jnp.inf, jnp.maximum(log_input, -most), log_input)
    own = jnp.where(steps, decay + least[..., None, :], -jnp.inf).max(axis=-1)
    earlier = jnp.where(has_state, since, -jnp.inf)

    def scale(before: Any, chunk: Any) -> tuple[jax.Array, jax.Array]:
        own, earlier = chunk
        return _larger(before, earlier, own), before

    last, before = jax.lax.scan(scale, state.stabilizer, (own[..., -1], earlier[..., -1]))
    stabilizer = _larger(before[..., None], earlier, own)

    def weights(exponents: jax.Array, is_there: jax.Array) -> jax.Array:
        return jnp.exp(jnp.where(is_there, jnp.minimum(exponents, most), -jnp.inf))

    steps, has_state = within(fresh)
    written = weights(decay + log_input[..., None, :] - stabilizer[..., None], steps)
    kept = weights(since + before[..., None] - stabilizer, has_state)

    left = written[..., -1, :, None] * key
    added = _einsum("...sv,...sk->...vk", value, left), left.sum(axis=-2)

    def remember(memory: Any, chunk: Any) -> tuple[Any, Any]:
        kept, (cell, normalizer) = chunk
        after = (
            decayed(kept[..., None, None], memory[0]) + cell,
            decayed(kept[..., None], memory[1]) + normalizer,
        )
        return after, memory

    after, (cell, normalizer) = jax.lax.scan(remember, (state.cell, state.normalizer), (kept[..., -1], added))

    scores = written * _einsum("...tk,...sk->...ts", query, key)
    is_left = kept != 0
    query = jnp.where(is_left[..., None], kept[..., None] * query, 0)
    found = jnp.where(is_left, _einsum("...tk,...k->...t", query, normalizer), 0) + scores.sum(axis=-1)
    found = jnp.maximum(jnp.abs(found), jnp.exp(-jnp.minimum(stabilizer, most)))
    read = jnp.where(is_left[..., None], _einsum("...tk,...vk->...tv", query, cell), 0)
    read += _einsum("...ts,...sv->...tv", scores, value)
    return MLSTMState(*after, last), read / found[..., None]


def _larger(before: jax.Array, earlier: jax.Array, own: jax.Array) -> jax.Array:
    """The maximum of ``before + earlier`` and ``own``; the latter where ``earlier`` is minus infinity."""
    return jnp.maximum(jnp.where(earlier == -jnp.inf, earlier, before + earlier), own)
