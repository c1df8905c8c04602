"""The best parameters on the validation set: what an evaluation of the current ones changes."""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.training.averaging import Averaging
from lstmjax.training.progress import format_figures
from lstmjax.training.record import Run
from lstmjax.training.state import Best, Fit, TrainingError, TrainState
from lstmjax.training.task import Task
from lstmjax.types import Params


def judge(
    task: Task,
    average: Averaging,
    progress: Fit,
    each: Mapping[str, np.ndarray],
    say: Callable[[str], None],
    run: Run | None,
) -> Fit:
    """Update the best parameters and the averaging policy after an evaluation, and log it.

    The parameters before the first step are neither logged nor shown to the policy.

    Args:
      task: the task.
      average: the averaging policy.
      progress: the state whose parameters were evaluated, and the best ones before.
      each: the metrics, as `evaluate_each` gives them; without any, the current parameters are the best.
      say: prints a line.
      run: where they are logged, if anywhere.

    Raises:
      TrainingError: the monitored metric is missing, is not finite, or has another number of models.
    """
    (state, best), step = progress, int(progress.state.step)
    params = average.params(state.average, state.params)
    if not each:
        return Fit(state, unknown(task, candidate(average, state), step))
    name = task.monitor.removeprefix("-")
    if name not in each:
        raise TrainingError(f"the task monitors {task.monitor!r}, but evaluates only {sorted(each)}.")
    value = np.asarray(each[name] if name == task.monitor else -each[name])
    if value.shape != np.shape(best.value):
        raise TrainingError(f"{name} has shape {value.shape}, but the task has models={task.models}.")
    if not np.isfinite(value).any():
        raise TrainingError(f"{name} on the validation set is {each[name]} at step {step}.")
    is_best = np.asarray(value < best.value)
    figures = {name: _mean(values) for name, values in each.items()}
    say(f"step {step}  valid {format_figures(figures)}{'  (best)' if is_best.any() else ''}")
    if run is not None and step > 0:
        run.log(step, figures, kind="valid")
    best = _better(best, Best(params, value, step, 0), is_best)
    if step > 0:
        changed, remark = average.observe(state.average, _mean(value))
        state = state._replace(average=changed)
        if remark:
            say(f"step {step}  {remark}")
    return Fit(state, best)


def candidate(average: Averaging, state: TrainState) -> Params:
    """Copies of the parameters to evaluate, since those of the state are donated to the next step."""
    return jax.tree.map(jnp.copy, average.params(state.average, state.params))


def _mean(values: np.ndarray) -> float:
    """The mean over models, without those that have diverged."""
    finite = np.isfinite(values)
    return float(values[finite].mean() if finite.any() else values.mean())


def unknown(task: Task, params: Params, step: int) -> Best:
    """Parameters whose value is not known."""
    if task.models is None:
        return Best(params, math.inf, step, 0)
    return Best(params, np.full(task.models, math.inf), np.full(task.models, step), 0)


def _better(best: Best, new: Best, is_new: np.ndarray) -> Best:
    """The better of two for each model; what is new is copied, since it is donated to the next step."""
    if not is_new.any():
        return best._replace(stale=best.stale + 1)
    params = jax.tree.map(functools.partial(_choose, is_new), new.params, best.params)
    value, step = np.where(is_new, new.value, best.value), np.where(is_new, new.step, best.step)
    return Best(params, value, step, 0) if is_new.ndim else Best(params, value.item(), step.item(), 0)


def _choose(is_new: np.ndarray, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(is_new.reshape(is_new.shape + (1,) * (new.ndim - is_new.ndim)), new, old)
