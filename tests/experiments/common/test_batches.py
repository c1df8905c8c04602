"""Batches of every experiment are functions of seed and step: a run can go on at any step, on any devices."""

import jax
import numpy as np
import pytest
from resuming import assert_same_bits

from experiments import __main__ as program
from lstmjax import training

STEPS = (0, 1, 2, 3, 4, 5, 6, 7, 1000, 1001, 1002, 1003)
"""Across edges of epochs, which are of a few steps with ``--quick``."""


class Captured(Exception):
    """Training would begin."""


def capture(name, folder, data, monkeypatch):
    """The task that an experiment trains first."""

    def fit(task, *rest, **others):
        raise Captured(task)

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(Captured) as captured:
        program.main([name, "--quick", "--data-dir", str(data), "--runs", str(folder)])
    return captured.value.args[0]


@pytest.mark.parametrize("name", sorted(set(program.EXPERIMENTS) - {"speed"}))
def test_a_batch_depends_on_seed_and_step_alone(name, tmp_path, real_data, monkeypatch):
    if name == "speech_synthesis":
        pytest.importorskip("pysptk", reason="the extra `speech` is not installed")
    first, second = (capture(name, tmp_path, real_data, monkeypatch) for _ in range(2))
    forward = {step: first.batch(3, step) for step in STEPS}
    backward = {step: second.batch(3, step) for step in reversed(STEPS)}
    for step in STEPS:
        assert_same_bits(forward[step], backward[step])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(forward)), "a device holds none of it"
