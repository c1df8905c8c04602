"""Flags of image_captioning, and the recipes for their choices."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training

BASELINES = ("nearest", "random", "frequent")
"""The choices of `Config.model` that learn nothing."""


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of image_captioning; defaults depend on the data set, see `preset`."""

    dataset: Literal["flickr8k", "shapes", "tuxpaint"] = "flickr8k"
    """Photographs, rendered shapes, or stamps of Tux Paint."""
    model: Literal["attention", "plain", "nearest", "random", "frequent"] = "attention"
    """Show, Attend and Tell; Show and Tell; or a baseline: the caption of the nearest training picture, of
    any training picture, or the most frequent words."""
    folder: Path | None = None
    """Pictures of your own with captions in place of a data set: a folder with train.tsv, valid.tsv and
    test.tsv, in each line a file in the folder, a tab and a caption. It may be larger than memory."""
    features: Path | None = None
    """Precomputed features instead of pictures: an npz with an array [regions, features] for each picture, by
    its file's name, such as those of a ResNet."""
    hidden: int = 192
    """Units of the decoder."""
    embedding: int = 96
    """Size of the word embeddings and of the output layer."""
    channels: tuple[int, ...] = (16, 32, 64, 96)
    """Channels of the encoder's convolutions; the first three halve the picture's sides."""
    contours: bool = False
    """Half of the channels see contours without colours, the other half the picture."""
    crop: int = 64
    """Pixels of a side that the model sees: a random part in training, the middle in evaluation."""
    mirror: bool = True
    """Mirror half of the training pictures."""
    dropout: float = 0.4
    """Dropout rate on word embeddings, regions and outputs, with one mask for all words of a caption."""
    penalty: float = 0.1
    """Weight of the doubly stochastic penalty: all regions should be attended to equally over a caption."""
    rare: int = 3
    """Words that occur less often in the training captions are unknown."""
    longest: int = 20
    """Maximum number of words of a caption; longer training captions are cut."""
    batch_words: int = 800
    """Words of a training batch, padding included."""
    buckets: int = 2
    """Maximum number of different batch shapes; each is compiled."""
    epochs: int = 14
    """Passes over the training captions, with an evaluation after each; 0 lets train.steps say."""
    beams: int = 3
    """Beam size."""
    length_penalty: float = 1.5
    """Alpha of Wu et al. in beam search: higher values favour longer captions."""
    limit: int = 0
    """Use only so many pictures of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        sizes = ("hidden", "embedding", "crop", "rare", "longest", "batch_words", "buckets", "beams")
        check_numbers(
            self,
            positive=sizes,
            not_negative=("penalty", "length_penalty", "epochs", "limit"),
            rates=("dropout",),
        )
        if self.folder is not None and self.model in BASELINES:
            raise training.ConfigError("--folder is for --model attention or plain.")
        if len(self.channels) < 3 or min(self.channels) < 1:
            raise training.ConfigError(f"channels must be at least three positive numbers: {self.channels}.")
        if self.contours and any(size % 2 for size in self.channels):
            raise training.ConfigError(f"channels must be even with --contours: {self.channels}.")


TRAIN = training.TrainConfig(
    steps=0, learning_rate=3e-3, schedule="cosine", warmup=100, averaging=0.99, log_every=50
)
"""With ``steps=0``, the number of steps follows from the epochs."""

RECIPES = (
    Recipe(
        {"dataset": "shapes"},
        {
            "hidden": 128,
            "embedding": 64,
            "channels": (16, 32, 64),
            "contours": True,
            "crop": 48,
            "mirror": False,
            "dropout": 0.2,
            "penalty": 0.0,
            "length_penalty": 0.7,
            "epochs": 12,
        },
    ),
    Recipe(
        {"quick": True},
        {
            "hidden": 16,
            "embedding": 16,
            "channels": (4, 4, 8),
            "limit": 20,
            "epochs": 0,
            "batch_words": 200,
            "buckets": 1,
        },
        {"steps": 10, "evaluate_every": 5, "log_every": 5, "warmup": 2},
    ),
)
"""Defaults for choices, see `experiments.common.recipes`."""


def preset(config: Config) -> Config:
    """The defaults for the choices of data set and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
