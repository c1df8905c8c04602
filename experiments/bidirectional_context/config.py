"""Flags of bidirectional_context, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of bidirectional_context; defaults depend on data set and direction, see `preset`."""

    dataset: Literal["digits", "protein"] = "digits"
    """Frames of spoken digits, or residues of proteins."""
    direction: Literal["past", "future", "both", "delayed"] = "both"
    """What a network knows of the sequence when it labels a frame."""
    delay: int = 0
    """Frames that a delayed network reads beyond the one that it labels."""
    parameters: int = 10_250
    """Parameters of a network, as nearly as a hidden size gives it; the defaults suit one and two LSTMs."""
    models: int = 5
    """Networks that are trained side by side, with initial parameters of their own."""
    batch_frames: int = 2000
    """Frames of a batch, padding included."""
    buckets: int = 5
    """Number of lengths that training sequences are padded to; each is compiled."""
    epochs: int = 15
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    limit: int = 0
    """Use only so many sequences of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("parameters", "models", "batch_frames", "buckets"),
            not_negative=("delay", "epochs", "limit"),
        )
        if self.delay and self.direction != "delayed":
            raise training.ConfigError(
                f"delay {self.delay} is for --direction delayed, not for {self.direction}."
            )


TRAIN = training.TrainConfig(steps=0, learning_rate=5e-3, schedule="cosine")

RECIPES = (
    Recipe({"direction": "delayed"}, {"delay": 8}),
    Recipe({"dataset": "protein"}, {"parameters": 11_250, "epochs": 3, "batch_frames": 4000}),
    Recipe(
        {"quick": True},
        {"parameters": 3000, "models": 2, "buckets": 1, "epochs": 0, "limit": 30},
        {"steps": 20, "evaluate_every": 10, "log_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, direction and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
