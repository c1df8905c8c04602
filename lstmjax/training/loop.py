"""The training loop, over pure functions.

A `Task` defines the initial parameters, the loss, the batch of each step, and the metrics. `fit` does the
rest, in the same way for every experiment: a jitted step with donated buffers, parameter averaging,
evaluation on the validation set, selection of the best parameters, early stopping, checkpoints, and
records. Everything random is a function of seed and step, so a resumed run gives the same bits as an
uninterrupted one. A signal ends training after the step that it falls into, and the state is saved.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax.metrics import Mean
from lstmjax.training import checkpoint, distributed
from lstmjax.training import config as configs
from lstmjax.training.averaging import Averaging
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.config import TrainConfig
from lstmjax.training.evaluation import Sums, compute, evaluate_each, sums_of
from lstmjax.training.interruption import Abandoned, HeldBack, Interrupted, held_back
from lstmjax.training.nonfinite import locate
from lstmjax.training.parallel import placement
from lstmjax.training.progress import ProgressReport
from lstmjax.training.record import Run
from lstmjax.training.selection import candidate, judge, unknown
from lstmjax.training.state import Fit, NonFiniteError, Skipped, TrainState
from lstmjax.training.task import Batch, Metrics, Task
from lstmjax.types import Params


def init_state(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation, params: Params | None = None
) -> TrainState:
    """The state before the first step, with fresh parameters or copies of the given ones, on its devices."""
    place = placement(config.devices, task.models)
    init_key, _ = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(task.init)(init_key) if params is None else jax.tree.map(jnp.array, params)
    carry = jax.tree.map(jnp.array, task.initial_carry())
    average = config.average.init(params)
    skipped = Skipped(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    state = TrainState(jnp.zeros((), jnp.int32), params, average, optimizer.init(params), skipped)
    return place.state(state)._replace(carry=place.rows(carry))


def make_step(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The training step, compiled; the state passed to it is donated and must not be used again.

    Where the loss or the norm of its gradient is not finite, or the next carry has NaN, the state is returned
    as it was, but for the number of steps, and the metrics count nothing.
    """
    place, advance = placement(config.devices, task.models), make_advance(task, config, optimizer)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = advance(state, batch, step_key(config.seed, state.step))
        return place.state(state)._replace(carry=place.rows(state.carry)), place.everywhere(metrics)

    if place.mesh is None:
        return step

    def divided(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        result = step(state, place.rows(batch))
        # Of CPU devices, one that is ahead could fill the queue of programs, and wait for others for ever.
        return jax.block_until_ready(result) if jax.default_backend() == "cpu" else result

    return divided


def make_advance(
    task: Task, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[..., tuple[TrainState, Metrics]]:
    """What a training step computes: a pure function of the state, the batch, and the key of the step.

    Its last argument is a factor of the learning rate, by default 1.
    """
    update_average = config.average.update

    def advance(
        state: TrainState, batch: Batch, key: jax.Array, rate: jax.Array | None = None
    ) -> tuple[TrainState, Metrics]:
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (carry, metrics)), gradients = gradient(state.params, state.carry, batch, key)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        if task.rate_factor is not None:
            updates = optax.tree.scale(task.rate_factor(batch), updates)
        if rate is not None:
            updates = optax.tree.scale(rate, updates)
        params = optax.apply_updates(state.params, updates)
        average, norm = update_average(state.average, params, state.step), optax.tree.norm(gradients)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(norm) & ~_any_nan(carry)

        def if_finite(new: Any, old: Any) -> Any:
            return jax.tree.map(functools.partial(jnp.where, is_finite), new, old)

        bad = 1 - is_finite.astype(jnp.int32)
        skipped = Skipped(state.skipped.total + bad, bad * (state.skipped.in_row + bad))
        updated = (params, average, optimizer_state, carry)
        before = (state.params, state.average, state.optimizer, state.carry)
        params, average, optimizer_state, carry = if_finite(updated, before)
        metrics = {"loss": Mean.of(loss), **metrics, "gradient_norm": Mean.of(norm)}
        metrics = if_finite(metrics, jax.tree.map(jnp.zeros_like, metrics))
        return TrainState(state.step + 1, params, average, optimizer_state, skipped, carry), metrics

    return advance


def _any_nan(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_or, [jnp.isnan(leaf).any() for leaf in leaves], jnp.array(False))


def step_key(seed: int | jax.Array, step: int | jax.Array) -> jax.Array:
    """The random key of a step."""
    return jax.random.fold_in(jax.random.split(jax.random.key(seed))[1], step)


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
      Interrupted: SIGINT, SIGTERM or SIGHUP arrived; the last step has ended and its state is saved.
      NonFiniteError: ``config.max_skipped`` steps in a row had a loss or gradient that is not finite.
      TrainingError: the monitored metric is not finite, or the task does not compute the metric that it
        monitors.
      CheckpointError: there are checkpoints, but none of this run that is intact.
    """
    optimizer, average = optimizer or configs.adam(config), config.average
    with contextlib.nullcontext() if run is None else run.lock(), held_back() as signals:
        state = init_state(task, config, optimizer, params)
        fresh = Fit(state, unknown(task, candidate(average, state), 0))
        checkpoints = None if run is None else Checkpoints(run.path / "checkpoints", run=run.identity)
        (state, best), progress = resume(run, checkpoints, fresh, evaluates=params is not None)
        train_step, start = make_step(task, config, optimizer), int(state.step)
        with ProgressReport(config.steps, start) as report:
            report.line(_headline(state))
            step = start
            done = is_due(config, step) and not progress.evaluates and is_done(task, config, Fit(state, best))
            while not done:
                if not progress.evaluates:
                    began = time.monotonic()
                    state, metrics = train_step(state, task.batch(config.seed, step))
                    progress.recent.append(metrics)
                    step += 1
                    progress.evaluates = is_due(config, step)
                    saves = step % config.checkpoint_every == 0
                    if progress.evaluates or saves or step % config.log_every == 0:
                        _stop_if_not_finite(task, config, state, step)
                        _log(step, progress, state, report, run)
                    if step > start + 1:  # the first step compiles
                        progress.productive += time.monotonic() - began
                if progress.evaluates and not _received(signals, step):
                    found = _validate(task, average, Fit(state, best), report, run, signals)
                    if found is not None:
                        (state, best), progress.evaluates = found, False
                        done = is_done(task, config, found)
                received = _received(signals, step)
                if checkpoints is not None and (done or received or step % config.checkpoint_every == 0):
                    checkpoints.save(step, distributed.gathered(Fit(state, best)), progress.as_text())
                if received and not done:
                    raise Interrupted(received, step, saved=checkpoints is not None)
            if step < config.steps:
                reason = f"no new best in {best.stale} evaluations" if best.stale else "the task is done"
                report.line(f"stopped early at step {step}: {reason}")
    if run is not None:
        run.productive_seconds = progress.productive
    return distributed.gathered(Fit(state, best))


def _received(signals: HeldBack, step: int) -> int:
    """The signal that ends training after this step, in all processes alike; 0 without one."""
    if distributed.count() > 1 and step % distributed.AGREE_EVERY:
        return 0
    return distributed.largest(signals.received or 0)


class Progress:
    """What a checkpoint holds beside the arrays, for the next step to be as if training had not stopped."""

    def __init__(self, evaluates: bool) -> None:
        self.evaluates = evaluates
        """Whether the evaluation of the current step is still to be done."""
        self.recent: list[Metrics] = []
        """The metrics of the steps since the last log entry, after those in ``sums``."""
        self.sums: Sums = {}
        self.productive = 0.0
        """Seconds in training steps that count."""

    def as_text(self) -> dict[str, str]:
        """The metadata of a checkpoint."""
        sums = sums_of(self.recent, self.sums)
        fields = {"evaluates": self.evaluates, "sums": sums, "productive": self.productive}
        return {"progress": json.dumps(fields)}

    @classmethod
    def from_text(cls, text: Mapping[str, str]) -> "Progress":
        """What `as_text` gave."""
        fields = json.loads(text["progress"])
        progress = cls(fields["evaluates"])
        progress.sums, progress.productive = fields["sums"], fields["productive"]
        return progress


def resume(
    run: Run | None, checkpoints: Checkpoints | None, fresh: Fit, evaluates: bool
) -> tuple[Fit, Progress]:
    """The state of the latest checkpoint of a run; later log entries and checkpoints are dropped."""
    fit, progress = fresh, Progress(evaluates)
    if run is None or checkpoints is None:
        return fit, progress
    restored = checkpoints.restore_latest(fresh)
    if restored is not None:
        step, fit = restored
        progress = Progress.from_text(checkpoint.metadata(checkpoints.path(step)))
    checkpoints.rewind(int(fit.state.step))
    run.rewind(int(fit.state.step))
    return fit, progress


def evaluated(config: TrainConfig, state: TrainState) -> Params:
    """The parameters of a state to evaluate: averaged ones if the config has averaging."""
    return config.average.params(state.average, state.params)


def is_due(config: TrainConfig, step: int) -> bool:
    """Whether an evaluation follows a step."""
    return step % config.evaluate_every == 0 or step >= config.steps


def is_done(task: Task, config: TrainConfig, fit: Fit) -> bool:
    """Whether training is over after an evaluation."""
    state, best = fit
    stale = config.patience > 0 and best.stale >= config.patience
    over = task.done is not None and task.done(state.carry)
    return int(state.step) >= config.steps or stale or over or config.average.done(state.average)


def _log(step: int, progress: Progress, state: TrainState, report: ProgressReport, run: Run | None) -> None:
    """Report the metrics of the latest steps."""
    figures = compute(progress.recent, progress.sums)
    progress.recent, progress.sums = [], {}
    skipped = int(state.skipped.total)
    if skipped:
        figures["skipped_steps"] = skipped
    report.update(step, figures)
    if run is not None:
        run.log(step, figures)


def _stop_if_not_finite(task: Task, config: TrainConfig, state: TrainState, step: int) -> None:
    """Raise after too many skipped steps, with the place where the first of them went wrong.

    Raises:
      NonFiniteError: there are too many, or parameters are not finite, which no checkpoint may have.
    """
    if not jnp.isfinite(optax.tree.norm(state.params)):
        raise NonFiniteError(f"parameters are not finite at step {step}: lower --train.learning-rate.")
    in_row = int(state.skipped.in_row)
    if in_row < config.max_skipped:
        return
    number = step - in_row  # the state is still that before this step
    batch = task.batch(config.seed, number)
    gradient = jax.value_and_grad(task.loss, has_aux=True)
    place = locate(gradient, state.params, state.carry, batch, step_key(config.seed, number))
    raise NonFiniteError(
        f"the loss or its gradient is not finite in {in_row} steps in a row, from step {number + 1} on, "
        f"batch {number} of seed {config.seed}; they changed nothing. First not finite: "
        f"{place or 'the norm of the gradient'}. Lower --train.learning-rate or --train.clip-norm, or look "
        "at the data."
    )


def _validate(
    task: Task,
    average: Averaging,
    progress: Fit,
    report: ProgressReport,
    run: Run | None,
    signals: HeldBack,
) -> Fit | None:
    """Evaluate on the validation set, and update the best parameters and the averaging policy.

    Returns:
      None if a signal ended it: nothing has changed.
    """
    params = average.params(progress.state.average, progress.state.params)
    try:
        with signals.abandon() if distributed.count() == 1 else contextlib.nullcontext():
            each = evaluate_each(task, params, task.valid())
            if each and task.examine is not None:
                each |= {name: np.asarray(value) for name, value in task.examine(params).items()}
    except Abandoned:
        return None
    return judge(task, average, progress, each, report.line, run)


def _headline(state: TrainState) -> str:
    count, start = optax.tree.size(state.params), int(state.step)
    resumed = f", resumed after step {start}" if start else ""
    return f"{count:,} parameters on {jax.device_count()} {jax.devices()[0].device_kind} device{resumed}"
