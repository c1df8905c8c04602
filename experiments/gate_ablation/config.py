"""Flags of gate_ablation."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of gate_ablation."""

    variant: Literal["v", "nig", "nfg", "nog", "niaf", "noaf", "cifg", "np", "fgr"] = "v"
    """What the LSTM lacks or has besides, see `model.py`; v is the whole one, with peepholes."""
    trials: int = 16
    """Networks of the random search, each with settings of its own, that train side by side."""
    seeds: int = 5
    """Networks that are trained anew with the settings of the best trial."""
    hidden: int = 32
    """Size of the hidden state, of all networks."""
    batch_size: int = 8
    """Chorales in a batch."""
    chunk_frames: int = 64
    """Frames that are predicted in a sequence in training, into which chorales are cut; 0 for whole ones."""
    epochs: int = 14
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    limit: int = 0
    """Maximum number of chorales of each split; 0 for all. With a limit, the results are not meaningful."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "batch_size"),
            not_negative=("chunk_frames", "epochs", "limit"),
        )
        for name in ("trials", "seeds"):
            if getattr(self, name) < 2:
                raise training.ConfigError(
                    f"{name} must be at least 2, of which a spread is reported, got {getattr(self, name)}."
                )


TRAIN = training.TrainConfig(
    steps=0, learning_rate=1.0, schedule="cosine", log_every=30, checkpoint_every=150
)
"""The learning rate is a factor of those that the trials draw."""

RECIPES = (
    Recipe(
        {"quick": True},
        {"trials": 4, "seeds": 2, "hidden": 8, "limit": 12, "epochs": 0},
        {"steps": 20, "log_every": 10, "evaluate_every": 10, "checkpoint_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults, or those of ``--quick``."""
    return recipes.take(config, TRAIN, RECIPES)
