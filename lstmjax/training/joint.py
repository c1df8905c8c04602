"""Several runs of one task as one program: other random seeds, other learning rates, the same shapes.

`fit_jointly` maps the training step over the runs. It leaves each with the log and the checkpoints that it
would have alone, up to the order of floating-point sums: `fit` goes on from there, and after the last step it
has nothing left to do. So a run of a group is resumed, evaluated and recorded like any other.
"""

import contextlib
import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax.training import config as configs
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.config import TrainConfig
from lstmjax.training.evaluation import Sums, compute_each, sums_of
from lstmjax.training.interruption import Abandoned, HeldBack, Interrupted, held_back
from lstmjax.training.loop import Progress, init_state, is_done, is_due, make_advance, resume, step_key
from lstmjax.training.parallel import Placement, placement
from lstmjax.training.progress import ProgressReport, format_figures
from lstmjax.training.record import Run
from lstmjax.training.selection import candidate, judge, unknown
from lstmjax.training.state import Best, Fit, TrainingError, TrainState
from lstmjax.training.task import Batch, Metrics, Task

WIDTH = 4
"""Runs in a call, once the batches of a step differ in shape: those of one shape go together."""


class Member(NamedTuple):
    """One of the runs."""

    run: Run
    seed: int
    """Its random seed, in place of the config's."""
    rate: float = 1.0
    """Its learning rate, as a multiple of the config's."""


def fit_jointly(
    task: Task,
    config: TrainConfig,
    members: Sequence[Member],
    optimizer: optax.GradientTransformation | None = None,
) -> None:
    """Train several runs as one program, each until `fit` would stop it; resume from their checkpoints.

    A run whose loss is not finite stays at its last checkpoint, and `fit` then says why. A run that is at
    another step than most stays there.

    Args:
      task: the task; of it, batches, initial parameters and keys depend on the seed.
      config: the training hyperparameters.
      members: the runs, with what is their own.
      optimizer: as for `fit`; its updates are proportional to the learning rate, if that differs.

    Raises:
      Interrupted: a signal arrived; the last step has ended, and the states of all are saved.
    """
    optimizer = optimizer or configs.adam(config)
    with contextlib.ExitStack() as locks, held_back() as signals:
        for member in members:
            locks.enter_context(member.run.lock())
        states = _at_one_step(task, optimizer, [_Learner(member, config) for member in members])
        if len(states) < 2:
            return
        group = _Group(task, config, optimizer, list(states), list(states.values()))
        states.clear()
        with ProgressReport(config.steps, group.step) as report:
            report.line(f"{len(group.learners)} runs as one program, from step {group.step} on")
            while group.learning:
                if not group.evaluates:
                    group.advance(report)
                if group.evaluates and not signals.received:
                    group.validate(report, signals)
                if signals.received or group.step % config.checkpoint_every == 0:
                    group.save(group.learning)
                if signals.received and group.learning:
                    raise Interrupted(signals.received, group.step, saved=True)


class _Learner:
    """A run that trains with others."""

    def __init__(self, member: Member, config: TrainConfig) -> None:
        self.run, self.seed, self.rate = member
        self.config = dataclasses.replace(config, seed=member.seed)
        self.checkpoints = Checkpoints(self.run.path / "checkpoints", run=self.run.identity)
        self.seconds = self.run.seconds
        self.best: Best
        self.progress = Progress(evaluates=False)
        self.learns = True

    def restore(self, task: Task, optimizer: optax.GradientTransformation) -> TrainState:
        """Its state, fresh or of its latest checkpoint."""
        state = init_state(task, self.config, optimizer)
        fresh = Fit(state, unknown(task, candidate(self.config.average, state), 0))
        (state, self.best), self.progress = resume(self.run, self.checkpoints, fresh, evaluates=False)
        is_over = is_due(self.config, int(state.step)) and not self.progress.evaluates
        self.learns = not (is_over and is_done(task, self.config, Fit(state, self.best)))
        return state


def _at_one_step(
    task: Task, optimizer: optax.GradientTransformation, learners: Sequence[_Learner]
) -> dict[_Learner, TrainState]:
    """The runs that can go on from one step, that of most, and their states."""
    states = {learner: learner.restore(task, optimizer) for learner in learners}
    states = {learner: state for learner, state in states.items() if learner.learns}
    steps = {learner: learner.checkpoints.steps() or [0] for learner in states}
    counts = Counter(step for each in steps.values() for step in each)
    step = max(counts, key=lambda step: (counts[step], step), default=0)
    for learner in [each for each in states if step in steps[each] and int(states[each].step) != step]:
        learner.checkpoints.rewind(step)
        states[learner] = learner.restore(task, optimizer)
    return {learner: state for learner, state in states.items() if int(state.step) == step}


class _Group:
    """Runs that train together, all at one step."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        optimizer: optax.GradientTransformation,
        learners: Sequence[_Learner],
        states: Sequence[TrainState],
    ) -> None:
        self.task, self.config, self.learners = task, config, learners
        self.step, self.evaluates = int(states[0].step), learners[0].progress.evaluates
        self.place = placement(config.devices, len(learners))
        self.state: TrainState = self.place.state(jax.jit(_stacked)(states))
        self.recent: list[Metrics] = []
        self.sums = _stacked_sums([learner.progress.sums for learner in learners])
        self.productive, self.began, self.warm = 0.0, time.monotonic(), False
        self._do = _Steps(task, config, optimizer, learners)
        self._evaluate = jax.jit(jax.vmap(task.evaluate, in_axes=(0, 0, None)))
        self._norms = jax.jit(jax.vmap(optax.tree.norm))
        self._one = jax.jit(lambda tree, number: jax.tree.map(lambda leaf: leaf[number], tree))

    @property
    def learning(self) -> list[int]:
        """The numbers of the runs that have not ended."""
        return [number for number, learner in enumerate(self.learners) if learner.learns]

    def advance(self, report: ProgressReport) -> None:
        """Do a training step, and log what is due."""
        began = time.monotonic()
        batches = [self.task.batch(learner.seed, self.step) for learner in self.learners]
        self.state, metrics = self._do(self.state, batches, self.place)
        self.recent += metrics
        self.step += 1
        self.evaluates = is_due(self.config, self.step)
        saves = self.step % self.config.checkpoint_every == 0
        if self.evaluates or saves or self.step % self.config.log_every == 0:
            self._leave_what_is_not_finite(report)
            self._log(report)
        self.productive += time.monotonic() - began if self.warm else 0
        self.warm = True  # the first step compiles

    def _leave_what_is_not_finite(self, report: ProgressReport) -> None:
        norms, in_row = self._norms(self.state.params), self.state.skipped.in_row
        fine = np.isfinite(norms) & (np.asarray(in_row) < self.config.max_skipped)
        for number in self.learning:
            if not fine[number]:
                self._leave(number, report, "its loss, gradient or parameters are not finite")

    def _leave(self, number: int, report: ProgressReport, reason: str) -> None:
        learner = self.learners[number]
        learner.learns = False
        report.line(f"step {self.step}  {learner.run.path.name} stops: {reason}")

    def _log(self, report: ProgressReport) -> None:
        each, skipped = compute_each(self.recent, self.sums), np.asarray(self.state.skipped.total)
        self.recent, self.sums = [], {}
        report.update(self.step, {name: float(values.mean()) for name, values in each.items()})
        self._set_clocks()
        for number in self.learning:
            figures = {name: float(values[number].mean()) for name, values in each.items()}
            more = {"skipped_steps": skipped[number]} if skipped[number] else {}
            self.learners[number].run.log(self.step, figures | more)

    def _set_clocks(self) -> None:
        """Each run has its share of the time."""
        share = (time.monotonic() - self.began) / len(self.learners)
        for learner in self.learners:
            learner.run.set_clock(learner.seconds + share)

    def validate(self, report: ProgressReport, signals: HeldBack) -> None:
        """Evaluate on the validation set, unless a signal ends it; save the runs that end."""
        params = self.config.average.params(self.state.average, self.state.params)
        try:
            with signals.abandon():
                each = compute_each(self._metrics(params))
                own = {number: self._own(each, params, number) for number in self.learning}
        except Abandoned:
            return
        self.evaluates = False
        self._set_clocks()
        for number, figures in own.items():
            self._judge(number, figures, report)
        means = {name: float(values.mean()) for name, values in each.items()}
        report.line(f"step {self.step}  valid {format_figures(means)}")

    def _metrics(self, params: Any) -> Iterator[Metrics]:
        carry = _stacked([self.task.initial_evaluation_carry()] * len(self.learners))
        for batch in self.task.valid():
            carry, metrics = self._evaluate(params, carry, self.place.everywhere(batch))
            yield metrics

    def _own(self, each: dict[str, np.ndarray], params: Any, number: int) -> dict[str, np.ndarray]:
        """The validation metrics of a run."""
        own = {name: np.asarray(values[number]) for name, values in each.items()}
        if own and self.task.examine is not None:
            found = self.task.examine(self._one(params, number))
            own |= {name: np.asarray(value) for name, value in found.items()}
        return own

    def _judge(self, number: int, figures: dict[str, np.ndarray], report: ProgressReport) -> None:
        """Update the best parameters of a run; save it if it ends."""
        learner, before = self.learners[number], self._one(self.state, number)
        fit = Fit(before, learner.best)
        try:
            after, learner.best = judge(
                self.task, learner.config.average, fit, figures, lambda line: None, learner.run
            )
        except TrainingError as error:
            self._leave(number, report, str(error))
            return
        if after.average is not before.average:
            average = _put(self.state.average, number, after.average)
            self.state = self.place.state(self.state._replace(average=average))
        if is_done(self.task, learner.config, Fit(after, learner.best)):
            self.save([number])
            learner.learns = False

    def save(self, numbers: Sequence[int]) -> None:
        """Write checkpoints of runs."""
        self.sums, self.recent = sums_of(self.recent, self.sums), []
        for number in numbers:
            learner, progress = self.learners[number], Progress(self.evaluates)
            progress.sums = {name: [part[number] for part in parts] for name, parts in self.sums.items()}
            progress.productive = learner.progress.productive + self.productive / len(self.learners)
            fit = Fit(self._one(self.state, number), learner.best)
            learner.checkpoints.save(self.step, fit, progress.as_text())


class _Steps:
    """The training step, mapped over runs whose batches have one shape."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        optimizer: optax.GradientTransformation,
        learners: Sequence[_Learner],
    ) -> None:
        self._learners, self._width = learners, len(learners)
        seeds = np.array([learner.seed for learner in learners], np.uint32)
        rates = np.array([learner.rate for learner in learners], np.float32)
        advance = make_advance(task, config, optimizer)

        def one(state: TrainState, batch: Batch, seed: jax.Array, rate: jax.Array) -> Any:
            return advance(state, batch, step_key(seed, state.step), None if (rates == 1).all() else rate)

        @functools.partial(jax.jit, donate_argnums=0)
        def all_runs(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return jax.vmap(one)(state, batch, jnp.asarray(seeds), jnp.asarray(rates))

        @functools.partial(jax.jit, donate_argnums=0)
        def some_runs(state: TrainState, batch: Batch, chosen: jax.Array) -> tuple[TrainState, Metrics]:
            own = jax.tree.map(lambda leaf: leaf[chosen], state)
            own, metrics = jax.vmap(one)(own, batch, jnp.asarray(seeds)[chosen], jnp.asarray(rates)[chosen])
            none = jax.tree.map(lambda leaf: jnp.zeros((len(seeds), *leaf.shape[1:]), leaf.dtype), metrics)
            return _put(state, chosen, own), _put(none, chosen, metrics)

        self._all_runs, self._some_runs = all_runs, some_runs

    def __call__(
        self, state: TrainState, batches: Sequence[Batch], place: Placement
    ) -> tuple[TrainState, list[Metrics]]:
        """The state after a step of each run, and metrics whose sums are those of the step."""
        kinds: dict[Any, list[int]] = {}
        for number, batch in enumerate(batches):
            kinds.setdefault(_kind(batch), []).append(number)
        if len(kinds) > 1:
            self._width = min(self._width, WIDTH)
        found: list[Metrics] = []
        if self._width == len(batches):
            state, metrics = self._all_runs(state, place.state(_stacked_batches(batches)))
            return _waited(place.state(state), place), [metrics]
        for numbers in kinds.values():
            numbers = [number for number in numbers if self._learners[number].learns]
            for start in range(0, len(numbers), self._width):
                part = numbers[start : start + self._width]
                part += part[:1] * (self._width - len(part))  # one run several times, with one result
                batch = _stacked_batches([batches[number] for number in part])
                state, metrics = self._some_runs(state, batch, np.array(part))
                found.append(metrics)
        return _waited(place.state(state), place), found


def _kind(batch: Batch) -> tuple[Any, ...]:
    """The shapes and dtypes of a batch."""
    return tuple((np.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(batch))


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _stacked_batches(batches: Sequence[Batch]) -> Batch:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def _stacked_sums(each: Sequence[Sums]) -> Sums:
    return {name: [[sums[name][part] for sums in each] for part in range(2)] for name in each[0]}


def _put(whole: Any, where: Any, part: Any) -> Any:
    return jax.tree.map(lambda leaf, own: leaf.at[where].set(own), whole, part)


def _waited(state: TrainState, place: Placement) -> TrainState:
    """The state; of several CPU devices, after they have computed it, as in `make_step`."""
    several = place.mesh is not None and jax.default_backend() == "cpu"
    return jax.block_until_ready(state) if several else state
