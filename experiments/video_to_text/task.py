"""The training task, and how a saved model is loaded."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.common import models
from experiments.common.text.vocabulary import Vocabulary
from experiments.video_to_text.config import Config
from experiments.video_to_text.material import Material
from experiments.video_to_text.model import Architecture, make_model
from lstmjax import losses, training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import Pairs
from lstmjax.types import Key, Params

WORDS, FEATURES = "words.json", "features.json"
"""Files in a model's folder: the vocabulary, and the size of the features of a frame, 0 for pictures."""


class Saved(NamedTuple):
    """A model with its config, vocabulary and parameters."""

    config: Config
    words: Vocabulary
    inputs: int
    """Size of the features of a frame; 0 for pictures."""
    model: Functional
    params: Params


def make_architecture(config: Config, words: int, inputs: int) -> Architecture:
    """The architecture of a config, for so many words, and features of this size, 0 for pictures."""
    return Architecture(
        words=words,
        inputs=inputs,
        channels=config.channels,
        features=config.features,
        hidden=config.hidden,
        dropout=config.dropout,
        pools=config.model == "pooling",
        attends=config.attention == "temporal",
    )


def figures(
    model: Functional,
    kinds: Mapping[str, tuple[int, ...]],
    params: Params,
    batch: Pairs,
    key: Key | None = None,
) -> dict[str, Mean]:
    """The metrics of a batch; dropout with ``key``.

    ``nll`` in nats a word; ``exact``, the share of sentences whose every word is the likeliest after the
    right ones before, which is whether greedy search writes exactly this sentence; and of each kind of words
    the share of those that are the likeliest after the right ones before.
    """
    module = model.bind(params)
    words, lengths = jnp.asarray(batch.target.values), jnp.asarray(batch.target.lengths)
    watched = module.watch(batch.source.values, jnp.asarray(batch.source.lengths), key)
    logits, _ = module.teach(watched, words)
    there = jnp.arange(words.shape[1]) < lengths[:, None]
    right = logits.argmax(axis=-1) == words
    return {
        "nll": Mean.of(losses.cross_entropy(logits, words, there), there),
        "exact": Mean.of((right | ~there).all(axis=1), lengths > 0),
    } | {kind: Mean.of(right, there & jnp.isin(words, jnp.array(own))) for kind, own in kinds.items()}


def make_task(model: Functional, material: Material) -> training.Task:
    """The task: the cross entropy of each word after the right ones before."""
    kinds = material.kinds

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        metrics = figures(model, kinds, params, batch, key)
        return metrics["nll"].compute(), metrics

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=material.train.at,
        evaluate=functools.partial(figures, model, kinds),
        valid=material.valid.once,
    )


def save_language(folder: Path, material: Material) -> None:
    """Write what a model needs beside its parameters."""
    material.vocabulary.save(folder / WORDS)
    (folder / FEATURES).write_text(f"{material.inputs}\n", "utf-8")


def load_model(folder: Path) -> Saved:
    """Load a model, from a folder that `models.Source` gives."""
    config, words = models.config_of(folder, Config), Vocabulary.load(folder / WORDS)
    inputs = int((folder / FEATURES).read_text("utf-8"))
    model = make_model(make_architecture(config, len(words), inputs))
    return Saved(config, words, inputs, model, models.load_params(folder, model.init))
