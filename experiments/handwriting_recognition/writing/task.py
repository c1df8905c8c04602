"""The training task of synthesis: words by themselves, and pairs of words of one writer."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from experiments import datasets
from experiments.common import models
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.writing import path
from experiments.handwriting_recognition.writing.model import Architecture, Writer, encode, make_model
from experiments.handwriting_recognition.writing.path import Word
from lstmjax import training
from lstmjax.losses import bernoulli, mixture_density
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params

MOST_POINTS = 250
"""Longer words and pairs are not trained on; they are evaluated."""


def load(config: Config) -> datasets.Splits[Word]:
    """The words of the splits as paths; the noise of their points is that of seed 0 in every run."""
    parts = datasets.load("unipen-words", config.data_dir).limited(config.limit)
    return datasets.Splits(*(tuple(path.words(part, config.tolerance)) for part in parts))


def pairs(words: Sequence[Word], seed: int = 0) -> list[tuple[Word, Word]]:
    """Pairs of different words of one writer, chosen at random; a word is in one pair at most."""
    found: list[tuple[Word, Word]] = []
    by_writer: dict[str, list[Word]] = {}
    for number in np.random.default_rng(seed).permutation(len(words)):
        by_writer.setdefault(words[number].writer, []).append(words[number])
    for own in by_writer.values():
        found += [pair for pair in zip(own[::2], own[1::2], strict=False) if pair[0].text != pair[1].text]
    return found


def joined(first: Word, second: Word) -> Word:
    """Two words as one item: a space between their texts, no step between their paths."""
    return Word(f"{first.text} {second.text}", np.concatenate([first.path, second.path]), first.writer)


def training_items(words: Sequence[Word], seed: int = 0) -> list[Word]:
    """Every word once: about half of them by themselves, the others in pairs of one writer."""
    both = [pair for number, pair in enumerate(pairs(words, seed)) if number % 2]
    paired = {id(word) for pair in both for word in pair}
    alone = [word for word in words if id(word) not in paired]
    items = alone + [joined(*pair) for pair in both]
    return [item for item in items if len(item.path) <= MOST_POINTS]


def make_batches(config: Config, words: Sequence[Word], buckets: int) -> PairBatches:
    """Batches of paths with their texts; each bucket is compiled."""
    return PairBatches(
        [word.path for word in words], [encode(word.text) for word in words], config.batch_points, buckets
    )


class Losses(NamedTuple):
    """The negative log-likelihood of each point of a batch, in nats; 0 where there is none."""

    step: Float[jax.Array, "batch points"]
    """Of the next step and whether a stroke ends after it; none from one word to the next."""
    stop: Float[jax.Array, "batch points"]
    """Of whether the word ends here, where a stroke does."""
    last: Bool[jax.Array, "batch points"]
    """Whether this is the last word of the item."""

    @property
    def scored(self) -> Float[jax.Array, "batch points"]:
        """The sum of both, in the last word of each item."""
        return jnp.where(self.last, self.step + self.stop, 0)


def losses(module: Writer, batch: Pairs) -> Losses:
    """The losses of a batch of items."""
    points, lengths = jnp.asarray(batch.source.values), jnp.asarray(batch.source.lengths)
    memory = module.prepare(jnp.asarray(batch.target.values), jnp.asarray(batch.target.lengths))
    written = module(memory, points, lengths)
    there = jnp.arange(points.shape[1]) < lengths[:, None]
    following = jnp.concatenate([points[:, 1:], jnp.zeros_like(points[:, :1])], axis=1)
    is_last = jnp.arange(points.shape[1]) == lengths[:, None] - 1
    word_ends = is_last | (there & (following[..., 3] > 0))
    step = mixture_density.negative_log_likelihood(written.outputs, following[..., :3], there & ~word_ends)
    pen_up = there & (points[..., 2] > 0)
    stop = bernoulli(written.stop[..., None], word_ends[..., None], pen_up)
    word = jnp.cumsum(points[..., 3] * there, axis=1)
    return Losses(step, stop, there & (word == word[:, -1:]))


def figures(module: Writer, batch: Pairs) -> dict[str, Mean]:
    """Means of the last words of the items: for each word, and for each of its points."""
    found = losses(module, batch)
    scored, rows = found.scored, jnp.asarray(batch.source.lengths) > 0
    words = rows.sum(dtype=scored.dtype)
    per_word, per_point = Mean(scored.sum(), words), Mean.of(scored, found.last)
    return {
        "nll": per_word,
        "nll_per_point": per_point,
        "points": Mean(found.last.sum(dtype=scored.dtype), words),
    }


def make_task(model: Functional, train: PairBatches, valid: PairBatches) -> training.Task:
    """The task: the mean loss of all points, selected by that of a word's points."""

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        return figures(model.bind(params), batch)

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        found = losses(model.bind(params), batch)
        there = jnp.arange(found.step.shape[1]) < jnp.asarray(batch.source.lengths)[:, None]
        mean = Mean.of(found.step + found.stop, there)
        return mean.compute(), {"nll_per_point": mean}

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=train.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor="nll_per_point",
    )


def make_architecture(config: Config) -> Architecture:
    """The hyperparameters of the network of a config."""
    return Architecture(config.hidden, config.components, config.windows)


class Saved(NamedTuple):
    """A trained network that writes."""

    config: Config
    model: Functional
    params: Params
    folder: Path


@functools.cache
def load_model(folder: Path) -> Saved:
    """Load a network, from a folder that `models.Source` gives."""
    return Saved(*models.load(folder, Config, lambda config: make_model(make_architecture(config))), folder)
