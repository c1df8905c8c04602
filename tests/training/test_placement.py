"""Training on several devices: the same as on one, divided by rows or by models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training import parallel

CELL = lstmjax.lstm(3, 4)
CONFIG = training.TrainConfig(steps=12, evaluate_every=4, learning_rate=0.02, averaging=0.5, clip_norm=0.1)


def init(key):
    return {"cell": CELL.init(key), "readout": jnp.zeros(4)}


def nll(params, batch):
    inputs, lengths = batch
    _, outputs = lstmjax.unroll(CELL, params["cell"], inputs, lengths=lengths)
    mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
    return Mean.of(jnp.square(outputs @ params["readout"] - inputs.sum(-1)), mask)


def loss(params, batch, key):
    keep = jax.random.bernoulli(key, 0.8, batch[0].shape)
    found = nll(params, (batch[0] * keep, batch[1]))
    return found.compute(), {"nll": found}


def batch(rows, seed, step):
    """Rows of very different lengths, so that devices have different numbers of valid steps."""
    random = np.random.default_rng((seed, step))
    inputs = random.normal(size=(rows, 7, 3)).astype(np.float32)
    lengths = np.where(np.arange(rows) < rows // 2, random.integers(0, 2, rows), random.integers(5, 8, rows))
    return inputs, lengths.astype(np.int32)


def make_task(rows=6):
    return training.Task.plain(
        init=init,
        loss=loss,
        batch=lambda seed, step: batch(rows, seed, step),
        evaluate=lambda params, batch: {"nll": nll(params, batch)},
        valid=lambda: (batch(rows, 9, step) for step in range(2)),
    )


def several(task, models):
    """The task of several models, each with its own initial parameters."""

    def each(params, batch, key):
        value, metrics = jax.vmap(loss, in_axes=(0, None, None))(params, batch, key)
        return value.sum(), metrics

    return training.Task.plain(
        init=lambda key: jax.vmap(init)(jax.random.split(key, models)),
        loss=each,
        batch=task.batch,
        evaluate=lambda params, batch: {"nll": jax.vmap(nll, in_axes=(0, None))(params, batch)},
        valid=task.valid,
        models=models,
    )


TASKS = {
    "rows": (make_task(), 2),
    "rows that do not divide evenly": (make_task(5), 2),
    "models": (several(make_task(), 4), 2),
    "models that do not divide evenly": (several(make_task(), 3), 1),
}


@pytest.mark.parametrize("name", TASKS)
def test_two_devices_do_what_one_does(name):
    task, used = TASKS[name]
    one, two = (training.fit(task, dataclasses.replace(CONFIG, devices=devices)) for devices in (1, 2))
    for got, want in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-6)
    divided = two.state.params["readout"].sharding
    assert len(divided.device_set) == used
    assert divided.is_fully_replicated == (name != "models")


def test_rows_are_divided_and_parameters_are_not():
    place = parallel.placement(2)
    inputs, lengths = place.rows(batch(6, 1, 1))
    for leaf in (inputs, lengths):
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [3, 3]
    assert place.rows(np.zeros(5)).sharding.is_fully_replicated
    assert place.state(np.zeros(6)).sharding.is_fully_replicated
    assert parallel.placement_of({"weights": place.state(np.zeros(6))}, None) == place


def test_one_device_of_a_cpu_is_used_unless_more_are_asked_for():
    assert parallel.placement() == parallel.Placement()
    values = batch(6, 1, 1)
    assert parallel.placement().rows(values) is values
    with pytest.raises(training.ConfigError, match=r"train\.devices is 3, but JAX has 2 of kind cpu"):
        parallel.placement(3)


def test_a_run_goes_on_with_other_devices(tmp_path):
    run = training.record.Run.create(tmp_path, "parallel", {}, seed=1, command="test")
    task, _ = TASKS["rows"]
    training.fit(task, dataclasses.replace(CONFIG, steps=8, devices=2), run)
    resumed = training.fit(task, CONFIG, training.record.Run.open(run.path))
    whole = training.fit(task, CONFIG)
    assert int(resumed.state.step) == 12
    np.testing.assert_allclose(resumed.state.params["readout"], whole.state.params["readout"], rtol=1e-4)
