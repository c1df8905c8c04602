"""The training loop, over pure functions.

A `Task` defines the initial parameters, the loss, the batch of each step, and the metrics. `fit` does the
rest, in the same way for every experiment: a jitted step with donated buffers, parameter averaging,
evaluation on the validation set, selection of the best parameters, early stopping, checkpoints, and
records. Everything random is a function of seed and step, so a resumed run gives the same bits as an
uninterrupted one.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax.metrics import Mean
from lstmjax.training import config as configs
from lstmjax.training.averaging import Averaging
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.config import TrainConfig
from lstmjax.training.evaluation import compute, evaluate_each
from lstmjax.training.progress import ProgressReport, format_figures
from lstmjax.training.record import Run
from lstmjax.training.task import Batch, Carry, Metrics, Task
from lstmjax.types import Params


class TrainState(NamedTuple):
    """The state that a training step updates."""

    step: jax.Array
    """Number of steps done, int32."""
    params: Params
    average: Any
    """State of the averaging policy, see `TrainConfig.average`."""
    optimizer: optax.OptState
    carry: Carry = ()
    """The carry that the next batch begins with."""


class Best(NamedTuple):
    """The best parameters so far, of each model if there are several; an evaluation updates it."""

    params: Params
    value: float | np.ndarray
    """Their value of the monitored metric, negated if it is maximised; inf before the first evaluation. Of
    several models (`Task.models`), float64 ``[models]``."""
    step: int | np.ndarray
    """The step that they are from; of several models, int64 ``[models]``."""
    stale: int
    """Number of evaluations since any model improved."""


class Fit(NamedTuple):
    """The result of `fit`."""

    state: TrainState
    best: Best


class TrainingError(RuntimeError):
    """Training cannot continue."""


def init_state(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation, params: Params | None = None
) -> TrainState:
    """The state before the first step, with fresh parameters or copies of the given ones."""
    init_key, _ = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(task.init)(init_key) if params is None else jax.tree.map(jnp.array, params)
    carry = jax.tree.map(jnp.array, task.initial_carry())
    average = config.average.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, average, optimizer.init(params), carry)


def make_step(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted training step; the state passed to it is donated and must not be used again."""
    _, step_key = jax.random.split(jax.random.key(config.seed))
    update_average = config.average.update

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(step_key, state.step)
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (carry, metrics)), gradients = gradient(state.params, state.carry, batch, key)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        if task.rate_factor is not None:
            updates = optax.tree.scale(task.rate_factor(batch), updates)
        params = optax.apply_updates(state.params, updates)
        average = update_average(state.average, params, state.step)
        norm = Mean.of(optax.tree.norm(gradients))
        metrics = {"loss": Mean.of(loss), **metrics, "gradient_norm": norm}
        return TrainState(state.step + 1, params, average, optimizer_state, carry), metrics

    return step


def fit(
    task: Task,
    config: TrainConfig,
    run: Run | None = None,
    optimizer: optax.GradientTransformation | None = None,
    params: Params | None = None,
) -> Fit:
    """Train; resume from the latest checkpoint of the run if there is one.

    Args:
      task: the task.
      config: the training hyperparameters.
      run: the run that metrics and checkpoints are written to; by default none.
      optimizer: by default `adam` of the config; it includes learning rate, schedule and clipping.
      params: initial parameters, such as trained ones, which are evaluated before the first step; by default
        fresh ones.

    Returns:
      The last state, and the parameters that were best on the validation set (averaged ones if there is
      averaging).

    Raises:
      TrainingError: the loss, its gradient or the monitored metric is not finite, or the task does not
        compute the metric that it monitors.
    """
    optimizer, average = optimizer or configs.adam(config), config.average
    state = init_state(task, config, optimizer, params)
    checkpoints, (state, best) = _resume(run, Fit(state, _unknown(task, _candidate(average, state), 0)))
    train_step, step, recent = make_step(task, config, optimizer), int(state.step), list[Metrics]()
    with ProgressReport(config.steps, step) as report:
        report.line(_headline(state))
        if params is not None and step == 0:
            state, best = _validate(task, average, Fit(state, best), report, None, observe=False)
        done = _done(task, config, average, step, state, best)
        while not done:
            state, metrics = train_step(state, task.batch(config.seed, step))
            recent.append(metrics)
            step += 1
            evaluating = step % config.evaluate_every == 0 or step == config.steps
            saving = step % config.checkpoint_every == 0
            if evaluating or saving or step % config.log_every == 0:
                _log(step, recent, report, run)
                recent = []
            if evaluating:
                state, best = _validate(task, average, Fit(state, best), report, run)
                done = _done(task, config, average, step, state, best)
            if checkpoints is not None and (saving or done):
                checkpoints.save(step, Fit(state, best))
        if step < config.steps:
            reason = f"no new best in {best.stale} evaluations" if best.stale else "the task is done"
            report.line(f"stopped early at step {step}: {reason}")
    return Fit(state, best)


def _resume(run: Run | None, progress: Fit) -> tuple[Checkpoints | None, Fit]:
    """The checkpoints of a run, and the state of its latest one; later log entries are dropped."""
    if run is None:
        return None, progress
    checkpoints = Checkpoints(run.path / "checkpoints")
    restored = checkpoints.restore_latest(progress)
    progress = progress if restored is None else restored[1]
    checkpoints.rewind(int(progress.state.step))
    run.rewind(int(progress.state.step))
    return checkpoints, progress


def evaluated(config: TrainConfig, state: TrainState) -> Params:
    """The parameters of a state to evaluate: averaged ones if the config has averaging."""
    return config.average.params(state.average, state.params)


def _candidate(average: Averaging, state: TrainState) -> Params:
    """Copies of the parameters to evaluate, since those of the state are donated to the next step."""
    return jax.tree.map(jnp.copy, average.params(state.average, state.params))


def _done(
    task: Task, config: TrainConfig, average: Averaging, step: int, state: TrainState, best: Best
) -> bool:
    stale = config.patience > 0 and best.stale >= config.patience
    over = task.done is not None and task.done(state.carry)
    return step >= config.steps or stale or over or average.done(state.average)


def _log(step: int, recent: list[Metrics], report: ProgressReport, run: Run | None) -> None:
    """Report the metrics of the latest steps.

    Raises:
      TrainingError: the loss or the gradient norm is not finite.
    """
    figures = compute(recent)
    for name, quantity in (("loss", "loss"), ("gradient_norm", "norm of the gradient")):
        if not math.isfinite(figures[name]):
            raise TrainingError(
                f"the {quantity} is {figures[name]} at or before step {step}: lower --train.learning-rate or "
                "--train.clip-norm, or look at the data. The latest checkpoint is from before."
            )
    report.update(step, figures)
    if run is not None:
        run.log(step, figures)


def _validate(
    task: Task,
    average: Averaging,
    progress: Fit,
    report: ProgressReport,
    run: Run | None,
    observe: bool = True,
) -> Fit:
    """Evaluate on the validation set, and update the best parameters and the averaging policy."""
    (state, best), params = progress, average.params(progress.state.average, progress.state.params)
    step, each = int(state.step), evaluate_each(task, params, task.valid())
    if not each:
        return Fit(state, _unknown(task, _candidate(average, state), step))
    if task.examine is not None:
        each |= {name: np.asarray(value) for name, value in task.examine(params).items()}
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
    report.line(f"step {step}  valid {format_figures(figures)}{'  (best)' if is_best.any() else ''}")
    if run is not None:
        run.log(step, figures, kind="valid")
    best = _better(best, Best(params, value, step, 0), is_best)
    if observe:
        changed, remark = average.observe(state.average, _mean(value))
        state = state._replace(average=changed)
        if remark:
            report.line(f"step {step}  {remark}")
    return Fit(state, best)


def _mean(values: np.ndarray) -> float:
    """The mean over models, without those that have diverged."""
    finite = np.isfinite(values)
    return float(values[finite].mean() if finite.any() else values.mean())


def _unknown(task: Task, params: Params, step: int) -> Best:
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


def _headline(state: TrainState) -> str:
    count, start = optax.tree.size(state.params), int(state.step)
    resumed = f", resumed after step {start}" if start else ""
    return f"{count:,} parameters on {jax.device_count()} {jax.devices()[0].device_kind} device{resumed}"
