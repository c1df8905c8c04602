"""Flags of speech_recognition, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of speech_recognition; defaults depend on data set and model, see `preset`."""

    dataset: Literal["digits", "unseen-speaker", "strings"] = "digits"
    """Single digits, official split; six networks, each tested on a speaker it never heard; digit strings."""
    model: Literal["ctc", "las"] = "ctc"
    """Connectionist temporal classification, or a decoder with attention (listen, attend and spell)."""
    hidden: int = 64
    """Units of each direction of a layer, and of the decoder."""
    layers: int = 2
    """Bidirectional layers."""
    bands: int = 32
    """Bands of the log-mel energies."""
    stack: int = 2
    """Frames of 10 ms that are joined to one input of the first layer."""
    pyramid: bool = True
    """Join pairs of outputs of a layer to one input of the next."""
    dropout: float = 0.2
    """Dropout rate on the outputs of layers."""
    ctc_weight: float = 0.3
    """Weight of the CTC loss of the listener beside that of the decoder with attention."""
    start: str = ""
    """Label of a kept network whose parameters are those at the start, as far as it has them."""
    augment: bool = True
    """Vary tempo, vocal tract length, noise and masks at random in training."""
    inner: bool = False
    """With unseen-speaker: leave out a second speaker, and validate on it; for the choice of recipes."""
    strings: int = 12_000
    """Different strings of the training set."""
    batch_frames: int = 3000
    """Frames of a batch, padding included."""
    epochs: int = 40
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    limit: int = 0
    """Use only so many recordings of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "layers", "bands", "stack", "strings", "batch_frames"),
            not_negative=("epochs", "limit"),
            rates=("dropout", "ctc_weight"),
        )
        if self.inner and self.dataset != "unseen-speaker":
            raise training.ConfigError(f"--inner is for --dataset unseen-speaker, not for {self.dataset}.")

    @property
    def models(self) -> int:
        """Networks that are trained side by side."""
        return 6 if self.dataset == "unseen-speaker" else 1


TRAIN = training.TrainConfig(
    steps=0, learning_rate=4e-3, schedule="cosine", warmup=100, averaging=0.995, log_every=50
)

RECIPES = (
    Recipe({"dataset": "unseen-speaker"}, {"hidden": 96, "dropout": 0.3, "epochs": 24}),
    Recipe(
        {"dataset": "strings"},
        {"epochs": 0, "batch_frames": 6000, "dropout": 0.3},
        {"steps": 2500, "evaluate_every": 250},
    ),
    Recipe({"dataset": "strings", "model": "las"}, {"start": "strings-blstm", "dropout": 0.2}),
    Recipe({"dataset": "strings", "model": "las"}, train={"steps": 500, "evaluate_every": 100}),
    Recipe(
        {"quick": True},
        {"hidden": 8, "start": "", "epochs": 0, "limit": 60, "strings": 100, "batch_frames": 3000},
        {"steps": 20, "evaluate_every": 10, "log_every": 10, "warmup": 5, "averaging": 0.9},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, model and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
