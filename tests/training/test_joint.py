"""Several runs as one program: each is what it would be alone."""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.batching import SequenceBatches
from lstmjax.training.record import Run

CONFIG = training.TrainConfig(
    steps=10, learning_rate=0.01, averaging=0.9, evaluate_every=3, log_every=2, checkpoint_every=4
)


def make_task(buckets=1, **changes):
    """Predict the next value of sine waves, with noise that depends on the key."""
    random = np.random.default_rng(0)
    waves = [
        np.sin(np.arange(length) / random.uniform(1, 3))[:, None].astype(np.float32)
        for length in random.integers(5, 12, size=20)
    ]

    def errors(params, batch):
        """Of a linear prediction from two values."""
        values, ends = jnp.asarray(batch.values)[..., 0], batch.lengths[:, None]
        predicted = params["now"] * values[:, 1:-1] + params["before"] * values[:, :-2]
        mask = jnp.arange(2, values.shape[1]) < ends
        return Mean.of(jnp.square(predicted - values[:, 2:]), mask)

    def loss(params, batch, key):
        mean = errors(params, batch)
        return mean.compute() * (1 + 0.3 * jax.random.normal(key)), {"error": mean}

    functions = {
        "init": lambda key: {"now": jax.random.normal(key), "before": jnp.zeros(())},
        "loss": loss,
        "batch": SequenceBatches(waves, 4, buckets).at,
        "evaluate": lambda params, batch: {"nll": errors(params, batch)},
        "valid": lambda: SequenceBatches(waves[:8], 4, buckets=1).once(),
    }
    return training.Task.plain(**functions | changes)


def make_runs(folder, members):
    """A run for each pair of seed and factor of the learning rate."""
    runs = [Run.create(folder, "joint", {}, seed=seed, command="test") for seed, _ in members]
    return [training.Member(run, *member) for run, member in zip(runs, members, strict=True)]


def forbidden(seed, step):
    raise AssertionError("something is left to train")


def assert_as_alone(task, config, members):
    """Compare each run with one that trains alone; returns the steps at which they ended."""
    ended = []
    for member in members:
        rate = config.learning_rate * member.rate
        own = dataclasses.replace(config, seed=member.seed, learning_rate=rate)
        alone = Run.create(member.run.path.parent.parent, "alone", {}, seed=member.seed, command="test")
        want = training.fit(task, own, alone)
        got = training.fit(dataclasses.replace(task, batch=forbidden), own, Run.open(member.run.path))
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(one, other, rtol=3e-4, atol=1e-6)
        logs = [[(entry.step, entry.kind) for entry in run.metrics()] for run in (member.run, alone)]
        assert logs[0] == logs[1]
        for one, other in zip(member.run.metrics(), alone.metrics(), strict=True):
            assert one.metrics == pytest.approx(other.metrics, rel=1e-3), one
        ended.append(int(got.state.step))
    return ended


MEMBERS = ((1, 1.0), (2, 1.0), (5, 0.5), (2**32 - 1, 2.0))


@pytest.mark.parametrize("buckets", [1, 3])
def test_runs_are_what_they_are_alone(buckets, tmp_path, monkeypatch):
    monkeypatch.setattr("lstmjax.training.mapped_step.WIDTH", 3)  # of one shape, two calls of two runs
    monkeypatch.setattr("lstmjax.training.mapped_step.CALL", 1)
    task, members = make_task(buckets), make_runs(tmp_path, MEMBERS)
    shapes = {task.batch(member.seed, step).values.shape for member in members for step in range(10)}
    assert len(shapes) == buckets
    training.fit_jointly(task, CONFIG, members)
    assert assert_as_alone(task, CONFIG, members) == [10] * 4


def test_each_run_ends_when_it_would_alone(tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, patience=2, averaging=0.0, learning_rate=0.1)
    task, members = make_task(), make_runs(tmp_path, MEMBERS[:3])
    training.fit_jointly(task, config, members)
    assert len(set(assert_as_alone(task, config, members))) > 1


def test_averages_may_watch_the_validation_metric(tmp_path):
    config = dataclasses.replace(CONFIG, steps=24, averaging=0.0, nonmonotone=2, learning_rate=0.1)
    task, members = make_task(), make_runs(tmp_path, MEMBERS[:2])
    training.fit_jointly(task, config, members)
    assert_as_alone(task, config, members)


def test_a_group_goes_on_after_a_signal(tmp_path):
    task, members = make_task(), make_runs(tmp_path, MEMBERS[:2])

    def interrupted(seed, step):
        if (seed, step) == (2, 5):
            signal.raise_signal(signal.SIGTERM)
        return task.batch(seed, step)

    with pytest.raises(training.Interrupted):
        training.fit_jointly(dataclasses.replace(task, batch=interrupted), CONFIG, members)
    again = [member._replace(run=Run.open(member.run.path)) for member in members]
    again[1].run.path.joinpath("checkpoints", "step-00000006.safetensors").unlink()  # back to step 4
    training.fit_jointly(task, CONFIG, again)
    assert_as_alone(task, CONFIG, again)


def test_a_run_that_diverges_does_not_end_the_others(tmp_path):
    config = dataclasses.replace(CONFIG, max_skipped=2)

    def batch(seed, step):
        found = make_task().batch(seed, step)
        return found._replace(
            values=found.values * np.float32(np.nan if (seed, step >= 5) == (2, True) else 1)
        )

    task, members = make_task(batch=batch), make_runs(tmp_path, MEMBERS[:2])
    training.fit_jointly(task, config, members)
    assert_as_alone(task, config, members[:1])
    with pytest.raises(training.NonFiniteError, match="from step 6 on, batch 5 of seed 2"):
        training.fit(task, dataclasses.replace(config, seed=2), Run.open(members[1].run.path))


def test_devices_divide_the_runs(tmp_path):
    config = dataclasses.replace(CONFIG, devices=2)
    task, members = make_task(), make_runs(tmp_path, MEMBERS)
    training.fit_jointly(task, config, members)
    assert_as_alone(task, dataclasses.replace(config, devices=1), members)
