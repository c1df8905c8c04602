"""An experiment of a second, for tests that end its process: ``python faulty.py FOLDER [--resume RUN]``.

It runs as all experiments do. A file of a stage's name in the folder makes that stage wait: ``data``,
``batch``, ``evaluate``, ``final``; the stage then writes ``<stage>.reached``.
"""

import signal

from experiments.common import signals

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):  # a test in the background may have them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.install()

import dataclasses
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments import __main__ as program
from experiments.common import learning
from experiments.common.command_line import CommonConfig
from experiments.common.experiment import Experiment, Page
from lstmjax import training
from lstmjax.metrics import Mean

FOLDER = Path(sys.argv[1])
TRAIN = training.TrainConfig(
    steps=60, evaluate_every=7, checkpoint_every=10, log_every=4, averaging=0.9, learning_rate=0.01
)


def stage(name):
    """Wait where the test says so."""
    if (FOLDER / name).exists():
        (FOLDER / f"{name}.reached").touch()
        time.sleep(60)


def batch(seed, step):
    if step == 33:
        stage("batch")
    time.sleep(0.01)
    return np.random.default_rng((seed, step)).normal(size=(8, 3)).astype(np.float32)


def errors(params, values):
    return Mean.of(jnp.square(values @ params["weights"] - values.sum(axis=1)))


def evaluate(params, values):
    return {"nll": errors(params, values)}


def valid():
    yield batch(0, 1000)
    stage("evaluate")
    yield batch(0, 1001)


def loss(params, values, key):
    error = errors(params, values)
    return error.compute(), {"error": error}


def run(config, run):
    stage("data")
    task = training.Task.plain(
        init=lambda key: {"weights": jnp.zeros(3)}, loss=loss, batch=batch, evaluate=evaluate, valid=valid
    )
    learned = learning.learn(task, config.train, run)
    stage("final")
    test = learning.evaluate(task, learned.params, {"test": valid()})
    learning.finish(run, {**learned.figures, **test})


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """The flags."""

    runs: Path = FOLDER
    train: training.TrainConfig = dataclasses.field(default_factory=lambda: TRAIN)


if __name__ == "__main__":
    program.EXPERIMENTS["faulty"] = "ended in all ways"
    program.load = lambda name: Experiment("faulty", Config, run, Page(str))
    sys.exit(program.main(["faulty", *sys.argv[2:]]))
