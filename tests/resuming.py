"""What a resumed run must be: the same, to the bit, as one that was never stopped."""

import dataclasses
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import optax

from experiments import __main__ as program
from lstmjax import training
from lstmjax.training.record import Run


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_resumes(
    task: training.Task,
    config: training.TrainConfig,
    stop_at: int,
    folder: Path,
    optimizer: optax.GradientTransformation | None = None,
    by: int | None = None,
) -> training.Fit:
    """Train in one go, and stopped at the batch of a step and resumed; returns what both came to.

    By an exception there, training goes on from the checkpoint before; by a signal, from the step itself.
    """

    def failing(seed, step):
        if step == stop_at:
            if by is None:
                raise KeyboardInterrupt
            signal.raise_signal(by)
        return task.batch(seed, step)

    runs = [Run.create(folder, "resumed", {}, seed=config.seed, command="test") for _ in range(2)]
    whole = training.fit(task, config, runs[0], optimizer)
    interrupted = False
    try:
        training.fit(dataclasses.replace(task, batch=failing), config, runs[1], optimizer)
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted == (stop_at < int(whole.state.step))
    resumed = training.fit(task, config, Run.open(runs[1].path), optimizer)
    assert_same_bits(whole, resumed)
    logged = [[(entry.step, entry.kind, entry.metrics) for entry in run.metrics()] for run in runs]
    assert logged[0] == logged[1]
    return resumed


def assert_finished_run_resumes(run: Run, folder: Path, last: int, *flags: str) -> None:
    """Resume a copy of a run from before the checkpoint of its last step: the figures are the same."""
    copy = folder / "copy"
    shutil.copytree(run.path, copy)
    (copy / "summary.json").unlink()
    for path in (copy / "checkpoints").glob(f"*{last}*"):
        path.unlink()
    assert program.main([run.experiment, "--resume", str(copy), *flags]) == 0
    assert Run.open(copy).figures() == run.figures()
