"""Reading inks with a network, and the errors of what was read."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from rapidfuzz.distance import Levenshtein

from experiments.handwriting_recognition.data import Source, text_of
from experiments.handwriting_recognition.model import frames
from lstmjax import decoding
from lstmjax.decoding import Automaton
from lstmjax.nnx import Functional
from lstmjax.training.batching import Padded, PairBatches
from lstmjax.types import Params


@functools.partial(jax.jit, static_argnums=(0,))
def logits_of(model: Functional, params: Params, path: Padded) -> jax.Array:
    """Logits of a batch, of frames or of inks."""
    return model.bind(params)(path.values, path.lengths)


def read(source: Source, model: Functional, params: Params, batches: PairBatches) -> list[str]:
    """The texts of all inks: the best path of CTC, or the likeliest character."""
    texts = [""] * len(batches.sources)
    for batch in batches.once():
        logits = logits_of(model, params, batch.source)
        if source.whole:
            found = np.asarray(logits.argmax(axis=-1))[:, None]
        else:
            found = np.asarray(decoding.ctc_greedy(logits, frames(batch.source.lengths))[0])
        for item, classes in zip(batch.items, found, strict=True):
            if item >= 0:
                texts[item] = text_of(source, classes)
    return texts


class Beam(NamedTuple):
    """Prefix beam search."""

    beams: int = 16
    language: Automaton | None = None
    weight: float = 1.0
    """Of the language model."""
    bonus: float = 0.0
    """For each letter, since a language model prefers few."""


LONGEST = 24
"""Letters of the longest text that the beam search finds; the longest label has 18."""


@functools.partial(jax.jit, static_argnames="beams")
def _search(
    logits: jax.Array,
    lengths: jax.Array,
    language: Automaton | None,
    *,
    beams: int,
    weight: float,
    bonus: float,
) -> decoding.Hypotheses:
    return decoding.ctc_beam_search(
        logits, lengths, beams, LONGEST, language=language, language_weight=weight, label_bonus=bonus
    )


def search(
    source: Source, model: Functional, params: Params, batches: PairBatches, beam: Beam
) -> list[list[tuple[str, float]]]:
    """The texts that the beam search finds for each ink, best first, with their scores in nats."""
    found: list[list[tuple[str, float]]] = [[] for _ in batches.sources]
    for batch in batches.once():
        logits = logits_of(model, params, batch.source)
        settings = {"beams": beam.beams, "weight": beam.weight, "bonus": beam.bonus}
        hypotheses = _search(logits, frames(batch.source.lengths), beam.language, **settings)
        tokens, scores = np.asarray(hypotheses.tokens), np.asarray(hypotheses.scores)
        for row, item in enumerate(batch.items):
            if item >= 0:
                there = scores[row] > -np.inf
                texts = [text_of(source, each) for each in tokens[row][there].tolist()]
                found[item] = list(zip(texts, scores[row][there].tolist(), strict=True))
    return found


class Errors(NamedTuple):
    """Error rates of texts."""

    cer: float
    """Insertions, deletions and substitutions, by characters of the labels; NaN if there are none."""
    wer: float
    """Share of texts that are not the label."""


def errors(labels: Sequence[str], texts: Sequence[str]) -> Errors:
    """The error rates of texts, upper and lower case being different."""
    distance = sum(map(Levenshtein.distance, labels, texts))
    wrong = sum(label != text for label, text in zip(labels, texts, strict=True))
    characters = sum(map(len, labels))
    return Errors(distance / (characters or np.nan), wrong / (len(labels) or np.nan))
