"""Several runs of one task as one program: other random seeds, other learning rates, the same shapes.

`fit_jointly` maps the training step over the runs. It leaves each with the log and the checkpoints that it
would have alone, up to the order of floating-point sums: `fit` goes on from there, and after the last step it
has nothing left to do. So a run of a group is resumed, evaluated and recorded like any other.
"""

import contextlib
import dataclasses
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
from lstmjax.training.loop import Progress, init_state, is_done, is_due, make_advance, resume
from lstmjax.training.mapped_step import MappedStep, kind_of, put, width_for
from lstmjax.training.parallel import placement
from lstmjax.training.progress import ProgressReport, format_figures
from lstmjax.training.record import Run
from lstmjax.training.selection import candidate, judge, unknown
from lstmjax.training.state import Best, Fit, TrainingError, TrainState
from lstmjax.training.task import Batch, Metrics, Task


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
        for learner in states:
            learner.run.together = len(states)
        group = _Group(task, config, optimizer, list(states), list(states.values()))
        states.clear()
        with ProgressReport(config.steps, group.step) as report:
            report.line(f"{len(group.learners)} runs as one program, from step {group.step} on")
            while group.learning:
                if not group.evaluates:
                    group.advance(report, signals)
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
        is_limited = jax.default_backend() == "cpu" and self.place.mesh is None
        width = width_for(states[0].params, self._batch(0, self.step)) if is_limited else len(states)
        self._do = MappedStep(
            make_advance(task, config, optimizer),
            [learner.seed for learner in learners],
            [learner.rate for learner in learners],
            width,
        )
        self._evaluate = jax.jit(jax.vmap(task.evaluate, in_axes=(0, 0, None)))
        self._norms = jax.jit(jax.vmap(optax.tree.norm))
        self._one = jax.jit(lambda tree, number: jax.tree.map(lambda leaf: leaf[number], tree))

    @property
    def learning(self) -> list[int]:
        """The numbers of the runs that have not ended."""
        return [number for number, learner in enumerate(self.learners) if learner.learns]

    def advance(self, report: ProgressReport, signals: HeldBack) -> None:
        """Do the training steps until something is due, and log it; after a signal only what is begun."""
        config = self.config
        due = (config.evaluate_every, config.log_every, config.checkpoint_every)
        end = min(config.steps, *(self.step + every - self.step % every for every in due))
        self.step = self._do_steps(end, signals)
        self.evaluates = is_due(config, self.step)
        if self.evaluates or any(self.step % every == 0 for every in due):
            self._leave_what_is_not_finite(report)
            self._log(report)

    def _do_steps(self, end: int, signals: HeldBack) -> int:
        """Training steps in calls of runs whose next batches have one shape; returns the step where they end.

        Runs may be ahead of others in between: with more runs than shapes times the runs of a call, there are
        always enough of one shape.
        """
        began, steps = time.monotonic(), dict.fromkeys(self.learning, self.step)
        batches = {number: self._batch(number, self.step) for number in steps}
        while batches:
            kinds: dict[Any, list[int]] = {}
            for number in sorted(batches, key=lambda number: steps[number]):
                kinds.setdefault(kind_of(batches[number]), []).append(number)
            if len(kinds) > 1:
                self._do.narrow()
            chosen = max(kinds.values(), key=len)[: self._do.width]
            own = [batches.pop(number) for number in chosen]
            self.state, metrics = self._do(self.state, own, chosen, self.place)
            self.recent.append(metrics)
            if not self.warm:  # the first call compiles
                self.warm, began = True, time.monotonic()
            for number in chosen:
                steps[number] += 1
            if signals.received:
                end = max(steps.values())
                batches = {each: batch for each, batch in batches.items() if steps[each] < end}
            for number in steps.keys() - batches.keys():
                if steps[number] < end:
                    batches[number] = self._batch(number, steps[number])
        self.productive += time.monotonic() - began
        return end

    def _batch(self, number: int, step: int) -> Batch:
        return self.task.batch(self.learners[number].seed, step)

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
            average = put(self.state.average, number, after.average)
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


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _stacked_sums(each: Sequence[Sums]) -> Sums:
    return {name: [[sums[name][part] for sums in each] for part in range(2)] for name in each[0]}
