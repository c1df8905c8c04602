"""Training hyperparameters that all experiments share, and the optimizers that use them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import optax

from lstmjax.training import averaging
from lstmjax.training.averaging import Averaging


class ConfigError(ValueError):
    """An invalid setting; the message names it."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Training hyperparameters that all experiments share."""

    steps: int = 1000
    """Number of training steps."""
    seed: int = 1
    """Random seed of everything random: initial parameters, order of batches, noise."""
    learning_rate: float = 1e-3
    """Peak learning rate of the optimizer."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate schedule after the warm-up; cosine reaches zero after the last step."""
    warmup: int = 0
    """Steps of linear warm-up of the learning rate, from zero."""
    clip_norm: float = 1.0
    """Maximum global norm of the gradients, to which larger ones are scaled down; 0 turns clipping off."""
    averaging: float = 0.0
    """Decay of an exponential moving average of the parameters, which is then evaluated; 0 for no average."""
    nonmonotone: int = 0
    """Interval n of NT-ASGD: once an evaluation is worse than the best of all except the last n, the mean of
    the parameters from there on is evaluated; 0 turns it off."""
    mean_from_start: bool = False
    """NT-ASGD for fine-tuning: the mean begins with the first step, and training stops where the mean
    would otherwise begin."""
    evaluate_every: int = 100
    """Steps between two evaluations on the validation set."""
    patience: int = 0
    """Evaluations without improvement after which training stops; 0 for never."""
    log_every: int = 50
    """Steps between two reports of the training loss."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last step always has one."""
    devices: int = 0
    """Devices that divide the rows of batches, or the models of a task; 0: all accelerators, or one CPU."""
    max_skipped: int = 10
    """Number of steps in a row with a loss or gradient that is not finite, each without an effect, after
    which training stops."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "clip_norm", "averaging"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"train.{name} must be a finite number, got {getattr(self, name)}.")
        for name in (
            *("steps", "seed", "learning_rate", "warmup", "clip_norm"),
            *("nonmonotone", "patience", "devices"),
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} must not be negative, got {getattr(self, name)}.")
        if self.seed >= 2**32:
            raise ConfigError(f"train.seed must be less than 2**32, got {self.seed}.")
        for name in ("evaluate_every", "log_every", "checkpoint_every", "max_skipped"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} must be at least 1 step, got {getattr(self, name)}.")
        if not 0 <= self.averaging < 1:
            raise ConfigError(f"train.averaging must lie in [0, 1), got {self.averaging}.")
        if self.nonmonotone and self.averaging:
            raise ConfigError(
                f"train.averaging {self.averaging} and train.nonmonotone {self.nonmonotone} are two averages "
                "of the parameters: one of them must be 0."
            )
        if self.mean_from_start and not self.nonmonotone:
            raise ConfigError("train.mean_from_start needs train.nonmonotone, which says when to stop.")

    @property
    def average(self) -> Averaging:
        """The averaging policy, which decides the parameters that are evaluated."""
        if self.nonmonotone:
            return averaging.nonmonotone(self.nonmonotone, self.mean_from_start)
        return averaging.exponential(self.averaging) if self.averaging else averaging.NONE


def adam(config: TrainConfig) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with the schedule and clipping of ``config``."""
    return optimizer(config, optax.adam)


def optimizer(
    config: TrainConfig, rule: Callable[[optax.Schedule], optax.GradientTransformation]
) -> optax.GradientTransformation:
    """An optax rule, such as ``optax.rmsprop``, with the schedule and clipping of ``config``."""
    after = max(config.steps - config.warmup, 1)
    schedules = {
        "constant": optax.constant_schedule(config.learning_rate),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, after),
    }
    schedule = schedules[config.schedule]
    if config.warmup:
        rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup)
        schedule = optax.join_schedules([rise, schedule], [config.warmup])
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, rule(schedule))
