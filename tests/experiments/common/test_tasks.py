"""The training task of every experiment: a run can go on at any step, and be divided over devices."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from resuming import assert_same_bits

from experiments import __main__ as program
from lstmjax import training

TRAINED = sorted(set(program.EXPERIMENTS) - {"speed"})

STEPS = (0, 1, 2, 3, 4, 5, 6, 7, 1000, 1001, 1002, 1003)
"""Across edges of epochs, which are of a few steps with ``--quick``."""

COLLECTIVES = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


class Captured(Exception):
    """Training would begin."""


def capture(name, folder, data, monkeypatch, seed=1):
    """The task that an experiment trains first, its settings and its optimizer."""
    if name == "speech_synthesis":
        pytest.importorskip("pysptk", reason="the extra `speech` is not installed")

    def fit(task, settings, run=None, optimizer=None, params=None):
        raise Captured(task, settings, optimizer or training.adam(settings))

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(Captured) as captured:
        program.main(
            [name, "--quick", "--data-dir", str(data), "--runs", str(folder), "--train.seed", str(seed)]
        )
    return captured.value.args


@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_depends_on_seed_and_step_alone(name, tmp_path, real_data, monkeypatch):
    # Whatever the seed of the run: seeds that train as one program share a task.
    first, second = (capture(name, tmp_path, real_data, monkeypatch, seed)[0] for seed in (1, 2))
    forward = {step: first.batch(3, step) for step in STEPS}
    backward = {step: second.batch(3, step) for step in reversed(STEPS)}
    for step in STEPS:
        assert_same_bits(forward[step], backward[step])
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(forward)), (
        "a device holds some of it"
    )


def even(leaf):
    """Two devices divide an even number of rows."""
    return np.concatenate([leaf, leaf]) if np.ndim(leaf) and len(leaf) % 2 else leaf


@pytest.mark.usefixtures("optimized")
@pytest.mark.full
@pytest.mark.parametrize("name", sorted(set(TRAINED) - {"question_answering"}))  # its models come before rows
def test_two_devices_exchange_nothing_but_the_gradient(name, tmp_path, real_data, monkeypatch):
    task, settings, optimizer = capture(name, tmp_path, real_data, monkeypatch)
    settings = dataclasses.replace(settings, devices=2)
    batch = task.batch(1, 0) if task.models else jax.tree.map(even, task.batch(1, 0))
    step = training.make_step(task, settings, optimizer)
    state = training.init_state(task, settings, optimizer)
    program_text = jax.jit(step).lower(state, batch).compile().as_text()
    of_metrics = {"all-gather"} if task.models else set()  # those of each model
    assert set(COLLECTIVES.findall(program_text)) <= {"all-reduce"} | of_metrics
