"""From a task to a trained model with its metrics: the steps that all experiments with training share."""

import shutil
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from experiments.common import models, plots
from lstmjax import training
from lstmjax.training.record import Run
from lstmjax.types import Params


class Learned(NamedTuple):
    """A trained model."""

    params: Params
    """The best parameters."""
    figures: dict[str, float]
    """The number of parameters of a model, the best step (the mean over models), and the number of steps."""
    fit: training.Fit


def learn(
    task: training.Task,
    settings: training.TrainConfig,
    run: Run,
    optimizer: optax.GradientTransformation | None = None,
    params: Params | None = None,
    curves: Mapping[str, str] | None = None,
) -> Learned:
    """Train, and write the best parameters and the learning curves into the run's folder.

    Afterwards the run is marked as having read its test set. Its siblings, if any, are trained with it.

    Args:
      task: the task.
      settings: the training hyperparameters.
      run: the run that everything is written to.
      optimizer: as for `training.fit`.
      params: as for `training.fit`.
      curves: the metrics to plot, with their axis labels, which name quantity and unit.
    """
    if run.siblings and params is None:
        _train_siblings(task, settings, run, optimizer)
    fit = training.fit(task, settings, run, optimizer, params)
    folder = models.folder_in(run.path)
    models.save_params(folder, fit.best.params)
    shutil.copyfile(run.path / "config.json", folder / "config.json")
    for number, (metric, ylabel) in enumerate((curves or {}).items()):
        name = f"learning_curves_{metric}.png" if number else "learning_curves.png"
        plots.learning_curves(run, metric, run.path / name, ylabel=ylabel)
    run.mark_tested()
    count, best = optax.tree.size(fit.best.params) / (task.models or 1), np.mean(fit.best.step)
    figures = {"parameters": count, "best_step": float(best), "steps": float(fit.state.step)}
    return Learned(fit.best.params, figures, fit)


def _train_siblings(
    task: training.Task,
    settings: training.TrainConfig,
    run: Run,
    optimizer: optax.GradientTransformation | None,
) -> None:
    """Train a run and its siblings as one program."""
    rates = [
        each.config["train"]["learning_rate"] / run.config["train"]["learning_rate"] for each in run.siblings
    ]
    members = [training.Member(each, each.seed, rate) for each, rate in zip(run.siblings, rates, strict=True)]
    training.fit_jointly(task, settings, members, optimizer)
    run.siblings = ()


def evaluate(task: training.Task, params: Params, parts: Mapping[str, Iterable[Any]]) -> dict[str, float]:
    """Metrics of splits of a data set, prefixed by the split: ``valid_nll``; without a prefix for ``""``."""
    return {
        f"{part}_{metric}" if part else metric: value
        for part, batches in parts.items()
        for metric, value in training.evaluate(task, params, batches).items()
    }


def finish(run: Run, figures: Mapping[str, float]) -> None:
    """Seal the model of a run, write its summary, and print its metrics."""
    models.seal(run.path)
    run.finish(figures)
    print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
