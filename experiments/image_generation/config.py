"""Flags of image_generation, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of image_generation; defaults depend on the attention, see `preset`."""

    attention: bool = True
    """Read and write through windows that the network moves; without, the whole image at once."""
    glimpses: int = 10
    """Steps in which an image is read and drawn; 64 in the paper."""
    binarisation: Literal["dynamic", "static"] = "dynamic"
    """Pixels are drawn anew in every epoch, by their brightness, or thresholded at a half."""
    hidden: int = 256
    """Units of the encoder's LSTM, and of the decoder's."""
    latent: int = 100
    """Latent variables of a glimpse."""
    read: int = 2
    """Filters in a row and in a column of the grid that reads, with attention."""
    write: int = 5
    """Filters in a row and in a column of the grid that writes, with attention."""
    kl_warmup: int = 500
    """Steps in which the weight of the KL in the loss grows to 1; the latent variables then come into use."""
    batch_size: int = 100
    """Images of a batch."""
    epochs: int = 35
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    importance: int = 50
    """Samples of each test image, for both figures."""
    limit: int = 0
    """Use only so many images of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("glimpses", "hidden", "latent", "read", "write", "batch_size", "importance"),
            not_negative=("kl_warmup", "epochs", "limit"),
        )


TRAIN = training.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", clip_norm=5.0, checkpoint_every=1000
)

RECIPES = (
    Recipe({"attention": False}, {"epochs": 12, "kl_warmup": 0}),
    Recipe(
        {"quick": True},
        {"hidden": 32, "latent": 8, "glimpses": 4, "importance": 3, "epochs": 0, "limit": 300},
        {"steps": 20, "evaluate_every": 10, "log_every": 10},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of attention and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
