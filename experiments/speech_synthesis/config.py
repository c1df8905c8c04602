"""Flags of speech_synthesis, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of speech_synthesis; defaults depend on the model, see `preset`."""

    dataset: Literal["asterisk-en"] = "asterisk-en"
    """The only one."""
    model: Literal["blstm", "dnn"] = "blstm"
    """Bidirectional LSTMs, or dense layers with as many parameters."""
    dynamics: bool = True
    """Predict differences, too, and take the most probable trajectory (MLPG)."""
    hidden: int = 96
    """Units of an acoustic LSTM, in each direction; dense layers get theirs from the number of parameters."""
    layers: int = 2
    """Recurrent layers of the acoustic model."""
    duration_hidden: int = 48
    """Units of the one duration LSTM, in each direction."""
    embedding: int = 16
    """Size of the vector of a phone, of which a model sees five."""
    dense: int = 128
    """Units of the dense layer before the recurrent ones."""
    dense_layers: int = 4
    """Dense layers of a DNN."""
    dropout: float = 0.2
    """Dropout rate after each layer; recurrent layers have one mask for all steps of a phrase."""
    longest: int = 240
    """Steps of 10 ms of a piece that is learnt at a time; longer phrases are cut between phones."""
    batch_steps: int = 1600
    """Steps in a batch, padding included."""
    buckets: int = 3
    """Number of lengths that training pieces are padded to; each is compiled."""
    epochs: int = 20
    """Passes over the training set; 0 lets train.steps say."""
    limit: int = 0
    """Use only so many prompts of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        positive = (
            "hidden",
            "layers",
            "duration_hidden",
            "embedding",
            "dense",
            "dense_layers",
            "batch_steps",
        )
        check_numbers(
            self,
            positive=(*positive, "longest", "buckets"),
            not_negative=("epochs", "limit"),
            rates=("dropout",),
        )


TRAIN = training.TrainConfig(steps=0, learning_rate=3e-3, schedule="cosine", averaging=0.99)

RECIPES = (
    Recipe({"model": "dnn"}, {}, {"learning_rate": 1e-3}),
    Recipe(
        {"quick": True},
        {"hidden": 8, "layers": 1, "duration_hidden": 8, "dense": 16, "buckets": 1, "epochs": 0, "limit": 4},
        {"steps": 20, "evaluate_every": 10, "log_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of model and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
