"""The training task, and evaluation on whole sequences."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import datasets
from experiments.datasets.piano_rolls import key_frequencies
from experiments.polyphonic_music.config import Config
from experiments.polyphonic_music.model import KEYS, MusicModel, frame_losses
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional, functional
from lstmjax.regularizers import weight_noise
from lstmjax.training.batching import Padded, SequenceBatches, chunk
from lstmjax.types import Key, Params


def make_model(config: Config, splits: datasets.Splits[np.ndarray] | None = None) -> Functional:
    """The model of a config; its initial biases and its training speed depend on the data."""
    frequencies, most = (np.full(KEYS, 0.5), KEYS) if splits is None else statistics(splits)
    return functional(functools.partial(MusicModel, config, frequencies, most))


def make_task(config: Config, model: Functional, splits: datasets.Splits[np.ndarray]) -> training.Task:
    """The training task: sequences with a start frame, cut into chunks for training only."""
    whole = datasets.Splits(*(with_start_frame(part) for part in splits))
    pieces = whole.train
    if config.chunk_frames:
        pieces = chunk(pieces, config.chunk_frames + 1, overlap=1)
    batches = SequenceBatches(pieces, config.batch_size, config.buckets)

    def loss(params: Params, batch: Padded, key: Key) -> tuple[jax.Array, training.Metrics]:
        noise_key, dropout_key = jax.random.split(key)
        noisy = weight_noise(noise_key, params, config.weight_noise)
        mean = Mean.of(*frame_losses(model.bind(noisy), batch, dropout_key))
        return mean.compute(), {"nll": mean}

    def valid() -> Iterator[Padded]:
        return evaluation_batches(whole.valid, config)

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=batches.at,
        evaluate=functools.partial(evaluate_batch, model),
        valid=valid,
    )


def evaluate_batch(model: Functional, params: Params, batch: Padded) -> training.Metrics:
    """The metrics of whole sequences: means over frames without and with the first one, and the mean of the
    per-sequence means."""
    values, mask = frame_losses(model.bind(params), batch)
    later = mask & (jnp.arange(mask.shape[1]) > 0)
    counts = later.sum(axis=1)
    by_sequence = jnp.where(later, values, 0).sum(axis=1) / jnp.maximum(counts, 1)
    return {
        "nll": Mean.of(values, later),
        "nll_all_frames": Mean.of(values, mask),
        "nll_by_sequence": Mean.of(by_sequence, counts > 0),
    }


def evaluation_batches(sequences: Sequence[np.ndarray], config: Config) -> Iterator[Padded]:
    """Whole sequences, each once; none for an empty split."""
    return SequenceBatches(sequences, config.batch_size, config.buckets).once() if sequences else iter(())


def with_start_frame(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Prepend a frame of zeros to each sequence."""
    return tuple(np.concatenate([np.zeros((1, KEYS), np.uint8), sequence]) for sequence in sequences)


def statistics(splits: datasets.Splits[np.ndarray]) -> tuple[np.ndarray, int]:
    """Frequency of each key in training, bounded away from 0 and 1; and the most active keys in any frame."""
    most = max(int(roll.sum(axis=1).max(initial=0)) for part in splits for roll in part)
    return key_frequencies(splits.train), most
