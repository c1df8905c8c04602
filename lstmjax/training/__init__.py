"""The training loop and its parts: tasks, batches, evaluation, checkpoints, run records, host settings."""

from lstmjax.training.config import ConfigError, TrainConfig, adam, optimizer
from lstmjax.training.evaluation import evaluate, evaluate_each
from lstmjax.training.interruption import Interrupted
from lstmjax.training.joint import Member, fit_jointly
from lstmjax.training.loop import (
    evaluated,
    fit,
    init_state,
    make_step,
)
from lstmjax.training.state import Best, Fit, NonFiniteError, Skipped, TrainingError, TrainState
from lstmjax.training.task import Metrics, Task

__all__ = [
    "Best",
    "ConfigError",
    "Fit",
    "Interrupted",
    "Member",
    "Metrics",
    "NonFiniteError",
    "Skipped",
    "Task",
    "TrainConfig",
    "TrainState",
    "TrainingError",
    "adam",
    "evaluate",
    "evaluate_each",
    "evaluated",
    "fit",
    "fit_jointly",
    "init_state",
    "make_step",
    "optimizer",
]
