"""From a task to a trained model with its figures: what all experiments with a training do alike."""

import shutil
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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
    """How many parameters there are, the best step, and the number of steps."""
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

    From here on the run is said to have read its test set.

    Args:
      task: what is learned.
      settings: how.
      run: where everything goes.
      optimizer: as for `training.fit`.
      params: as for `training.fit`.
      curves: the metrics to draw, and what each is, with its unit.
    """
    fit = training.fit(task, settings, run, optimizer, params)
    folder = models.folder_in(run.path)
    models.save_params(folder, fit.best.params)
    shutil.copyfile(run.path / "config.json", folder / "config.json")
    for number, (metric, ylabel) in enumerate((curves or {}).items()):
        name = f"learning_curves_{metric}.png" if number else "learning_curves.png"
        plots.learning_curves(run, metric, run.path / name, ylabel=ylabel)
    run.mark_tested()
    count, best, last = optax.tree.size(fit.best.params), fit.best.step, fit.state.step
    figures = {"parameters": float(count), "best_step": float(best), "steps": float(last)}
    return Learned(fit.best.params, figures, fit)


def evaluate(task: training.Task, params: Params, parts: Mapping[str, Iterable[Any]]) -> dict[str, float]:
    """Metrics of parts of a data set, each under its part's name: ``valid_nll``; under none for ``""``."""
    return {
        f"{part}_{metric}" if part else metric: value
        for part, batches in parts.items()
        for metric, value in training.evaluate(task, params, batches).items()
    }


def finish(run: Run, figures: Mapping[str, float]) -> None:
    """Write the summary of a run, and print its figures."""
    run.finish(figures)
    print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
