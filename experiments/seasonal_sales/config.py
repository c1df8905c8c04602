"""Flags of seasonal_sales, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of seasonal_sales."""

    dataset: Literal["festivals", "walmart", "m3"] = "festivals"
    """Views of festivals' pages by day, sales of departments by week, M3 by month; see `panel.SETTINGS`."""
    model: Literal["lstm", "gru", "rnn", "naive", "aligned", "theta", "ets"] = "lstm"
    """A recurrent network, or a baseline of `baselines.py` that is not trained on several series."""
    held_out: Literal["test", "valid"] = "test"
    """The part that is forecast, by networks that are trained on all that comes before it. Recipes are
    chosen on the validation part."""
    hidden: int = 24
    """Size of the hidden state."""
    layers: int = 1
    """Number of recurrent layers."""
    models: int = 5
    """Random seeds: so many networks learn side by side, each with its own parameters and windows."""
    batch_size: int = 8
    """Windows in a batch, of each network."""
    with_theta: bool = False
    """Also score the mean of the networks' median forecast and Theta's, as ``with_theta``."""
    limit: int = 0
    """Maximum number of series; 0 for all. With a limit, the results are not meaningful."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("hidden", "layers", "models", "batch_size"), not_negative=("limit",))


TRAIN = training.TrainConfig(
    steps=500, learning_rate=1e-2, schedule="cosine", averaging=0.99, log_every=50, checkpoint_every=100
)

RECIPES = (
    Recipe({"dataset": "festivals"}, train={"steps": 400}),
    Recipe({"dataset": "m3"}, {"models": 20, "batch_size": 64}, {"steps": 1000}),
    Recipe({"dataset": "walmart"}, {"batch_size": 64}),
    Recipe({"model": "rnn"}, {"hidden": 56}, {"learning_rate": 3e-3}),
    Recipe(
        {"quick": True},
        {"hidden": 8, "models": 2, "batch_size": 4, "limit": 12},
        {"steps": 20, "log_every": 10, "averaging": 0.5},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, model and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


def check(config: Config) -> None:
    """Raise ConfigError if choices are incompatible."""
    if config.model == "aligned" and config.dataset != "festivals":
        raise training.ConfigError("--model aligned is for --dataset festivals, whose dates move.")
