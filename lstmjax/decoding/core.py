"""The common parts of all decoders: the step function, its checks, and log-probabilities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from lstmjax.checks import check_tree, describe
from lstmjax.types import Array, State, at_least_float32

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]
"""``(state, tokens [batch]) -> (state, logits [batch, vocabulary])``."""

Start = int | Integer[Array, ""] | Integer[Array, " batch"]
"""The token before the first one: the same for all rows, or one per row."""


def log_probabilities(logits: Float[Array, "*batch vocabulary"]) -> Float[jax.Array, "*batch vocabulary"]:
    """The log-softmax in at least float32; minus infinity for all tokens where all logits are."""
    logits = logits.astype(at_least_float32(logits.dtype))
    possible = logits.max(axis=-1, keepdims=True) > -jnp.inf
    logits = jnp.where(possible, logits, jnp.zeros_like(logits))
    return jnp.where(possible, jax.nn.log_softmax(logits, axis=-1), -jnp.inf)


def first_tokens(name: str, state: State, start: Start) -> jax.Array:
    """The tokens before the first ones, int32 ``[batch]``; raise unless the state's batch is the same."""
    leaves = jax.tree.leaves(state)
    if not jnp.issubdtype(jnp.result_type(start), jnp.integer):
        raise TypeError(f"{name}: start must be integers, got {describe(start)}.")
    first = jnp.asarray(start, jnp.int32)
    if first.ndim > 1 or (first.ndim == 0 and not leaves):
        raise ValueError(
            f"{name}: start must be integers [batch], or a number where the state has arrays that tell the "
            f"batch; got an array of shape {first.shape}."
        )
    batch = first.shape[:1] or jnp.shape(leaves[0])[:1]
    for leaf in leaves:
        if jnp.shape(leaf)[:1] != batch or not batch:
            raise ValueError(
                f"{name}: every array of the state must begin with the batch, {batch}; got {jnp.shape(leaf)}."
            )
    return jnp.broadcast_to(first, batch)


def dtype_of_logits(name: str, step: Step, state: State, tokens: jax.Array, end: int) -> Any:
    """The dtype of log-probabilities; raise unless the step gives logits that fit."""
    result = jax.eval_shape(step, state, tokens)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: step must return the next state and the logits, got {describe(result)}.")
    after, logits = result
    check_tree(
        f"{name}: the state that step returns: state", after, jax.eval_shape(lambda: state), "the start"
    )
    if logits.ndim != 2 or logits.shape[0] != tokens.shape[0]:
        raise ValueError(
            f"{name}: step must return logits [batch, vocabulary] with a batch of {tokens.shape[0]}, got "
            f"shape {logits.shape}."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{name}: step must return logits in floating point, got {describe(logits)}.")
    if not 0 <= end < logits.shape[1]:
        raise ValueError(f"{name}: end must be a token in 0..{logits.shape[1] - 1}, got {end}.")
    return at_least_float32(logits.dtype)


def before_end(tokens: Integer[Array, "*batch time"], end: int) -> Integer[jax.Array, "*batch"]:
    """Number of tokens before ``end``, for sequences padded with it."""
    return (tokens != end).sum(axis=-1, dtype=jnp.int32)
