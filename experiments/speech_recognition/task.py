"""The training task of the networks, and how a saved one is loaded."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from experiments.common import mapped, models
from experiments.speech_recognition.config import Config
from experiments.speech_recognition.data import CLASSES, Batch, Batches, heard
from experiments.speech_recognition.features import KINDS
from experiments.speech_recognition.model import END, Architecture, Heard, make_model
from lstmjax import decoding, losses, training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.types import Array, Key, Params


def make_architecture(config: Config) -> Architecture:
    """The architecture of a config."""
    return Architecture(
        features=KINDS * config.bands,
        stack=config.stack,
        hidden=config.hidden,
        layers=config.layers,
        pyramid=config.pyramid,
        dropout=config.dropout,
        spells=config.model == "las",
    )


def ctc_nll(logits: jax.Array, listened: Heard, batch: Batch) -> jax.Array:
    """The negative log-likelihood of the labels of each row; 0 for rows with too few steps for them."""
    labels, counts = jnp.asarray(batch.labels), jnp.asarray(batch.label_lengths)
    nll = losses.ctc(logits, listened.lengths, labels, counts)
    return jnp.where(losses.ctc_feasible(listened.lengths, labels, counts), nll, 0)


def spelt(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Of each row, the negative log-likelihood of digits and end, and whether all are the likeliest."""
    labels, counts = jnp.asarray(batch.labels), jnp.asarray(batch.label_lengths)
    targets = jnp.pad(labels, ((0, 0), (0, 1)), constant_values=END)
    there = jnp.arange(targets.shape[1]) <= counts[:, None]
    nll = losses.cross_entropy(logits, targets, there).sum(axis=1)
    return nll, ((logits.argmax(axis=-1) == targets) | ~there).all(axis=1)


def single_scores(
    logits: Float[Array, "batch steps classes"], listened: Heard
) -> Float[jax.Array, "digits batch"]:
    """The log-likelihood of each digit, where one digit was said."""

    def score(label: jax.Array) -> jax.Array:
        labels = jnp.broadcast_to(label, (len(logits), 1))
        return -losses.ctc(logits, listened.lengths, labels, jnp.ones(len(logits), int))

    return jax.vmap(score)(jnp.arange(1, CLASSES))


def weigh(values: jax.Array, rows: Bool[Array, " batch"], weights: jax.Array | None = None) -> Mean:
    """The mean over rows, or, with weights, the sum over rows by the sum of their weights."""
    count = jnp.ones_like(values) if weights is None else weights
    return Mean(jnp.where(rows, values, 0).sum(), jnp.where(rows, count, 0).sum())


def figures(config: Config, model: Functional, params: Params, batch: Batch, hears: Array) -> dict[str, Mean]:
    """The metrics of one network on a batch.

    ``nll`` in nats a digit; ``exact``, the share of utterances whose every digit is right: of CTC, by the
    likeliest class of each step, of a decoder, by the likeliest class after the others. Of single digits
    ``accuracy``, by the likeliest of the ten.
    """
    module = model.bind(params)
    listened = module.listen(batch.values, batch.lengths)
    rows = hears[batch.speakers] & (jnp.asarray(batch.lengths) > 0)
    count = jnp.asarray(batch.label_lengths, jnp.float32)
    if config.model == "las":
        nll, exact = spelt(module.teach(listened, jnp.asarray(batch.labels))[0], batch)
        return {"nll": weigh(nll, rows, count), "exact": weigh(exact, rows)}
    logits = module.readout(listened.values)
    found, lengths = decoding.ctc_greedy(logits, listened.lengths)
    width = batch.labels.shape[1]
    found = jnp.pad(found, ((0, 0), (0, max(width - found.shape[1], 0))))[:, :width]
    there = jnp.arange(width) < count[:, None]
    exact = (lengths == batch.label_lengths) & ((found == batch.labels) | ~there).all(axis=1)
    metrics = {"nll": weigh(ctc_nll(logits, listened, batch), rows, count), "exact": weigh(exact, rows)}
    if config.dataset != "strings":
        right = single_scores(logits, listened).argmax(axis=0) + 1 == batch.labels[:, 0]
        metrics["accuracy"] = weigh(right, rows)
    return metrics


def training_loss(
    config: Config, model: Functional, params: Params, batch: Batch, rows: Array, key: Key
) -> Mean:
    """The loss of one network, in nats a digit: of CTC, or of the decoder and, with its weight, of CTC."""
    module = model.bind(params)
    count = jnp.asarray(batch.label_lengths, jnp.float32)
    listened = module.listen(batch.values, batch.lengths, key)
    loss = weigh(ctc_nll(module.readout(listened.values), listened, batch), rows, count)
    if config.model == "ctc":
        return loss
    nll, _ = spelt(module.teach(listened, jnp.asarray(batch.labels))[0], batch)
    weight = config.ctc_weight
    return Mean(weight * loss.total + (1 - weight) * weigh(nll, rows, count).total, loss.weight)


def make_task(config: Config, model: Functional, train: Batches, valid: Batches) -> training.Task:
    """The task of all networks: the sum of their losses on the same batches, varied in the same way."""
    trained = jnp.asarray(heard(config, "train"))

    def loss(params: Params, batch: Batch, key: Key) -> tuple[jax.Array, training.Metrics]:
        rows = trained[:, batch.speakers] & (jnp.asarray(batch.lengths) > 0)
        one = functools.partial(training_loss, config, model)
        means = jax.vmap(one, in_axes=(0, None, 0, None))(params, batch, rows, key)
        # A batch of the last recordings may have none that a network is to hear.
        return (means.total / jnp.maximum(means.weight, 1)).sum(), {"nll": means}

    return training.Task.plain(
        init=mapped.init(model, config.models),
        loss=loss,
        batch=train.at,
        evaluate=Evaluate(config, model, heard(config, "valid")),
        valid=valid.once,
        models=config.models,
    )


def initial_params(config: Config, task: training.Task) -> Params | None:
    """The parameters that `Config.start` names, with fresh ones for what it lacks; None without.

    Raises:
      ConfigError: the network is of other sizes.
    """
    if not config.start:
        return None
    saved = load_model(models.kept("speech_recognition", config.start))
    own, other = (
        make_architecture(each)._replace(dropout=0.0, spells=False) for each in (config, saved.config)
    )
    if own != other:
        raise training.ConfigError(f"{config.start} is {other}, and cannot start {own}.")
    fresh: dict[str, Params] = jax.jit(task.init)(jax.random.key(config.seed))
    return fresh | {name: jax.tree.map(lambda leaf: leaf[None], part) for name, part in saved.params.items()}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """The metrics of all networks on a batch of a split; equal ones are compiled once."""

    config: Config
    model: Functional
    hears: tuple[tuple[bool, ...], ...]
    """Which network is evaluated on which speaker, see `heard`."""

    def __call__(self, params: Params, batch: Batch) -> training.Metrics:
        """The metrics, each of ``[models]``."""
        one = functools.partial(figures, self.config, self.model)
        hears = jnp.asarray(self.hears)
        found: training.Metrics = jax.vmap(one, in_axes=(0, None, 0))(params, batch, hears)
        return found


Saved = models.Saved[Config]


def load_model(folder: Path) -> Saved:
    """Load a network, from a folder that `models.Source` gives."""
    return models.load(folder, Config, lambda config: make_model(make_architecture(config)))
