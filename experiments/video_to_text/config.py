"""Flags of video_to_text, and the recipes for their choices."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from experiments.video_to_text.grammar import Split
from lstmjax import training

LONGEST = 64
"""The most frames of a video of moving digits."""


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of video_to_text; defaults depend on the number of digits and on ``folder``, see `preset`."""

    model: Literal["s2vt", "pooling"] = "s2vt"
    """Two stacked LSTMs that read frames and then write words, or the mean of the frames for each word."""
    attention: Literal["none", "temporal"] = "none"
    """Whether s2vt attends to the frames while it writes."""
    digits: Literal[1, 2] = 1
    """Digits in a video."""
    split: Split = "combinations"
    """Which sentences there are, and which combinations of digit and motion are held out for the test."""
    folder: Path | None = None
    """Train on videos of your own with captions, and not on moving digits; see `folders.py`."""
    frames: int = 20
    """The most frames of a video; of longer ones so many are taken, evenly."""
    fewest: int = 16
    """The fewest frames of a video of moving digits."""
    channels: int = 32
    """Channels of the first convolution; the second has twice as many."""
    features: int = 128
    """Size of the vector of a frame, and of the embedding of a word."""
    hidden: int = 128
    """Units of each of the two LSTMs."""
    dropout: float = 0.0
    """Dropout rate of frames' vectors and of the outputs before the last layer."""
    batch_size: int = 32
    """Videos of a step."""
    videos: int = 1000
    """Videos of the validation set and of each test set of moving digits."""
    alone_steps: int = 0
    """With two digits, training steps at the beginning whose videos have one digit (a curriculum)."""
    eye_steps: int = 1500
    """Steps in which the convolutions first learn to name digits in single frames; 0 for none."""
    epochs: int = 0
    """With ``folder``, passes over the training set; with 0, train.steps applies."""

    def __post_init__(self) -> None:
        sizes = ("frames", "fewest", "channels", "features", "hidden", "batch_size", "videos")
        check_numbers(
            self, positive=sizes, not_negative=("alone_steps", "eye_steps", "epochs"), rates=("dropout",)
        )
        if self.folder is None and not self.fewest <= self.frames <= LONGEST:
            raise training.ConfigError(
                f"frames must be at least fewest and at most {LONGEST}, got {self.frames} and {self.fewest}."
            )
        if self.model == "pooling" and self.attention != "none":
            raise training.ConfigError("attention is for --model s2vt: the mean of the frames has no time.")
        if self.alone_steps and self.digits == 1:
            raise training.ConfigError("alone_steps are for --digits 2: with 1, a digit is always alone.")
        if self.folder is None and self.epochs:
            raise training.ConfigError("epochs are for --folder: moving digits are drawn anew at every step.")


TRAIN = training.TrainConfig(
    steps=8000, learning_rate=3e-3, schedule="cosine", warmup=100, averaging=0.99, evaluate_every=500
)

RECIPES = (
    Recipe({"model": "pooling"}, {}, {"steps": 3000}),
    Recipe(
        {"digits": 2},
        {"alone_steps": 2500, "eye_steps": 3000, "features": 192, "hidden": 192},
        {"steps": 24000, "evaluate_every": 1000},
    ),
    Recipe(
        {"quick": True},
        {"hidden": 16, "features": 16, "channels": 4, "batch_size": 16, "videos": 32}
        | {"alone_steps": 0, "eye_steps": 10},
        {"steps": 20, "evaluate_every": 10, "log_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of digits, folder and ``--quick`` in ``config``."""
    usual = dataclasses.replace(TRAIN, steps=0) if config.epochs else TRAIN
    return recipes.take(config, usual, RECIPES)
