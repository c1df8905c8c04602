"""Beam search over a step function, for all rows and beams at once; public in `lstmjax.decoding`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from lstmjax.checks import check_sizes
from lstmjax.decoding.core import Start, Step, before_end, dtype_of_logits, first_tokens, log_probabilities
from lstmjax.sharding import divide_alike
from lstmjax.types import Array, State

LengthPenalty = Callable[[jax.Array], jax.Array]
"""``lengths -> penalties``: positive divisors of log-probabilities, of the dtype of the lengths."""


class Hypotheses(NamedTuple):
    """Several sequences of tokens per row, best first; if fewer were found, the last ones are empty."""

    tokens: jax.Array
    """int32 ``[batch, beams, max_length]``, padded with ``end``."""
    lengths: jax.Array
    """int32 ``[batch, beams]``: number of tokens before ``end``."""
    log_probs: jax.Array
    """``[batch, beams]``, at least float32: log-probabilities under the model; minus infinity if empty."""
    scores: jax.Array
    """``[batch, beams]``: the scores that define the order; minus infinity if empty."""


def gnmt_length_penalty(alpha: float | Float[Array, ""]) -> LengthPenalty:
    r""":math:`((5 + l) / 6)^\alpha` (Wu et al. 2016, arXiv:1609.08144, equation 14); alpha may be traced."""
    return lambda lengths: ((5 + lengths) / 6) ** alpha


def power_length_penalty(alpha: float) -> LengthPenalty:
    r""":math:`l^\alpha`: with 1, the mean log-probability of a token."""
    return lambda lengths: lengths**alpha


def gather_beams(tree: Any, indices: Array) -> Any:
    """Select beams of arrays ``[batch, beams, ...]`` by indices ``[batch, new beams]``.

    Example:
      >>> gather_beams({"a": jnp.array([[1, 2, 3], [4, 5, 6]])}, jnp.array([[2, 2], [0, 1]]))["a"].tolist()
      [[3, 3], [4, 5]]
    """
    return jax.tree.map(lambda leaf: jax.vmap(lambda row, index: row[index])(leaf, indices), tree)


class _Finished(NamedTuple):
    """Finished hypotheses, best first."""

    tokens: jax.Array
    log_probs: jax.Array
    scores: jax.Array


class _Alive(NamedTuple):
    """Unfinished hypotheses, likeliest first; empty ones have a log-probability of minus infinity."""

    number: jax.Array
    state: State
    last: jax.Array
    tokens: jax.Array
    log_probs: jax.Array
    finished: _Finished


def beam_search(
    step: Step,
    state: State,
    start: Start,
    end: int,
    max_length: int,
    beams: int,
    length_penalty: float | LengthPenalty = 0.0,
    coverage: Callable[[State], jax.Array] | None = None,
    coverage_penalty: float = 0.0,
    coverage_mask: Bool[Array, "batch source"] | None = None,
) -> Hypotheses:
    r"""The highest-scoring sequences found by beam search.

    .. math:: \mathrm{score}(y) = \frac{\log p(y)}{\mathrm{lp}(l)}
       + \beta \sum_i \log \min(\textstyle\sum_t a_{ti}, 1), \quad \mathrm{lp}(l) = ((5 + l) / 6)^\alpha

    where l is the number of tokens, including ``end``. At each step every alive hypothesis is extended with
    ``end``, and the best ``beams`` finished hypotheses are kept; of all other continuations, the likeliest
    ``beams`` stay alive. Hypotheses still alive after ``max_length`` tokens compete as they are, without
    ``end``. A row is done when no alive hypothesis could score better than the worst finished one kept, even
    if it continued with probability 1 to the length with the most favourable penalty.

    With as many beams as there are sequences the search is exact. With one beam and no penalties it finds
    the sequence of `greedy` or a likelier one: greedy does not consider ending where another token is
    likelier.

    Args:
      step: a step function, see `lstmjax.decoding`; it is mapped over beams with `jax.vmap`, so it takes
        arrays ``[batch, ...]`` as in `greedy`, and the beams of a row share those that it closes over.
      state: before the first step, a pytree of arrays ``[batch, ...]``.
      start: the token before the first one, an integer or integers ``[batch]``.
      end: the token that ends a sequence.
      max_length: the largest number of tokens, including ``end``.
      beams: number of alive hypotheses, and of finished ones kept.
      length_penalty: alpha; or a function, such as `power_length_penalty` makes. 0 is no penalty.
      coverage: maps the state after a step to the sum of the attention weights so far, ``[batch, source]``.
      coverage_penalty: beta, not negative. Sums are clipped below at the smallest normal number, so that
        scores are finite.
      coverage_mask: booleans ``[batch, source]``: true where the source is valid; the rest is ignored.

    Raises:
      ValueError: a shape does not fit, ``end`` is not in the vocabulary, ``max_length`` or ``beams`` is not
        positive, or the coverage penalty is negative or without a coverage.

    Source: Wu et al. 2016 (arXiv:1609.08144, section 7).

    Example:
      >>> step = lambda state, tokens: (state, jnp.log(jnp.array([[0.1, 0.6, 0.3]])))
      >>> found = beam_search(step, (), start=jnp.array([0]), end=2, max_length=3, beams=2)
      >>> found.tokens[0].tolist(), found.lengths[0].tolist(), [f"{p:.3f}" for p in jnp.exp(found.scores[0])]
      ([[2, 2, 2], [1, 1, 1]], [0, 3], ['0.300', '0.216'])
    """
    check_sizes("beam_search", max_length=max_length, beams=beams)
    if not coverage_penalty >= 0 or (coverage_penalty > 0 and coverage is None):
        raise ValueError(
            "beam_search: coverage_penalty must not be negative, and needs a coverage, got "
            f"{coverage_penalty}{' without a coverage' if coverage is None else ''}."
        )
    first = first_tokens("beam_search", state, start)
    dtype = dtype_of_logits("beam_search", step, state, first, end)
    shape = (*first.shape, beams)
    penalty = length_penalty if callable(length_penalty) else gnmt_length_penalty(length_penalty)
    penalties = penalty(jnp.arange(1, max_length + 1).astype(dtype))
    best_penalties = jax.lax.cummax(penalties, reverse=True)

    def score(log_probs: jax.Array, length_index: jax.Array | int, state: State) -> jax.Array:
        scores = log_probs / penalties[length_index]
        if coverage is None or coverage_penalty == 0:
            return scores
        sums = jax.vmap(coverage, 1, 1)(state).astype(dtype)
        logs = jnp.log(jnp.clip(sums, jnp.finfo(dtype).tiny, 1))
        if coverage_mask is not None:
            logs = jnp.where(coverage_mask[:, None], logs, jnp.zeros_like(logs))
        return scores + coverage_penalty * logs.sum(axis=-1)

    def is_wanted(alive: _Alive) -> jax.Array:
        bound = alive.log_probs[:, 0] / best_penalties[alive.number]
        done = alive.finished.scores[:, -1] >= bound
        return (alive.number < max_length) & ~done.all()

    def advance(alive: _Alive) -> _Alive:
        state, logits = jax.vmap(step, 1, 1)(alive.state, alive.last)
        candidates = alive.log_probs[..., None] + log_probabilities(logits)
        ended = candidates[..., end]
        finished = _best(alive.finished, _Finished(alive.tokens, ended, score(ended, alive.number, state)))
        vocabulary = logits.shape[-1]
        candidates = candidates.at[..., end].set(-jnp.inf).reshape(shape[0], beams * vocabulary)
        log_probs, chosen = jax.lax.top_k(candidates, beams)
        state, tokens = gather_beams((state, alive.tokens), chosen // vocabulary)
        last = (chosen % vocabulary).astype(jnp.int32)
        tokens = tokens.at[..., alive.number].set(last)
        return _Alive(alive.number + 1, state, last, tokens, log_probs, finished)

    tokens = jnp.full((*shape, max_length), end, jnp.int32)
    nothing = jnp.full(shape, -jnp.inf, dtype)
    alive = _Alive(
        number=jnp.zeros((), jnp.int32),
        state=jax.tree.map(lambda leaf: _repeat(leaf, beams), state),
        last=_repeat(first, beams),
        tokens=tokens,
        log_probs=nothing.at[:, 0].set(0),
        finished=_Finished(tokens, nothing, nothing),
    )
    alive = _Alive(alive.number, *divide_alike(tuple(alive[1:]), like=(state, first)))
    alive = jax.lax.while_loop(is_wanted, advance, alive)
    # If the loop ended before max_length, the bound guarantees that none of these ranks above those kept.
    cut = score(alive.log_probs, max_length - 1, alive.state)
    found = _best(alive.finished, _Finished(alive.tokens, alive.log_probs, cut))
    return Hypotheses(found.tokens, before_end(found.tokens, end), found.log_probs, found.scores)


def _best(kept: _Finished, new: _Finished) -> _Finished:
    """The best of both, as many as are kept; ties go to those already kept."""
    both = jax.tree.map(lambda left, right: jnp.concatenate([left, right], axis=1), kept, new)
    _, indices = jax.lax.top_k(both.scores, kept.scores.shape[1])
    return gather_beams(both, indices)


def _repeat(leaf: Array, beams: int) -> jax.Array:
    """``[batch, ...]`` to ``[batch, beams, ...]``."""
    return jnp.repeat(jnp.expand_dims(leaf, 1), beams, axis=1)
