"""Decoding: sequences of tokens from a step function, in loops that end as soon as every row has.

A *step function* is ``step(state, tokens) -> (state, logits)``: it takes the last tokens, int32 ``[batch]``,
and returns logits ``[batch, vocabulary]`` of the next ones; the state is any pytree of arrays
``[batch, ...]``. It may close over arrays ``[batch, ...]`` that stay as they are, such as the memory of an
attention: `beam_search` maps it over the beams of each row, so that these are shared, where a state is copied
and gathered.

A sequence is over with the token ``end``, or cut after ``max_length`` tokens. Its log-probability is the sum
over its tokens, ``end`` among them if it is there, so that the probabilities of all sequences sum to 1.
Tokens whose logits are minus infinity are never taken where there is another. Rows do not depend on each
other.

The loops are traced with the function around them; called outside of `jax.jit` they are traced in each call.
"""

from lstmjax.decoding.beam_search import (
    Hypotheses,
    LengthPenalty,
    beam_search,
    gather_beams,
    gnmt_length_penalty,
    power_length_penalty,
)
from lstmjax.decoding.core import Start, Step
from lstmjax.decoding.sampling import Decoded, greedy, keep_nucleus, sample

__all__ = [
    "Decoded",
    "Hypotheses",
    "LengthPenalty",
    "Start",
    "Step",
    "beam_search",
    "gather_beams",
    "gnmt_length_penalty",
    "greedy",
    "keep_nucleus",
    "power_length_penalty",
    "sample",
]
