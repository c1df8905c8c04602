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
import optax

from lstmjax.metrics import Mean
from lstmjax.training import config as configs
from lstmjax.training.averaging import Averaging
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.config import TrainConfig
from lstmjax.training.evaluation import compute, evaluate
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
    """The best parameters so far; an evaluation updates it."""

    params: Params
    value: float
    """Their value of the monitored metric, negated if it is maximised; inf before the first evaluation."""
    step: int
    stale: int
    """Number of evaluations since then."""


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
    checkpoints, (state, best) = _resume(run, Fit(state, Best(_candidate(average, state), math.inf, 0, 0)))
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
    step, figures = int(state.step), evaluate(task, params, task.valid())
    if not figures:
        return Fit(state, Best(_candidate(average, state), math.inf, step, 0))
    figures |= task.examine(params) if task.examine is not None else {}
    name = task.monitor.removeprefix("-")
    if name not in figures:
        raise TrainingError(f"the task monitors {task.monitor!r}, but evaluates only {sorted(figures)}.")
    value = figures[name] if name == task.monitor else -figures[name]
    if not math.isfinite(value):
        raise TrainingError(f"{name} on the validation set is {figures[name]} at step {step}.")
    is_best = value < best.value
    report.line(f"step {step}  valid {format_figures(figures)}{'  (best)' if is_best else ''}")
    if run is not None:
        run.log(step, figures, kind="valid")
    best = (
        Best(_candidate(average, state), value, step, 0) if is_best else best._replace(stale=best.stale + 1)
    )
    if observe:
        changed, remark = average.observe(state.average, value)
        state = state._replace(average=changed)
        if remark:
            report.line(f"step {step}  {remark}")
    return Fit(state, best)


def _headline(state: TrainState) -> str:
    count, start = optax.tree.size(state.params), int(state.step)
    resumed = f", resumed after step {start}" if start else ""
    return f"{count:,} parameters on {jax.device_count()} {jax.devices()[0].device_kind} device{resumed}"
