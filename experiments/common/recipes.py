"""Recipes: defaults that depend on choices, such as the data set."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from experiments.common.command_line import CommonConfig
from lstmjax.training import ConfigError, TrainConfig

Config = TypeVar("Config", bound=CommonConfig)


class Recipe(NamedTuple):
    """Defaults for a choice."""

    when: Mapping[str, Any]
    """The config values that select this recipe."""
    config: Mapping[str, Any] = MappingProxyType({})
    """Config values that differ from the defaults."""
    train: Mapping[str, Any] = MappingProxyType({})
    """Training hyperparameters that differ from the experiment's usual ones."""


def take(config: Config, usual: TrainConfig, recipes: Sequence[Recipe]) -> Config:
    """A config with the usual training hyperparameters and all recipes that match its choices.

    Recipes are applied in order; each is matched against the config with the earlier ones applied.
    """
    config = dataclasses.replace(config, train=usual)
    for recipe in recipes:
        if all(getattr(config, name) == value for name, value in recipe.when.items()):
            settings = dataclasses.replace(config.train, **recipe.train)
            config = dataclasses.replace(config, **recipe.config, train=settings)
    return config


def training_config(config: Any, steps_per_epoch: int) -> TrainConfig:
    """The training config for a config with epochs: epochs, if given, are converted to steps.

    Raises:
      ConfigError: both epochs and steps are given, or neither is.
    """
    settings: TrainConfig = config.train
    if not config.epochs:
        if not settings.steps:
            raise ConfigError("--epochs 0 leaves it to --train.steps how long to train: give it, too.")
        return settings
    if settings.steps:
        raise ConfigError(
            f"--epochs {config.epochs} and --train.steps {settings.steps} both say how long to train: "
            "give --epochs 0 with --train.steps."
        )
    steps = config.epochs * steps_per_epoch
    return dataclasses.replace(settings, steps=steps, evaluate_every=steps_per_epoch)
