"""Sentences for videos, and how good they are."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sacrebleu

from experiments.video_to_text.data import END, decode
from experiments.video_to_text.material import TestSet
from experiments.video_to_text.task import Saved
from lstmjax import decoding
from lstmjax.nnx import Functional
from lstmjax.training.batching import pad
from lstmjax.types import Params

LONGEST = 30
"""The most words of a sentence that is written."""


class Described(NamedTuple):
    """A video with the sentence that a model writes."""

    frames: np.ndarray
    sentence: str
    references: Sequence[str]
    """The sentences that are right."""

    @property
    def right(self) -> bool:
        """Whether the sentence is one of those."""
        return self.sentence in self.references


def describe(saved: Saved, videos: Sequence[np.ndarray], beams: int = 1) -> list[str]:
    """The sentences for videos, by greedy or beam search."""
    video, lengths = pad(videos, max(saved.config.frames, *map(len, videos)))
    words = _write(saved.model, saved.params, video, lengths, beams)
    return [decode(saved.words, row.tolist()) for row in np.asarray(words)]


def describe_all(saved: Saved, test: TestSet) -> Iterator[Described]:
    """All videos of a test set."""
    for batch in test.batches.once():
        words = np.asarray(_write(saved.model, saved.params, *batch.source, 1))
        for row, item in enumerate(batch.items):
            if item >= 0:
                frames = batch.source.values[row, : batch.source.lengths[row]]
                yield Described(frames, decode(saved.words, words[row].tolist()), test.references[item])


def figures(described: Sequence[Described]) -> dict[str, float]:
    """The share of sentences that are right, and BLEU-4 by sacrebleu, of words parted by spaces."""
    hypotheses = [each.sentence for each in described]
    most = max(len(each.references) for each in described)
    references = [
        [each.references[number] if number < len(each.references) else None for each in described]
        for number in range(most)
    ]
    bleu = sacrebleu.corpus_bleu(hypotheses, references, tokenize="none", force=True).score
    return {"exact": float(np.mean([each.right for each in described])), "bleu4": float(bleu)}


@functools.partial(jax.jit, static_argnames=("model", "beams"))
def _write(model: Functional, params: Params, video: jax.Array, lengths: jax.Array, beams: int) -> jax.Array:
    """Words ``[batch, LONGEST]``."""
    module = model.bind(params)
    watched = module.watch(video, lengths)

    def step(state, words):  # type: ignore[no-untyped-def]
        after, (logits, _) = module.step(watched, state, words)
        return after, logits

    start = jnp.full(len(video), END)
    if beams == 1:
        return decoding.greedy(step, watched.start, start, END, LONGEST).tokens
    found = decoding.beam_search(step, watched.start, start, END, LONGEST, beams, length_penalty=1.0)
    return found.tokens[:, 0]
