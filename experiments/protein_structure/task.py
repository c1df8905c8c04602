"""The model and the training task for a config; loading a saved model."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import models
from experiments.datasets.chains import STATES3, STATES8, Chain
from experiments.protein_structure import residues
from experiments.protein_structure.config import Config
from experiments.protein_structure.model import Architecture, StructureModel
from experiments.protein_structure.report import Predictions
from lstmjax import training
from lstmjax.nnx import Functional, functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params

STATES = {"nr25": STATES8, "flip": STATES3, "cb6133": STATES8}
"""The states in the labels of each data set."""


EVALUATION_BUCKETS = 2
"""Number of lengths that chains are padded to in evaluation; each is compiled."""


def make_batches(config: Config, chains: Sequence[Chain], buckets: int = EVALUATION_BUCKETS) -> PairBatches:
    """Batches of a split of the data set."""
    with_profile, states = config.inputs == "profile", STATES[config.dataset]
    return residues.batches(chains, with_profile, states, config.batch_residues, buckets)


def make_model(config: Config) -> Functional:
    """The model of a config; cached by hyperparameters, so that it is compiled once."""
    return _make_model(
        Architecture(
            features=residues.width(config.inputs == "profile"),
            states=len(STATES[config.dataset]),
            window=config.window,
            embedding=config.embedding,
            cell="rnn" if config.model == "rnn" else "lstm",
            hidden=config.hidden,
            layers=config.layers,
            both_directions=config.model != "lstm",
            dropout=config.dropout,
        )
    )


@functools.cache
def _make_model(architecture: Architecture) -> Functional:
    return functional(functools.partial(StructureModel, architecture))


def make_task(config: Config, model: Functional, train_set: PairBatches, valid: PairBatches) -> training.Task:
    """The training task; the selection criterion is the accuracy on the validation set."""
    states = STATES[config.dataset]

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        metrics = residues.figures_of(states, *residues.logits_of(model, params, batch, key))
        nll = metrics["nll"]
        return jnp.divide(nll.total, jnp.maximum(nll.weight, 1)), metrics

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        return residues.figures_of(states, *residues.logits_of(model, params, batch))

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=train_set.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor=f"-q{len(states)}",
    )


def make_optimizer(config: Config, settings: training.TrainConfig) -> optax.GradientTransformation:
    """Adam or RMSProp, with schedule and clipping."""
    return training.optimizer(settings, {"adam": optax.adam, "rmsprop": optax.rmsprop}[config.optimizer])


def predict_chains(members: Sequence[models.Saved[Config]], chains: Sequence[Chain]) -> Predictions:
    """The mean of the probabilities of models of one data set, for chains of it."""
    found = [
        residues.probabilities_of(model, params, make_batches(config, chains))
        for config, model, params in members
    ]
    mean = [np.mean(each, axis=0) for each in zip(*found, strict=True)]
    return Predictions(chains, mean, STATES[members[0].config.dataset])


def load_model(folder: Path) -> models.Saved[Config]:
    """Load a model, from a folder that `models.Source` gives."""
    return models.load(folder, Config, make_model)


def load_members(config: Config) -> list[models.Saved[Config]]:
    """Load the models whose mean is to be tested.

    Raises:
      RecordError: there is no such run or kept model, or it is damaged.
      ConfigError: a model is of another data set.
    """
    members = []
    for name in config.members:
        source = models.Source(Path(name) if Path(name).is_dir() else None)
        members.append(load_model(source.folder("protein_structure", name)))
        if (other := members[-1].config.dataset) != config.dataset:
            raise training.ConfigError(f"{name} is of --dataset {other}, and not of {config.dataset}.")
    return members
