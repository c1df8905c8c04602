"""The training task: networks side by side, each until it has solved the problem."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import mapped, models
from experiments.long_term_memory.config import Config
from experiments.long_term_memory.model import make_model, make_problem
from experiments.long_term_memory.problems import Criterion, Problem, Sequences
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.types import Key, Params


class Progress(NamedTuple):
    """How a network has done on its most recent batches: the carry of the task."""

    wrong: jax.Array
    """int32 [batches]: how many sequences of each were wrong."""
    error: jax.Array
    """float32 [batches]: the mean error of each; infinite for batches that are still to come."""
    seen: jax.Array
    """int32: the number of sequences until now, or until the problem was solved."""
    solved: jax.Array
    """bool: whether it has met the criterion."""


def fresh(criterion: Criterion, batch_size: int) -> Progress:
    """The progress before the first batch."""
    batches = -(-criterion.recent // batch_size)
    wrong, error = jnp.full(batches, batch_size), jnp.full(batches, jnp.inf)
    return Progress(wrong, error, jnp.zeros((), int), jnp.zeros((), bool))


def advance(criterion: Criterion, progress: Progress, right: jax.Array, error: jax.Array) -> Progress:
    """The progress after a batch, from what is right and the errors; it ends with the solution."""
    wrong = jnp.append(progress.wrong[1:], (~right).sum(dtype=progress.wrong.dtype))
    errors = jnp.append(progress.error[1:], error.mean())
    seen = progress.seen + right.size
    solved = (wrong.sum() <= criterion.wrong) & (errors.mean() < criterion.error)
    solved &= jnp.isfinite(errors).all()
    after = Progress(wrong, errors, seen, solved)
    return jax.tree.map(lambda old, new: jnp.where(progress.solved, old, new), progress, after)


def make_task(config: Config, problem: Problem, model: Functional) -> training.Task:
    """The task of all networks: the sum of the losses of those that have not solved the problem yet."""
    each = functools.partial(_examine, problem, model)

    def loss(params: Params, carry: Progress, batch: Sequences, key: Key) -> Any:
        loss, right, error = jax.vmap(each)(params, batch)
        carry = jax.vmap(functools.partial(advance, problem.criterion))(carry, right, error)
        metrics = {"wrong": Mean.of(~right), "error": Mean.of(error), "solved": Mean.of(carry.solved)}
        return jnp.where(carry.solved, 0, loss).sum(), (carry, metrics)

    def initial_carry() -> Progress:
        one = fresh(problem.criterion, config.batch_size)
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * config.models), one)

    return training.Task(
        init=mapped.init(model, config.models),
        loss=loss,
        batch=functools.partial(draw, config, problem, 0),
        evaluate=lambda params, carry, batch: (carry, {}),
        valid=lambda: (),
        initial_carry=initial_carry,
        done=lambda carry: bool(carry.solved.all()),
        models=config.models,
    )


def _examine(problem: Problem, model: Functional, params: Params, batch: Sequences) -> Any:
    """The loss of a network; of each sequence, whether it is right, and its mean error."""
    answers = problem.read(model.bind(params)(batch), batch)
    asked = jnp.asarray(batch.asked)
    error = jnp.where(asked, answers.error, 0).sum(axis=-1) / asked.sum(axis=-1)
    return Mean.of(answers.loss, asked).compute(), (answers.right | ~asked).all(axis=-1), error


def draw(config: Config, problem: Problem, part: int, seed: int, step: int) -> Sequences:
    """The sequences of all networks in a step of a part: 0 for training, 1 for the test."""
    rngs = (np.random.default_rng((seed, part, number, step)) for number in range(config.models))
    return jax.tree.map(
        lambda *leaves: np.stack(leaves), *(problem.draw(rng, config.batch_size) for rng in rngs)
    )


def test_batches(config: Config, problem: Problem) -> Iterator[Sequences]:
    """Sequences of their own for the test, at least as many as the config says."""
    count = -(-config.test_sequences // config.batch_size)
    return (draw(config, problem, 1, config.seed, step) for step in range(count))


class Tested(NamedTuple):
    """How each network does on the test sequences, each float64 ``[models]``."""

    wrong: np.ndarray
    """The share of sequences that it gets wrong."""
    loss: np.ndarray
    """The mean loss."""


def test(problem: Problem, model: Functional, params: Params, batches: Iterator[Sequences]) -> Tested:
    """Test networks on batches of sequences of their own."""

    @jax.jit
    def one(params: Params, batch: Sequences) -> tuple[jax.Array, jax.Array]:
        loss, right, _ = jax.vmap(functools.partial(_examine, problem, model))(params, batch)
        return (~right).mean(axis=1), loss

    wrong, loss = zip(*(one(params, batch) for batch in batches), strict=True)
    return Tested(np.mean(wrong, axis=0, dtype=float), np.mean(loss, axis=0, dtype=float))


def until_error(problem: Problem, model: Functional, params: Params, batch: Sequences) -> np.ndarray:
    """The number of answers before the first wrong one in each sequence, int ``[models, rows]``.

    Args:
      problem: one with an answer in each step, such as a stream.
      model: one network.
      params: of all networks, with a leading axis.
      batch: sequences ``[rows, time, ...]``, the same for all.
    """
    right = jax.vmap(lambda params: problem.read(model.bind(params)(batch), batch).right)(params)
    return np.where(right.all(axis=-1), right.shape[-1], np.asarray(right).argmin(axis=-1))


def resting(one: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that leaves parameters without any gradient as they are, whatever its momentum."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = one.update(gradients, state, params)
        moves = optax.tree.norm(gradients) > 0
        return jax.tree.map(lambda leaf: jnp.where(moves, leaf, 0), updates), state

    return optax.GradientTransformation(one.init, update)


def figures(progress: Progress, tested: Tested) -> dict[str, float]:
    """The metrics of a run.

    Args:
      progress: that of all networks at the end.
      tested: how each does in the test.

    Returns:
      The success rate; the median number of sequences until the solution, where a network without one counts
      with all that it has seen; mean, least and most of those with one; loss and share of wrong sequences in
      the test.
    """
    seen, solved = np.asarray(progress.seen, float), np.asarray(progress.solved)
    found = {
        "success_rate": solved.mean(),
        "sequences_to_solve": np.median(seen),
        "test_wrong": tested.wrong.mean(),
        "test_loss": tested.loss.mean(),
    }
    if solved.any():
        found |= {
            "sequences_mean": seen[solved].mean(),
            "sequences_min": seen[solved].min(),
            "sequences_max": seen[solved].max(),
            "test_wrong_solved": tested.wrong[solved].mean(),
        }
    return {name: float(value) for name, value in found.items()}


class Saved(NamedTuple):
    """Trained networks."""

    config: Config
    params: Params
    """With a leading axis of networks."""


def load_model(folder: Path) -> Saved:
    """Load networks, from a folder that `models.Source` gives."""
    config = models.config_of(folder, Config)
    model = make_model(config, make_problem(config))
    return Saved(config, models.load_params(folder, mapped.init(model, config.models)))
