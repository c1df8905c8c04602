"""The training task of networks side by side, and their figures."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import mapped
from experiments.datasets import Splits
from experiments.gate_ablation.config import Config
from experiments.gate_ablation.search import Settings
from lstmjax import losses, training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import SequenceBatches, chunk, pad
from lstmjax.types import Array, Key, Params


class Chorales(NamedTuple):
    """A batch of chorales."""

    frames: Array
    """uint8 [batch, time, 88]."""
    lengths: Array
    """int32 [batch]."""
    noise: Array
    """float32 [batch, time, 88]: standard normal in training, 0 in evaluation."""


def make_batches(config: Config, splits: Splits[np.ndarray]) -> SequenceBatches:
    """The batches of the training set, padded to one length."""
    pieces = splits.train
    if config.chunk_frames:
        pieces = chunk(pieces, config.chunk_frames + 1, overlap=1)
    return SequenceBatches(pieces, config.batch_size, buckets=1)


def make_task(
    model: Functional, batches: SequenceBatches, splits: Splits[np.ndarray], settings: Settings
) -> training.Task:
    """The task of networks with the given settings: the sum of their losses, on the same batches."""
    count = len(settings.noise)

    def each(params: Params, batch: Chorales) -> Mean:
        """The loss of every network: a `Mean` of arrays ``[networks]``."""
        one = functools.partial(frame_losses, model)
        return jax.vmap(one, in_axes=(0, 0, None))(params, jnp.asarray(settings.noise), batch)

    def loss(params: Params, batch: Chorales, key: Key) -> tuple[jax.Array, training.Metrics]:
        del key  # the noise is part of the batch
        mean = each(jax.vmap(finite_gradient)(params), batch)
        return mean.compute().sum(), {"nll": mean}

    return training.Task.plain(
        init=mapped.init(model, count),
        loss=loss,
        batch=functools.partial(noisy_batch, batches),
        evaluate=lambda params, batch: {"nll": each(params, batch)},
        valid=lambda: evaluation_batches(splits, splits.valid),
        models=count,
    )


def frame_losses(model: Functional, params: Params, noise: jax.Array, batch: Chorales) -> Mean:
    """The loss of a network: of each frame after the first, given those before, whose keys are noisy."""
    frames = jnp.asarray(batch.frames, jnp.float32)
    inputs = frames[:, :-1] + noise * batch.noise[:, :-1]
    lengths = jnp.maximum(batch.lengths - 1, 0)
    mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
    logits = model.bind(params)(inputs, lengths)
    return Mean.of(losses.bernoulli(logits, frames[:, 1:], mask), mask)


def noisy_batch(batches: SequenceBatches, seed: int, step: int) -> Chorales:
    """The training batch of a step, with noise: the same for all networks, which scale it each by its own."""
    batch = batches.at(seed, step)
    rng = np.random.default_rng((seed, step))
    return Chorales(*batch, rng.standard_normal(batch.values.shape, np.float32))


def evaluation_batches(splits: Splits[np.ndarray], part: Sequence[np.ndarray]) -> Iterator[Chorales]:
    """A part as one batch, in a shape that validation and test set share, so that it is compiled once."""
    both = (*splits.valid, *splits.test)
    rows = max(len(splits.valid), len(splits.test))
    batch = pad(part, time=max(map(len, both)), rows=rows)
    yield Chorales(*batch, np.zeros(batch.values.shape, np.float32))


@jax.custom_vjp
def finite_gradient(params: Params) -> Params:
    """The parameters of a network; a gradient by them that overflows becomes 0.

    So a trial whose learning rate is too high does not end those beside it.
    """
    return params


def _backward(_: None, gradients: Params) -> tuple[Params]:
    is_finite = jnp.isfinite(optax.tree.norm(gradients))
    return (jax.tree.map(lambda leaf: jnp.where(is_finite, leaf, 0), gradients),)


finite_gradient.defvjp(lambda params: (params, None), _backward)
