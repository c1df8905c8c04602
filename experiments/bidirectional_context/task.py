"""The training task of several networks, and the figures of their test."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from experiments.bidirectional_context.config import Config
from experiments.bidirectional_context.data import Labelled
from experiments.bidirectional_context.model import make_architecture, make_model
from experiments.common import mapped, models
from lstmjax import training
from lstmjax.losses import cross_entropy
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.training.task import WithoutCarry
from lstmjax.types import Key, Params

EVALUATION_BUCKETS = 2
"""Number of lengths that sequences are padded to in evaluation; each is compiled."""

PLACES = (1, 2, 3, 5, 9, 17, 33)
"""Where groups of frames begin, counted from an end of the sequence: 1, 2, 3 to 4, 5 to 8, and so on."""


def make_batches(
    config: Config, sequences: Sequence[Labelled], buckets: int = EVALUATION_BUCKETS
) -> PairBatches:
    """Batches of a split; each bucket, a length that sequences are padded to, is compiled."""
    inputs, labels = zip(*sequences, strict=True)
    return PairBatches(inputs, labels, config.batch_frames, buckets)


class Answers(NamedTuple):
    """How a network labels the frames of a batch."""

    nll: Float[jax.Array, "batch time"]
    right: Bool[jax.Array, "batch time"]
    """Whether the most probable label is the right one."""
    there: Bool[jax.Array, "batch time"]
    """Whether this is a frame, and not padding."""


def answer(model: Functional, params: Params, batch: Pairs) -> Answers:
    """Label the frames of a batch with one network."""
    lengths, target = jnp.asarray(batch.source.lengths), jnp.asarray(batch.target.values)
    logits = model.bind(params)(jnp.asarray(batch.source.values), lengths)
    there = jnp.arange(target.shape[1]) < lengths[:, None]
    return Answers(cross_entropy(logits, target, there), logits.argmax(axis=-1) == target, there)


def figures(model: Functional, params: Params, batch: Pairs) -> dict[str, Mean]:
    """The loss in nats, and the share of frames that one network labels right."""
    answers = answer(model, params, batch)
    return {"nll": Mean.of(answers.nll, answers.there), "accuracy": Mean.of(answers.right, answers.there)}


def details(model: Functional, params: Params, batch: Pairs) -> dict[str, Mean]:
    """The accuracy by place, see `PLACES`, and the share of sequences of which most frames are right."""
    answers = answer(model, params, batch)
    right, there = answers.right, answers.there
    frames = jnp.arange(there.shape[1])[None] + 1
    ends = {"start": frames, "end": there.sum(axis=1, keepdims=True) + 1 - frames}
    found = {"most": Mean.of(2 * (right & there).sum(axis=1) > there.sum(axis=1), there[:, 0])}
    for end, place in ends.items():
        for first, after in itertools.pairwise((*PLACES, jnp.inf)):
            found[f"{end}_{first}"] = Mean.of(right, there & (place >= first) & (place < after))
    return found


def make_task(config: Config, model: Functional, train: PairBatches, valid: PairBatches) -> training.Task:
    """The task of all networks: the sum of their losses on the same batches."""
    each = functools.partial(figures, model)

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        return jax.vmap(each, in_axes=(0, None))(params, batch)

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        metrics = evaluate(params, batch)
        return metrics["nll"].compute().sum(), metrics

    return training.Task.plain(
        init=mapped.init(model, config.models),
        loss=loss,
        batch=train.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor="-accuracy",
        models=config.models,
    )


def make_test(model: Functional, task: training.Task) -> training.Task:
    """The task with `figures` and `details` as its metrics."""

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        return figures(model, params, batch) | details(model, params, batch)

    mapped_over = jax.vmap(evaluate, in_axes=(0, None))
    return dataclasses.replace(task, evaluate=WithoutCarry(mapped_over))


def probabilities(model: Functional, params: Params, inputs: np.ndarray) -> np.ndarray:
    """The probabilities that one network gives the labels of one sequence, ``[frames, classes]``."""
    logits = model.bind(params)(jnp.asarray(inputs)[None], jnp.array([len(inputs)]))
    return np.asarray(jax.nn.softmax(logits)[0])


def load_model(folder: Path) -> models.Saved[Config]:
    """Load the first network of a run, from a folder that `models.Source` gives."""
    return models.load(folder, Config, lambda config: make_model(make_architecture(config)))
