"""The model, the training task and the optimizer for a config; loading a saved model."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.common import models
from experiments.common.text.vocabulary import Vocabulary
from experiments.language_modeling.awd_lstm import AWDLanguageModel, regularized_loss
from experiments.language_modeling.config import Config
from experiments.language_modeling.data import Corpus, evaluation_windows
from experiments.language_modeling.model import (
    Architecture,
    LanguageModel,
    evaluate_window,
    initial_state,
    window_loss,
)
from lstmjax import training
from lstmjax.nnx import Functional, functional
from lstmjax.training import distributed
from lstmjax.training.streams import TokenStream, VariableTokenStream, Window, WindowLengths
from lstmjax.types import Key, Params, State


def make_model(config: Config, vocabulary: Vocabulary) -> Functional:
    """The model of a config."""
    numbers = architecture(config, len(vocabulary))
    if config.size == "awd":
        return functional(functools.partial(AWDLanguageModel, numbers, config.awd))
    return functional(functools.partial(LanguageModel, numbers))


def architecture(config: Config, vocabulary: int) -> Architecture:
    """The hyperparameters of the model of a config."""
    return Architecture(
        vocabulary, config.hidden, config.layers, config.model, config.dropout, config.init_scale
    )


def training_stream(config: Config, corpus: Corpus) -> TokenStream | VariableTokenStream:
    """The training windows.

    Raises:
      ConfigError: the text is too short for them.
    """
    own = distributed.own_rows(config.batch_size)
    try:
        if config.size == "awd":
            lengths = WindowLengths(config.window)
            return VariableTokenStream(corpus.train, config.batch_size, lengths, own=own)
        windows = TokenStream(corpus.train, config.batch_size, config.window, own)
        windows.at(config.train.seed, 0)
    except ValueError as error:
        raise training.ConfigError(f"--window, --batch-size or --limit: {error}") from error
    return windows


def make_task(config: Config, model: Functional, corpus: Corpus) -> training.Task:
    """The training task: windows of the stream, with the state carried from each to the next."""

    def loss(params: Params, state: State, window: Window, key: Key) -> Any:
        state, nll = window_loss(model, params, state, window, key)
        return nll.total / config.batch_size, (state, {"nll": nll})

    def rate_factor(window: Window) -> jax.Array:
        return window.lengths[0] / jnp.float32(config.window)

    is_awd = config.size == "awd"
    return training.Task(
        init=model.init,
        initial_carry=functools.partial(initial_state, model, config.batch_size),
        loss=functools.partial(regularized_loss, model, config.awd) if is_awd else loss,
        batch=training_stream(config, corpus).at,
        initial_evaluation_carry=functools.partial(initial_state, model, config.batch_size),
        evaluate=functools.partial(evaluate_window, model),
        valid=functools.partial(
            evaluation_windows, corpus.valid, corpus.vocabulary, config.batch_size, config.window
        ),
        rate_factor=rate_factor if is_awd else None,
    )


def make_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD with the schedule of the paper, and weight decay for awd; or Adam."""
    if config.optimizer == "adam":
        return training.adam(config.train)

    def rate(step: jax.Array) -> jax.Array:
        epoch = step // steps_per_epoch
        return config.train.learning_rate * config.decay ** jnp.maximum(epoch + 1 - config.decay_after, 0)

    clip = optax.clip_by_global_norm(config.train.clip_norm) if config.train.clip_norm else optax.identity()
    decay = [optax.add_decayed_weights(config.awd.weight_decay)] if config.size == "awd" else []
    return optax.chain(clip, *decay, optax.sgd(rate))


NAME = "language_modeling"

VOCABULARY = "vocabulary.json"
"""File in a model's folder: the tokens in the order of their ids."""


class Saved(NamedTuple):
    """A saved model of a run."""

    config: Config
    vocabulary: Vocabulary
    model: Functional
    params: Params


def load_model(folder: Path) -> Saved:
    """Load a model, from a folder that `models.Source` gives."""
    config = models.config_of(folder, Config)
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    model = make_model(config, vocabulary)
    return Saved(config, vocabulary, model, models.load_params(folder, model.init))
