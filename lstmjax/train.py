"""A small training loop over pure functions.

A `Task` says what is learned: how parameters start, the loss of a batch, which batch belongs to a step,
what is measured. A `SequentialTask` says the same where each batch goes on from where the one before ended:
it has a carry, which is part of the state. `fit` does the rest, the same for every experiment: a jitted step
with donated buffers, averages of the parameters, evaluation on a validation set, the best parameters kept,
early stopping, checkpoints, records. Everything random is a function of seed and step, so a resumed run gives
the same bits as one that was never stopped.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax import averaging
from lstmjax.averaging import NonMonotone
from lstmjax.checkpoint import Checkpoints
from lstmjax.metrics import Mean
from lstmjax.progress import ProgressReport, format_figures
from lstmjax.record import Run
from lstmjax.types import Key, Params

Batch = Any
Carry = Any
Metrics = Mapping[str, Mean]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned, as pure functions."""

    init: Callable[[Key], Params]
    """Fresh parameters: a pytree of arrays."""
    loss: Callable[[Params, Batch, Key], tuple[jax.Array, Metrics]]
    """The training loss of a batch, a scalar, and metrics to report; the key is that of the step."""
    batch: Callable[[int, int], Batch]
    """The training batch of ``(seed, step)``: a pytree of NumPy arrays."""
    evaluate: Callable[[Params, Batch], Metrics]
    """Metrics of a batch, nothing random in it."""
    valid: Callable[[], Iterable[Batch]]
    """Batches of the validation set; an empty one means that the last parameters are the best."""
    monitor: str = "nll"
    """The figure of the validation set that decides on the best parameters: it is to become small, or, with a
    minus before its name, large (``"-accuracy"``)."""
    examine: Callable[[Params], Mapping[str, float]] | None = None
    """Further figures of parameters that are evaluated, which take more than metrics of single batches, such
    as the BLEU of what is decoded; None for none."""


@dataclasses.dataclass(frozen=True)
class SequentialTask:
    """What is learned from batches in order: each begins with the carry that the one before it left.

    The carry is a pytree of arrays, such as the state of a recurrent network. No gradient goes through it
    from one batch to the one before: backpropagation through time is truncated there.

    Source: Williams and Peng 1990 (Neural Computation 2(4)); Mikolov et al. 2010 (Interspeech).
    """

    init: Callable[[Key], Params]
    """Fresh parameters: a pytree of arrays."""
    initial_carry: Callable[[], Carry]
    """The carry before the first training batch."""
    loss: Callable[[Params, Carry, Batch, Key], tuple[jax.Array, tuple[Carry, Metrics]]]
    """The training loss of a batch, a scalar; the next carry, and metrics to report."""
    batch: Callable[[int, int], Batch]
    """The training batch of ``(seed, step)``: a pytree of NumPy arrays."""
    initial_evaluation_carry: Callable[[], Carry]
    """The carry before the first batch of the validation set."""
    evaluate: Callable[[Params, Carry, Batch], tuple[Carry, Metrics]]
    """The next carry, and metrics of a batch, nothing random in it."""
    valid: Callable[[], Iterable[Batch]]
    """Batches of the validation set in order; an empty one means that the last parameters are the best."""
    monitor: str = "nll"
    """The figure of the validation set that decides on the best parameters: it is to become small, or, with a
    minus before its name, large (``"-accuracy"``)."""
    examine: Callable[[Params], Mapping[str, float]] | None = None
    """Further figures of parameters that are evaluated, which take more than metrics of single batches, such
    as the BLEU of what is decoded; None for none."""
    rate_factor: Callable[[Batch], jax.Array] | None = None
    """What the learning rate of a batch is multiplied by, such as its share of a usual one; None for 1."""


def sequential(task: Task | SequentialTask) -> SequentialTask:
    """The same task as one with a carry: of a `Task`, whose batches stand for themselves, an empty one."""
    if isinstance(task, SequentialTask):
        return task

    def loss(params: Params, carry: Carry, batch: Batch, key: Key) -> tuple[jax.Array, tuple[Carry, Metrics]]:
        value, metrics = task.loss(params, batch, key)
        return value, (carry, metrics)

    return SequentialTask(
        init=task.init,
        initial_carry=tuple,
        loss=loss,
        batch=task.batch,
        initial_evaluation_carry=tuple,
        evaluate=_WithoutCarry(task.evaluate),
        valid=task.valid,
        monitor=task.monitor,
        examine=task.examine,
    )


@dataclasses.dataclass(frozen=True)
class _WithoutCarry:
    """`Task.evaluate` with a carry; equal ones share a compilation."""

    function: Callable[[Params, Batch], Metrics]

    def __call__(self, params: Params, carry: Carry, batch: Batch) -> tuple[Carry, Metrics]:
        return carry, self.function(params, batch)


class ConfigError(ValueError):
    """A setting that makes no sense; the message names it."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How it is learned: what all experiments have in common."""

    steps: int = 1000
    """Number of training steps."""
    seed: int = 1
    """Seed of everything random: parameters, order of batches, noise."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate after the warm-up; the cosine ends at zero after the last step."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from zero."""
    clip_norm: float = 1.0
    """The global norm that gradients are scaled down to if larger; 0 leaves them alone."""
    averaging: float = 0.0
    """Decay of a running average of the parameters, which is what is evaluated; 0 for none."""
    nonmonotone: int = 0
    """An interval n: once an evaluation is worse than the best of all those before the last n, what is
    evaluated is the mean of the parameters from there on (NT-ASGD); 0 for never."""
    mean_from_start: bool = False
    """Begin that mean with the first step, and stop where else it would begin: to go on from parameters that
    have been trained. These are evaluated, too."""
    evaluate_every: int = 100
    """Steps between two evaluations on the validation set."""
    patience: int = 0
    """Evaluations without a new best one after which training stops; 0 for never."""
    log_every: int = 50
    """Steps between two reports of the training loss."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; there is one at the end in any case."""

    def __post_init__(self) -> None:
        for name in ("steps", "seed", "learning_rate", "warmup", "clip_norm", "nonmonotone", "patience"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} must not be negative, got {getattr(self, name)}.")
        for name in ("evaluate_every", "log_every", "checkpoint_every"):
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


class TrainState(NamedTuple):
    """What a training step changes."""

    step: jax.Array
    """Number of steps done, int32."""
    params: Params
    average: Params
    """Average of the parameters, by `TrainConfig.averaging` or `nonmonotone`; None without."""
    optimizer: optax.OptState
    carry: Carry = ()
    """What the next batch begins with."""
    averaged: jax.Array | None = None
    """Number of parameters that a mean is of, int32: 0 until it begins; None without `nonmonotone`."""


class Best(NamedTuple):
    """What an evaluation changes: the best parameters so far."""

    params: Params
    value: float
    """Their monitored figure on the validation set, negative where it is to become large; inf before
    the first evaluation."""
    step: int
    stale: int
    """Number of evaluations since."""
    criterion: NonMonotone | None = None
    """What all evaluations say of `TrainConfig.nonmonotone`; None without."""


class Fit(NamedTuple):
    """What `fit` returns."""

    state: TrainState
    best: Best


class TrainingError(RuntimeError):
    """Training cannot go on."""


def adam(config: TrainConfig) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with the schedule and clipping of ``config``."""
    return optimizer(config, optax.adam)


def optimizer(
    config: TrainConfig, rule: Callable[[optax.Schedule], optax.GradientTransformation]
) -> optax.GradientTransformation:
    """A rule of optax, such as ``optax.rmsprop``, with the schedule and clipping of ``config``."""
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


def init_state(
    task: Task | SequentialTask,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    params: Params | None = None,
) -> TrainState:
    """The state before the first step, with fresh parameters or copies of those given."""
    task = sequential(task)
    init_key, _ = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(task.init)(init_key) if params is None else jax.tree.map(jnp.array, params)
    average = jax.tree.map(jnp.copy, params) if config.averaging or config.nonmonotone else None
    averaged = jnp.int32(config.mean_from_start) if config.nonmonotone else None
    carry = jax.tree.map(jnp.array, task.initial_carry())
    return TrainState(jnp.zeros((), jnp.int32), params, average, optimizer.init(params), carry, averaged)


def make_step(
    task: Task | SequentialTask, config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted training step; the state that it is given is donated and must not be used again."""
    task = sequential(task)
    _, step_key = jax.random.split(jax.random.key(config.seed))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(step_key, state.step)
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (loss, (carry, metrics)), gradients = gradient(state.params, state.carry, batch, key)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        if task.rate_factor is not None:
            updates = optax.tree.scale(task.rate_factor(batch), updates)
        params = optax.apply_updates(state.params, updates)
        average, averaged = state.average, state.averaged
        if averaged is not None:
            average, averaged = averaging.mean(average, params, averaged)
        elif config.averaging:
            average = averaging.forgetting(average, params, config.averaging, state.step)
        metrics = {
            "loss": Mean.of(loss),
            **metrics,
            "gradient_norm": Mean.of(optax.tree.norm(gradients)),
        }
        return TrainState(state.step + 1, params, average, optimizer_state, carry, averaged), metrics

    return step


def evaluate(
    function: Callable[[Params, Batch], Metrics], params: Params, batches: Iterable[Batch]
) -> dict[str, float]:
    """Metrics over all batches; their sums are added up in float64, and divided once. Empty if no batch."""
    return evaluate_sequence(_WithoutCarry(function), params, (), batches)


def evaluate_sequence(
    function: Callable[[Params, Carry, Batch], tuple[Carry, Metrics]],
    params: Params,
    carry: Carry,
    batches: Iterable[Batch],
) -> dict[str, float]:
    """Metrics over batches in order, as `evaluate`; the first begins with ``carry``."""

    def each() -> Iterator[Metrics]:
        following = carry
        for batch in batches:
            following, metrics = _evaluate(function, params, following, batch)
            yield metrics

    return _compute(_sum(each()))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(function: Callable[..., Any], params: Params, carry: Carry, batch: Batch) -> Any:
    return function(params, carry, batch)


def _sum(metrics: Iterable[Metrics]) -> dict[str, Mean]:
    totals: dict[str, Mean] = {}
    for each in metrics:
        for name, metric in jax.tree.map(np.float64, jax.device_get(dict(each))).items():
            totals[name] = totals[name].merge(metric) if name in totals else metric
    return totals


def _compute(totals: Metrics) -> dict[str, float]:
    with jax.enable_x64(True):  # in float32, 950 of 1000 is less than 0.95
        return {name: float(metric.compute()) for name, metric in totals.items()}


def fit(
    task: Task | SequentialTask,
    config: TrainConfig,
    run: Run | None = None,
    optimizer: optax.GradientTransformation | None = None,
    params: Params | None = None,
) -> Fit:
    """Train, from where the run's latest checkpoint ends if there is one.

    Args:
      task: what is learned.
      config: how.
      run: where metrics and checkpoints go; by default nowhere.
      optimizer: by default `adam` of the config, which then has learning rate, schedule and clipping.
      params: what the first step begins with; by default fresh ones.

    Returns:
      The last state, and the parameters that did best on the validation set (the averaged ones where
      there is averaging).

    Raises:
      TrainingError: the loss, its gradient or the monitored metric is no longer finite, or the task does
        not evaluate the metric that it monitors.
    """
    task, optimizer = sequential(task), optimizer or adam(config)
    state = init_state(task, config, optimizer, params)
    criterion = NonMonotone.of(config.nonmonotone) if config.nonmonotone else None
    progress = Fit(state, Best(_candidate(state), math.inf, 0, 0, criterion))
    checkpoints = None
    if run is not None:
        checkpoints = Checkpoints(run.path / "checkpoints")
        restored = checkpoints.restore_latest(progress)
        progress = progress if restored is None else restored[1]
        step = int(progress.state.step)
        checkpoints.rewind(step)
        run.rewind(step)
    return _loop(task, config, optimizer, progress, run, checkpoints)


def evaluated(state: TrainState) -> Params:
    """The parameters that count now."""
    return state.params if state.average is None else state.average


def _candidate(state: TrainState) -> Params:
    """The parameters that would be kept now: copies, since the state's own are donated to the next step."""
    return jax.tree.map(jnp.copy, evaluated(state))


def _loop(
    task: SequentialTask,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    progress: Fit,
    run: Run | None,
    checkpoints: Checkpoints | None,
) -> Fit:
    train_step = make_step(task, config, optimizer)
    state, best = progress
    step = start = int(state.step)
    recent: list[Metrics] = []
    with ProgressReport(config.steps, start) as report:
        report.line(_headline(state, start))
        if config.mean_from_start and start == 0:
            best = _keep(best, state, _evaluate_and_report(task, state, best, report))
        while not _done(config, step, best):
            state, metrics = train_step(state, task.batch(config.seed, step))
            recent.append(metrics)
            step += 1
            evaluating = step % config.evaluate_every == 0 or step == config.steps
            saving = step % config.checkpoint_every == 0
            if evaluating or saving or step % config.log_every == 0:
                figures, recent = _finite(_compute(_sum(recent)), step), []
                report.update(step, figures)
                if run is not None:
                    run.log(step, figures)
            if evaluating:
                value = _evaluate_and_report(task, state, best, report, run)
                best = _keep(best, state, value)
                state, best = _observe(state, best, value, report)
            if checkpoints is not None and (saving or _done(config, step, best)):
                checkpoints.save(step, Fit(state, best))
        if step < config.steps:
            report.line(f"stopped early at step {step}: no new best in {best.stale} evaluations")
    return Fit(state, best)


def _done(config: TrainConfig, step: int, best: Best) -> bool:
    is_stale = config.patience > 0 and best.stale >= config.patience
    is_reached = best.criterion is not None and best.criterion.reached
    return step >= config.steps or is_stale or (config.mean_from_start and is_reached)


def _evaluate_and_report(
    task: SequentialTask, state: TrainState, best: Best, report: ProgressReport, run: Run | None = None
) -> float | None:
    """The monitored figure of the validation set, to become small; None if that is empty."""
    step, carry = int(state.step), task.initial_evaluation_carry()
    figures = evaluate_sequence(task.evaluate, evaluated(state), carry, task.valid())
    if not figures:
        return None
    if task.examine is not None:
        figures |= task.examine(evaluated(state))
    name = task.monitor.removeprefix("-")
    if name not in figures:
        raise TrainingError(f"the task monitors {task.monitor!r}, but evaluates only {sorted(figures)}.")
    value = figures[name] if name == task.monitor else -figures[name]
    if not math.isfinite(value):
        raise TrainingError(f"{name} on the validation set is {figures[name]} at step {step}.")
    report.line(f"step {step}  valid {format_figures(figures)}{'  (best)' if value < best.value else ''}")
    if run is not None:
        run.log(step, figures, kind="valid")
    return value


def _keep(best: Best, state: TrainState, value: float | None) -> Best:
    """The best parameters, those of the state among them; without a value, those."""
    if value is not None and value >= best.value:
        return best._replace(stale=best.stale + 1)
    kept = math.inf if value is None else value
    return Best(_candidate(state), kept, int(state.step), 0, best.criterion)


def _observe(
    state: TrainState, best: Best, value: float | None, report: ProgressReport
) -> tuple[TrainState, Best]:
    """Let the criterion see an evaluation; where it is reached, the mean begins if it has not yet."""
    if best.criterion is None or value is None or state.averaged is None:
        return state, best
    criterion = best.criterion.after(value)
    if criterion.reached and state.averaged == 0:
        report.line(f"step {int(state.step)}  from here on the mean of the parameters is evaluated")
        state = state._replace(averaged=jnp.ones_like(state.averaged))
    return state, best._replace(criterion=criterion)


def _finite(figures: dict[str, float], step: int) -> dict[str, float]:
    for name, quantity in (("loss", "loss"), ("gradient_norm", "norm of the gradient")):
        if not math.isfinite(figures[name]):
            raise TrainingError(
                f"the {quantity} is {figures[name]} at or before step {step}: lower --train.learning-rate or "
                "--train.clip-norm, or look at the data. The latest checkpoint is from before."
            )
    return figures


def _headline(state: TrainState, start: int) -> str:
    count = optax.tree.size(state.params)
    device = jax.devices()[0]
    resumed = f", resumed after step {start}" if start else ""
    return f"{count:,} parameters on {jax.device_count()} {device.device_kind} device{resumed}"
