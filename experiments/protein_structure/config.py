"""Flags of protein_structure, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of protein_structure; defaults depend on data set, model and inputs, see `preset`."""

    dataset: Literal["nr25", "flip", "cb6133"] = "nr25"
    """Chains of ProMod3's structure database; those of NetSurfP-2.0, tested on CB513; CullPDB, tested on
    CB513, as published, which must be downloaded manually."""
    model: Literal["blstm", "large", "lstm", "rnn", "window"] = "blstm"
    """Bidirectional LSTM, a larger one, LSTM in one direction, bidirectional Elman network, no recurrence."""
    inputs: Literal["profile", "sequence"] = "profile"
    """Sequence and profile, or the sequence alone; flip has no profiles."""
    hidden: int = 160
    """Hidden units of a recurrent layer, in each direction."""
    layers: int = 2
    """Number of recurrent layers."""
    embedding: int = 128
    """Units of the dense layers before and after the recurrent layers."""
    window: int = 7
    """Width of the input window in residues, centred on the residue; odd."""
    dropout: float = 0.3
    """Dropout rate on outputs of layers."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimizer."""
    batch_residues: int = 4000
    """Residues of a batch, padding included."""
    buckets: int = 5
    """Number of lengths that chains are padded to; each is compiled."""
    epochs: int = 8
    """Passes over the training set, with an evaluation after each; with 0, train.steps and
    train.evaluate_every apply."""
    members: tuple[str, ...] = ()
    """Test the mean of the probabilities of these in place of training: folders of runs on the data set, or
    labels of kept models."""
    limit: int = 0
    """Maximum number of chains of each split; 0 for all. With a limit, the results are not meaningful."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "embedding", "window", "batch_residues", "buckets"),
            not_negative=("layers", "epochs", "limit"),
            rates=("dropout",),
        )
        if self.window % 2 == 0:
            raise training.ConfigError(f"window must be odd, for a residue in its middle, got {self.window}.")


TRAIN = training.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With ``steps=0``, the number of steps follows from the epochs."""


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
"""Defaults for choices, see `experiments.common.recipes`. The models `blstm`, `lstm` and `rnn` have about as
many parameters as each other."""


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, model, inputs and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


def check(config: Config) -> None:
    """Raise ConfigError if choices are incompatible."""
    if (config.dataset, config.inputs) == ("flip", "profile"):
        raise training.ConfigError("flip has sequences alone: --inputs must be sequence.")
    if (config.model == "window") != (config.layers == 0):
        raise training.ConfigError(
            f"--model {config.model} with --layers {config.layers}: window has no recurrent layer, others do."
        )
