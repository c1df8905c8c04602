"""What protein_structure trains: flags and recipes, and what is made of them."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments import recipes, residues
from experiments.command_line import CommonConfig, check_numbers, finished_run
from experiments.datasets.proteins import STATES3, STATES8, Chain
from experiments.protein_model import Architecture, StructureModel
from experiments.recipes import Recipe
from experiments.structure_report import Predictions
from lstmjax import checkpoint, train
from lstmjax.batching import PairBatches, Pairs
from lstmjax.nnx import Functional, functional
from lstmjax.types import Key, Params


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of protein_structure; defaults depend on data set, model and inputs, see `preset`."""

    dataset: Literal["nr25", "flip", "cb6133"] = "nr25"
    """Chains of promod3's structure database; those of NetSurfP-2.0, tested on CB513; CullPDB, tested on
    CB513, as published, to be downloaded by hand."""
    model: Literal["blstm", "large", "lstm", "rnn", "window"] = "blstm"
    """Bidirectional LSTM, a larger one, LSTM in one direction, bidirectional Elman network, no recurrence."""
    inputs: Literal["profile", "sequence"] = "profile"
    """Sequence and profile, or the sequence alone; flip has no profiles."""
    hidden: int = 160
    """Units of a recurrent layer in each direction."""
    layers: int = 2
    """Recurrent layers."""
    embedding: int = 128
    """Units of the dense layers below and above."""
    window: int = 7
    """Residues that the lowest layer sees, the one in question in their middle."""
    dropout: float = 0.3
    """Rate at which outputs of layers are dropped."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Update rule."""
    batch_residues: int = 4000
    """Residues of a batch, padding included."""
    buckets: int = 5
    """Number of lengths that chains are padded to; each is compiled for."""
    epochs: int = 8
    """Passes over the training set, with an evaluation after each; 0 lets train.steps and
    train.evaluate_every say."""
    limit: int = 0
    """Use only so many chains of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "embedding", "window", "batch_residues", "buckets"),
            not_negative=("layers", "epochs", "limit"),
            rates=("dropout",),
        )
        if self.window % 2 == 0:
            raise train.ConfigError(f"window must be odd, for a residue in its middle, got {self.window}.")


TRAIN = train.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With steps of 0, the epochs say how many there are."""

RECIPES = (
    Recipe({"dataset": "flip"}, {"inputs": "sequence", "epochs": 4}),
    Recipe({"model": "large"}, {"hidden": 400, "window": 1, "dropout": 0.5, "optimizer": "rmsprop"}),
    Recipe({"model": "large"}, train={"learning_rate": 1e-3}),
    Recipe({"model": "lstm"}, {"hidden": 268}),
    Recipe({"model": "rnn"}, {"hidden": 320}, {"learning_rate": 1e-3}),
    Recipe({"model": "window"}, {"layers": 0, "window": 17, "embedding": 512}),
    Recipe(
        {"quick": True},
        {"hidden": 16, "embedding": 16, "buckets": 2, "epochs": 0, "limit": 40},
        {"steps": 40, "evaluate_every": 20, "log_every": 10, "warmup": 10, "averaging": 0.9},
    ),
)
"""Defaults that belong to choices, see `experiments.recipes`. The models `blstm`, `lstm` and `rnn` have about
as many parameters as each other."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of data set, model, inputs and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


STATES = {"nr25": STATES8, "flip": STATES3, "cb6133": STATES8}
"""The states that the labels of each data set tell apart."""

EVALUATION_BUCKETS = 2
"""Lengths that chains are padded to when nothing is learned; each is compiled for."""


def check(config: Config) -> None:
    """Raise ConfigError where choices do not go together."""
    if (config.dataset, config.inputs) == ("flip", "profile"):
        raise train.ConfigError("flip has sequences alone: --inputs must be sequence.")
    if (config.model == "window") != (config.layers == 0):
        raise train.ConfigError(
            f"--model {config.model} with --layers {config.layers}: window has no recurrent layer, others do."
        )


def make_batches(config: Config, chains: Sequence[Chain], buckets: int = EVALUATION_BUCKETS) -> PairBatches:
    """Batches of a part of the data set."""
    with_profile, states = config.inputs == "profile", STATES[config.dataset]
    return residues.batches(chains, with_profile, states, config.batch_residues, buckets)


def make_model(config: Config) -> Functional:
    """The model that a config says; the same one for the same numbers, so that it is compiled once."""
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


def make_task(config: Config, model: Functional, train_set: PairBatches, valid: PairBatches) -> train.Task:
    """The training task; what decides is how many residues of the validation set are right."""
    states = STATES[config.dataset]

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, train.Metrics]:
        metrics = residues.figures_of(states, *residues.logits_of(model, params, batch, key))
        nll = metrics["nll"]
        return jnp.divide(nll.total, jnp.maximum(nll.weight, 1)), metrics

    def evaluate(params: Params, batch: Pairs) -> train.Metrics:
        return residues.figures_of(states, *residues.logits_of(model, params, batch))

    return train.Task(
        init=model.init,
        loss=loss,
        batch=train_set.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor=f"-q{len(states)}",
    )


def make_optimizer(config: Config, settings: train.TrainConfig) -> optax.GradientTransformation:
    """Adam or RMSProp, with schedule and clipping."""
    return train.optimizer(settings, {"adam": optax.adam, "rmsprop": optax.rmsprop}[config.optimizer])


def predict_chains(config: Config, model: Functional, params: Params, chains: Sequence[Chain]) -> Predictions:
    """What a model says of chains of its data set."""
    found = residues.probabilities_of(model, params, make_batches(config, chains))
    return Predictions(chains, found, STATES[config.dataset])


class Saved(NamedTuple):
    """A model that has been trained."""

    config: Config
    model: Functional
    params: Params


def load_run(path: Path) -> Saved:
    """Read back the best parameters of a run.

    Raises:
      RecordError: there is no run, or it has no model: it has not finished.
    """
    config, saved = finished_run(path, "protein_structure", Config)
    model = make_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return Saved(config, model, checkpoint.restore(saved, shapes))
