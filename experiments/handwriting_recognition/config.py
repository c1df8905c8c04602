"""Flags of handwriting_recognition, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of handwriting_recognition; defaults depend on the task, see `preset`."""

    task: Literal["words", "lowercase", "digits", "pendigits", "synthesis"] = "words"
    """Words, lower-case letters or digits of UNIPEN; PenDigits; writing in place of reading."""
    first: int = 64
    """Units of an LSTM of the first layer, which reads twice as many frames as the others."""
    hidden: int = 128
    """Units of an LSTM of the other layers; a layer has one for each direction."""
    layers: int = 2
    """Bidirectional layers."""
    dropout: float = 0.1
    """Dropout rate on the outputs of each layer."""
    augmentation: float = 1.0
    """Strength of the distortions of training inks; 0 for none."""
    batch_points: int = 8000
    """Points of a batch after resampling, padding included."""
    buckets: int = 8
    """Number of lengths that training inks are padded to; each is compiled."""
    epochs: int = 14
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    components: int = 10
    """Synthesis: Gaussians of a step of the pen."""
    windows: int = 5
    """Synthesis: Gaussians of the window over the text."""
    tolerance: float = 0.025
    """Synthesis: largest distance of strokes from the lines that replace them, in letters of ink."""
    limit: int = 0
    """Use only so many inks of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("first", "hidden", "layers", "batch_points", "buckets", "components", "windows"),
            not_negative=("augmentation", "tolerance", "epochs", "limit"),
            rates=("dropout",),
        )


TRAIN = training.TrainConfig(steps=0, learning_rate=4e-3, schedule="cosine", warmup=200, averaging=0.998)

RECIPES = (
    Recipe({"task": "words"}, {"first": 80, "hidden": 160, "dropout": 0.3}),
    Recipe(
        {"task": "synthesis"},
        {"hidden": 128, "batch_points": 4000, "buckets": 4, "epochs": 4},
        {"learning_rate": 4e-3, "clip_norm": 10.0, "warmup": 100, "averaging": 0.995},
    ),
    Recipe({"task": "lowercase"}, {"first": 48, "hidden": 96, "buckets": 4, "epochs": 12}),
    *(
        Recipe(
            {"task": task},
            {"first": 48, "hidden": 64, "dropout": 0.2, "batch_points": 3000, "buckets": 3, "epochs": 40},
            {"learning_rate": 4e-3, "warmup": 100, "averaging": 0.99},
        )
        for task in ("digits", "pendigits")
    ),
    Recipe(
        {"quick": True},
        {"first": 16, "hidden": 16, "layers": 1, "buckets": 1, "epochs": 0, "limit": 100},
        {"steps": 20, "evaluate_every": 10, "log_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of task and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
