"""Random search: the settings of the trials, and what came of them."""

import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from experiments.common import mapped, models
from experiments.gate_ablation.config import Config
from lstmjax import training
from lstmjax.training.record import Run
from lstmjax.types import Array

LEARNING_RATE = (3e-3, 1e-1)
"""Range of the learning rate of Adam before it falls, log-uniform."""

ONE_MINUS_MOMENTUM = (1e-2, 1.0)
"""Range of 1 - momentum, log-uniform; the momentum is Adam's decay of the mean of gradients."""


class Settings(NamedTuple):
    """Hyperparameters of networks that train side by side, each float32 ``[networks]``."""

    learning_rate: Array
    momentum: Array
    noise: Array
    """Standard deviation of the Gaussian noise on the inputs in training."""


class Trials(NamedTuple):
    """The settings of a search and what came of them, each ``[trials]``; the best parameters of each are
    those of the step with the lowest validation figure."""

    settings: Settings
    valid_nll: Array
    test_nll: Array
    best_step: Array


def draw(config: Config) -> Settings:
    """The settings of all trials: a function of the seed, so that all variants try the same."""
    rng = np.random.default_rng((config.seed, 0))

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), config.trials))

    drawn = Settings(
        learning_rate=log_uniform(*LEARNING_RATE),
        momentum=1 - log_uniform(*ONE_MINUS_MOMENTUM),
        noise=rng.uniform(0, 1, config.trials),
    )
    return Settings(*(values.astype(np.float32) for values in drawn))


def repeated(settings: Settings, trial: int, times: int) -> Settings:
    """The settings of one trial, so many times."""
    return Settings(*(np.repeat(values[trial], times) for values in settings))


def optimizer(config: training.TrainConfig, settings: Settings) -> optax.GradientTransformation:
    """Adam for networks side by side, each with its own momentum and learning rate."""

    def one(own: Settings) -> optax.GradientTransformation:
        def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
            scale = optax.scale(own.learning_rate)
            return optax.chain(
                optax.scale_by_adam(b1=own.momentum), scale, optax.scale_by_learning_rate(schedule)
            )

        return training.optimizer(config, adam)

    def init(params: optax.Params) -> optax.OptState:
        return jax.vmap(lambda own, params: one(own).init(params))(settings, params)

    def update(
        gradients: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        return jax.vmap(lambda own, *rest: one(own).update(*rest))(settings, gradients, state, params)

    return optax.GradientTransformation(init, update)


def best_quarter(trials: Trials) -> np.ndarray:
    """The trials that are best on the validation set, a quarter of them but at least two; the best first."""
    return np.argsort(trials.valid_nll)[: max(len(trials.valid_nll) // 4, 2)]


def figures(trials: Trials) -> dict[str, float]:
    """The metrics of a search: the best trial on the validation set, its settings, and the best quarter."""
    top, test = best_quarter(trials), np.asarray(trials.test_nll, np.float64)
    best = {name: float(values[top[0]]) for name, values in trials.settings._asdict().items()}
    return {
        "trials": float(len(test)),
        "best_valid_nll": float(trials.valid_nll[top[0]]),
        "best_test_nll": float(test[top[0]]),
        "top_trials": float(len(top)),
        **mapped.spread({"top_test_nll": test[top]}),
        **best,
    }


def save(run: Run, trials: Trials) -> None:
    """Write the trials into the folder ``model`` of a run: they are what `record --keep-model` keeps."""
    folder = models.folder_in(run.path)
    models.save_params(folder, jax.tree.map(np.float32, trials))
    shutil.copyfile(run.path / "config.json", folder / "config.json")


def load(folder: Path) -> Trials:
    """The trials of a search, from a folder that `models.Source` gives."""
    count = models.config_of(folder, Config).trials
    like = np.zeros(count, np.float32)
    return models.load_params(folder, lambda key: Trials(Settings(like, like, like), like, like, like))
