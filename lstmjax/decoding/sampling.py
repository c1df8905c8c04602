"""Greedy decoding and sampling."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.checks import check_sizes
from lstmjax.decoding.core import Start, Step, before_end, dtype_of_logits, first_tokens, log_probabilities
from lstmjax.sharding import divide_alike
from lstmjax.types import Array, Key, State


class Decoded(NamedTuple):
    """One sequence of tokens for each row."""

    tokens: jax.Array
    """int32 ``[batch, max_length]``, padded with ``end``."""
    lengths: jax.Array
    """int32 ``[batch]``: number of tokens before ``end``."""
    log_probs: jax.Array
    """``[batch]``, at least float32: log-probabilities under the model."""


def greedy(step: Step, state: State, start: Start, end: int, max_length: int) -> Decoded:
    r"""The likeliest token at each step: :math:`y_t = \arg\max_y p(y | y_1, ..., y_{t-1})`.

    Args:
      step: a step function.
      state: before the first step, a pytree of arrays ``[batch, ...]``.
      start: the token before the first one, an integer or integers ``[batch]``.
      end: the token that ends a sequence.
      max_length: the largest number of tokens, including ``end``.

    Raises:
      ValueError: a shape does not fit, ``end`` is not in the vocabulary, or ``max_length`` is not positive.

    Example:
      >>> step = lambda state, tokens: (state, jax.nn.one_hot(tokens + 1, 4))
      >>> decoded = greedy(step, (), start=jnp.array([0, 2]), end=3, max_length=5)
      >>> decoded.tokens.tolist(), decoded.lengths.tolist()
      ([[1, 2, 3, 3, 3], [3, 3, 3, 3, 3]], [2, 0])
    """
    return _decode(
        "greedy", step, state, start, end, max_length, lambda number, logits: logits.argmax(axis=-1)
    )


def sample(
    step: Step,
    state: State,
    start: Start,
    end: int,
    max_length: int,
    key: Key,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Decoded:
    r"""Tokens drawn one after the other: :math:`y_t \sim p(y | y_1, ..., y_{t-1})^{1 / \tau}`, normalized.

    A row's tokens depend on the key, the number of the row and its own logits, not on other rows.

    Args:
      step: a step function.
      state: before the first step, a pytree of arrays ``[batch, ...]``.
      start: the token before the first one, an integer or integers ``[batch]``.
      end: the token that ends a sequence.
      max_length: the largest number of tokens, including ``end``.
      key: random key.
      temperature: :math:`\tau`; 1 samples from the model itself, less favours likely tokens.
      top_p: of `keep_nucleus`, applied after the temperature; 1 keeps all tokens.

    Returns:
      `Decoded`; its log-probabilities are those of the model, without temperature and nucleus.

    Raises:
      ValueError: as for `greedy`, or ``temperature`` is not positive, or ``top_p`` not in (0, 1].

    Example:
      >>> step = lambda state, tokens: (state, jnp.zeros((1000, 3)))
      >>> decoded = sample(step, (), jnp.zeros(1000, int), end=0, max_length=9, key=jax.random.key(0))
      >>> 1.6 < float(decoded.lengths.mean()) < 2.3
      True
    """
    if not temperature > 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"sample: temperature must be positive and top_p in (0, 1], got {temperature} and {top_p}; for "
            "the likeliest token always there is greedy."
        )

    def choose(number: jax.Array, logits: jax.Array) -> jax.Array:
        def draw(row: jax.Array, logits: jax.Array) -> jax.Array:
            return jax.random.categorical(jax.random.fold_in(jax.random.fold_in(key, row), number), logits)

        logits = logits / temperature
        rows = divide_alike(jnp.arange(len(logits)), like=logits)
        return jax.vmap(draw)(rows, logits if top_p == 1 else keep_nucleus(logits, top_p))

    return _decode("sample", step, state, start, end, max_length, choose)


def keep_nucleus(
    logits: Float[Array, "*batch vocabulary"], top_p: float
) -> Float[jax.Array, "*batch vocabulary"]:
    """Set the logits of all tokens outside the nucleus to minus infinity.

    The nucleus is the smallest set of likeliest tokens with a total probability of at least ``top_p``. The
    likeliest token is always kept.

    Source: Holtzman et al. 2020 (arXiv:1904.09751).

    Example:
      >>> probabilities = jnp.array([0.5, 0.1, 0.3, 0.1])
      >>> kept = jax.nn.softmax(keep_nucleus(jnp.log(probabilities), 0.7))
      >>> bool(jnp.allclose(kept, jnp.array([5, 0, 3, 0]) / 8))
      True
    """
    ordered = jnp.sort(logits, axis=-1, descending=True)
    before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
    least = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    least = jnp.minimum(least, ordered[..., :1])
    return jnp.where(logits >= least, logits, -jnp.inf)


class _Rows(NamedTuple):
    """The carry of the loop of `_decode`."""

    number: jax.Array
    state: State
    last: jax.Array
    done: jax.Array
    tokens: jax.Array
    log_probs: jax.Array


def _decode(
    name: str,
    step: Step,
    state: State,
    start: Start,
    end: int,
    max_length: int,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
) -> Decoded:
    """Decode token by token, each selected by ``choose(number of the step, logits)``."""
    check_sizes(name, max_length=max_length)
    first = first_tokens(name, state, start)
    dtype = dtype_of_logits(name, step, state, first, end)

    def advance(rows: _Rows) -> _Rows:
        state, logits = step(rows.state, rows.last)
        chosen = choose(rows.number, logits).astype(jnp.int32)
        gained = jnp.take_along_axis(log_probabilities(logits), chosen[:, None], axis=-1)[:, 0]
        last = jnp.where(rows.done, end, chosen)
        return _Rows(
            number=rows.number + 1,
            state=state,
            last=last,
            done=rows.done | (last == end),
            tokens=rows.tokens.at[:, rows.number].set(last),
            log_probs=rows.log_probs + jnp.where(rows.done, jnp.zeros_like(gained), gained),
        )

    done, log_probs = jnp.zeros(first.shape, bool), jnp.zeros(first.shape, dtype)
    tokens = jnp.full((*first.shape, max_length), end, jnp.int32)
    rows = _Rows(
        jnp.zeros((), jnp.int32), state, *divide_alike((first, done, tokens, log_probs), like=(state, first))
    )
    rows = jax.lax.while_loop(lambda rows: (rows.number < max_length) & ~rows.done.all(), advance, rows)
    return Decoded(rows.tokens, before_end(rows.tokens, end), rows.log_probs)
