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
