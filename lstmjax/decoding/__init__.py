"""Decoding: sequences of tokens from a step function, in loops that end as soon as every row has ended.

A *step function* is ``step(state, tokens) -> (state, logits)``: it takes the last tokens, int32 ``[batch]``,
and returns logits ``[batch, vocabulary]`` of the next ones; the state is any pytree of arrays
``[batch, ...]``. It may close over constant arrays ``[batch, ...]``, such as the memory of an attention:
`beam_search` maps it over the beams of each row, so these arrays are shared between beams, whereas the state
is copied and gathered.

A sequence ends with the token ``end``, or is cut after ``max_length`` tokens. Its log-probability is the sum
over its tokens, including ``end`` if present, so that the probabilities of all sequences sum to 1. Tokens
with logits of minus infinity are never taken if there is another. Rows do not depend on each other.

`ctc_greedy`, `ctc_beam_search` and `ctc_align` take logits per frame instead, those of connectionist temporal
classification.

The loops are traced with the enclosing function; called outside of `jax.jit`, they are traced at each call.
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
from lstmjax.decoding.ctc import ctc_align, ctc_beam_search, ctc_greedy
from lstmjax.decoding.language import Automaton, character_ngram, lexicon
from lstmjax.decoding.sampling import Decoded, greedy, keep_nucleus, sample

__all__ = [
    "Automaton",
    "Decoded",
    "Hypotheses",
    "LengthPenalty",
    "Start",
    "Step",
    "beam_search",
    "character_ngram",
    "ctc_align",
    "ctc_beam_search",
    "ctc_greedy",
    "gather_beams",
    "gnmt_length_penalty",
    "greedy",
    "keep_nucleus",
    "lexicon",
    "power_length_penalty",
    "sample",
]
