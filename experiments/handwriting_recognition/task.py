"""The training task, and loading a saved network."""

from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.common import models
from experiments.handwriting_recognition.augmentation import distort
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.data import SOURCES, text_of
from experiments.handwriting_recognition.model import Architecture, frames, make_model
from experiments.handwriting_recognition.reading import errors, read
from experiments.handwriting_recognition.writing import model as writer
from experiments.handwriting_recognition.writing import task as writer_task
from lstmjax import losses, training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params


def make_architecture(config: Config) -> Architecture:
    """The hyperparameters of a config's network."""
    source = SOURCES[config.task]
    classes = len(source.letters) + (not source.whole)
    return Architecture(classes, config.first, config.hidden, config.layers, config.dropout, source.whole)


def figures(whole: bool, logits: jax.Array, batch: Pairs) -> training.Metrics:
    """The loss of a batch in nats for each ink; of CTC, of those inks that have frames enough."""
    (labels, numbers), there = batch.target, jnp.asarray(batch.items >= 0)
    if whole:
        return {"nll": Mean.of(losses.cross_entropy(logits, labels[:, 0], there), there)}
    lengths = frames(batch.source.lengths)
    there &= losses.ctc_feasible(lengths, labels, numbers)
    nll = losses.ctc(logits, lengths, labels, numbers)
    return {"nll": Mean.of(jnp.where(there, nll, 0), there)}


def make_task(config: Config, model: Functional, train: PairBatches, valid: PairBatches) -> training.Task:
    """The training task; the selection criterion is the character error rate of the validation set."""
    source = SOURCES[config.task]

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        distort_key, dropout_key = jax.random.split(key)
        path = distort(jnp.asarray(batch.source.values), distort_key, config.augmentation)
        metrics = figures(source.whole, model.bind(params)(path, batch.source.lengths, dropout_key), batch)
        return metrics["nll"].compute(), metrics

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        logits = model.bind(params)(batch.source.values, batch.source.lengths)
        return figures(source.whole, logits, batch)

    labels = [text_of(source, target.tolist()) for target in valid.targets]

    def examine(params: Params) -> dict[str, float]:
        return {"cer": errors(labels, read(source, model, params, valid)).cer}

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=train.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor="cer",
        examine=examine,
    )


Saved = models.Saved[Config]


def load_model(folder: Path) -> Saved:
    """Load a network, one that writes as well, from a folder that `models.Source` gives."""

    def make(config: Config) -> Functional:
        if config.task == "synthesis":
            return writer.make_model(writer_task.make_architecture(config))
        return make_model(make_architecture(config))

    return models.load(folder, Config, make)
