"""Losses for masked sequences, in nats.

Each takes logits, targets and an optional mask of valid positions, and returns one loss per position, zero
where the mask is false. Logits at masked positions, NaN included, have no influence on any loss or gradient.
`lstmjax.metrics.Mean` averages over valid positions only.
"""

from lstmjax.losses.ctc import ctc, ctc_feasible
from lstmjax.losses.masked import bernoulli, cross_entropy
from lstmjax.losses.vocabulary import vocabulary_cross_entropy

__all__ = ["bernoulli", "cross_entropy", "ctc", "ctc_feasible", "vocabulary_cross_entropy"]
