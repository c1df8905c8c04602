"""Defaults that depend on choices, such as the data set: recipes, and how they are taken."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from experiments.common.command_line import CommonConfig
from lstmjax.training import ConfigError, TrainConfig

Config = TypeVar("Config", bound=CommonConfig)


class Recipe(NamedTuple):
    """Defaults that belong to a choice."""

    when: Mapping[str, Any]
    """The config values that it belongs to."""
    config: Mapping[str, Any] = MappingProxyType({})
    """Config values that differ from the defaults."""
    train: Mapping[str, Any] = MappingProxyType({})
    """Values of the training config that differ from the experiment's usual ones."""


def take(config: Config, usual: TrainConfig, recipes: Sequence[Recipe]) -> Config:
    """A config with its usual training and the recipes that belong to its choices.

    They are taken one after the other, where they belong to what is chosen by then.
    """
    config = dataclasses.replace(config, train=usual)
    for recipe in recipes:
        if all(getattr(config, name) == value for name, value in recipe.when.items()):
            settings = dataclasses.replace(config.train, **recipe.train)
            config = dataclasses.replace(config, **recipe.config, train=settings)
    return config


def training_config(config: Any, steps_per_epoch: int) -> TrainConfig:
    """The training config of a config with epochs: with their steps, if they say how many there are.

    Raises:
      ConfigError: both epochs and steps say it, or neither does.
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
