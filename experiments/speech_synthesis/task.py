"""The training task: durations and parameters of phrases together, and models that are kept."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import models
from experiments.speech_synthesis.config import Config
from experiments.speech_synthesis.data import (
    BUNDLE,
    STATIC,
    Spoken,
    Statistics,
    speech_of,
    targets,
    width,
)
from experiments.speech_synthesis.linguistics import NEIGHBOURS, SYMBOLS, describe
from experiments.speech_synthesis.model import make_model
from experiments.speech_synthesis.text import PAUSE
from experiments.speech_synthesis.vocoder import COEFFICIENTS, Speech
from lstmjax import training
from lstmjax.losses import bernoulli
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params

STATISTICS = "statistics.json"

WEIGHTS = {"mel_cepstrum": 2.0, "log_f0": 0.5, "aperiodicity": 0.2, "voice": 0.5, "duration": 0.5}
"""Weights of the parts of the loss."""


class Saved(NamedTuple):
    """A model that is ready to speak."""

    config: Config
    model: Functional
    params: Params
    statistics: Statistics


def source(phones: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """The features of phones with their durations as the last column."""
    return np.hstack([phones, np.array(steps, np.float32)[:, None]]).astype(np.float32)


def pieces(steps: Sequence[int], longest: int) -> list[slice]:
    """The phones of a phrase in pieces of as nearly equal lengths, of about ``longest`` steps at most."""
    ends = np.cumsum(steps)
    count = -(-int(ends[-1]) // longest)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count) + 1
    edges = np.unique([0, *cuts, len(steps)]).tolist()
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def make_batches(
    config: Config, phrases: Sequence[Spoken], statistics: Statistics, buckets: int = 1
) -> PairBatches:
    """Batches of phrases, of long ones in pieces: phones as sources, parameters of the steps as targets."""
    sources, wanted = [], []
    for each in phrases:
        steps = each.phrase.steps
        rows = source(describe(each.phrase.phones, each.phrase.end), steps)
        outputs = targets(each.speech, statistics, config.dynamics)
        starts = np.cumsum([0, *steps])
        for piece in pieces(steps, config.longest):
            sources.append(rows[piece])
            wanted.append(outputs[starts[piece.start] : starts[piece.stop]])
    return PairBatches(sources, wanted, config.batch_steps, buckets)


def figures(
    config: Config, statistics: Statistics, model: Functional, params: Params, batch: Pairs, key: Key | None
) -> dict[str, Mean]:
    """The parts of the loss: mean squared errors of standardized features, and the cross entropy of voice.

    Those of the mel-cepstrum are weighed by the variances of the features, as in the distortion.
    """
    keys = (None, None) if key is None else jax.random.split(key)
    phones, steps = jnp.asarray(batch.source.values[..., :-1]), jnp.asarray(batch.source.values[..., -1])
    wanted, time = jnp.asarray(batch.target.values), batch.target.values.shape[1]
    synthesiser, lengths = model.bind(params), jnp.asarray(batch.source.lengths)

    timed = synthesiser.time(phones, lengths, keys[0])
    standard = (steps - np.float32(statistics.duration_mean)) / np.float32(statistics.duration_deviation)
    inner = (jnp.arange(steps.shape[1]) < lengths[:, None]) & (
        phones[..., NEIGHBOURS] != SYMBOLS.index(PAUSE)
    )
    found = {"duration": Mean.of((timed - standard) ** 2, inner)}

    outputs = synthesiser.speak(phones, steps.astype(jnp.int32), time, keys[1])
    shape = (*outputs.shape[:2], BUNDLE, width(config.dynamics))
    outputs, wanted = outputs.reshape(shape), wanted.reshape(shape)
    there = jnp.broadcast_to(
        (jnp.arange(time) < jnp.asarray(batch.target.lengths)[:, None])[..., None], shape[:-1]
    )
    squares = (outputs[..., :-1] - wanted[..., :-1]) ** 2
    squares = squares.reshape(*shape[:-1], -1, STATIC)
    weights = np.square(np.array(statistics.deviation[: squares.shape[-2] * STATIC], np.float32))
    weights = weights.reshape(-1, STATIC)[:, :COEFFICIENTS]
    parts = {
        "mel_cepstrum": (squares[..., :COEFFICIENTS] * weights).sum(axis=(-2, -1)) / weights.sum(),
        "log_f0": squares[..., COEFFICIENTS].mean(axis=-1),
        "aperiodicity": squares[..., COEFFICIENTS + 1].mean(axis=-1),
    }
    found |= {name: Mean.of(values, there) for name, values in parts.items()}
    return found | {"voice": Mean.of(bernoulli(outputs[..., -1:], wanted[..., -1:], there), there)}


def weighed(parts: dict[str, Mean]) -> jax.Array:
    """The loss: the weighted sum of its parts."""
    total = jnp.float32(0)
    for name, weight in WEIGHTS.items():
        total += weight * parts[name].compute()
    return total


def make_task(
    config: Config, statistics: Statistics, model: Functional, train: PairBatches, valid: PairBatches
) -> training.Task:
    """The task; the parameters with the lowest loss on the validation set are the best."""

    def with_loss(parts: dict[str, Mean]) -> training.Metrics:
        weight = parts["voice"].weight
        return parts | {"loss": Mean(weighed(parts) * weight, weight)}

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        parts = figures(config, statistics, model, params, batch, key)
        return weighed(parts), with_loss(parts)

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        return with_loss(figures(config, statistics, model, params, batch, None))

    return training.Task.plain(
        init=model.init, loss=loss, batch=train.at, evaluate=evaluate, valid=valid.once, monitor="loss"
    )


def speak(saved: Saved, phones: np.ndarray, steps: Sequence[int]) -> Speech:
    """The parameters of a phrase, given the features of its phones and their durations in steps."""
    time = sum(steps)
    rows, padded = np.zeros((1, _up(len(phones), 16), phones.shape[1]), np.float32), _up(time, 256)
    rows[0, : len(phones)] = phones
    durations = np.zeros(rows.shape[:2], np.int32)
    durations[0, : len(steps)] = steps
    outputs = _speak(saved.model, padded, saved.params, rows, durations)
    return speech_of(np.asarray(outputs)[0, :time], saved.statistics, saved.config.dynamics)


def durations(saved: Saved, phones: np.ndarray) -> np.ndarray:
    """The durations of the phones of a phrase in steps, as real numbers."""
    rows = np.zeros((1, _up(len(phones), 16), phones.shape[1]), np.float32)
    rows[0, : len(phones)] = phones
    found = np.asarray(_time(saved.model, saved.params, rows, np.array([len(phones)])))[0, : len(phones)]
    return found * saved.statistics.duration_deviation + saved.statistics.duration_mean


def _up(size: int, unit: int) -> int:
    """The next multiple, so that few shapes are compiled."""
    return -(-size // unit) * unit


def _speak_plain(
    model: Functional, time: int, params: Params, phones: np.ndarray, steps: np.ndarray
) -> jax.Array:
    return model.bind(params).speak(phones, steps, time)


def _time_plain(model: Functional, params: Params, phones: np.ndarray, lengths: np.ndarray) -> jax.Array:
    return model.bind(params).time(phones, lengths)


_speak = jax.jit(_speak_plain, static_argnums=(0, 1))
_time = jax.jit(_time_plain, static_argnums=0)


def load_model(folder: Path) -> Saved:
    """Load a model, from a folder that `models.Source` gives."""
    config = models.config_of(folder, Config)
    model = make_model(config, BUNDLE * width(config.dynamics))
    params = models.load_params(folder, model.init)
    return Saved(config, model, params, Statistics.read(folder / STATISTICS))
