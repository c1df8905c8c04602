"""Damaged files of a run: an error that names the file, or what was written; never anything else."""

import random
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import command_line, learning, models
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.record import Run

CONFIG = training.TrainConfig(steps=6, evaluate_every=2, checkpoint_every=2, log_every=1)


def init(key):
    return {"weights": jnp.zeros(3)}


def errors(params, values):
    return {"nll": Mean.of(jnp.square(values @ params["weights"] - values.sum(axis=1)))}


def loss(params, values, key):
    metrics = errors(params, values)
    return metrics["nll"].compute(), metrics


TASK = training.Task.plain(
    init=init,
    loss=loss,
    batch=lambda seed, step: np.random.default_rng((seed, step)).normal(size=(8, 3)).astype(np.float32),
    evaluate=errors,
    valid=lambda: iter([np.eye(3, dtype=np.float32)]),
)


STATE = jax.device_get(training.init_state(TASK, CONFIG, training.adam(CONFIG)))
LIKE = training.Fit(STATE, training.Best(STATE.params, 0.0, 0, 0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("runs"), "faulty", {"size": 3}, seed=1, command="test")
    learned = learning.learn(TASK, CONFIG, run)
    (models.folder_in(run.path) / "vocabulary.json").write_text('["a", "b"]')
    learning.finish(run, learned.figures)
    return run.path


def read(path):
    """All that is read from a run."""
    run = Run.open(path)
    folder = models.of_run(path, "faulty")
    latest = Checkpoints(path / "checkpoints", run=run.identity).restore_latest(LIKE)
    params = models.load_params(folder, init)
    return {
        "config": (run.config, run.seed, run.command, run.experiment),
        "metrics": run.metrics(),
        "sessions": run.sessions(),
        "figures": run.figures(),
        "params": np.asarray(params["weights"]).tobytes(),
        "checkpoint": (latest[0], np.asarray(latest[1].state.params["weights"]).tobytes()),
        "vocabulary": (folder / "vocabulary.json").read_text(),
    }


FILES = [
    *("config.json", "metrics.jsonl", "sessions.json", "summary.json"),
    *("checkpoints/step-00000006.safetensors",),
    *("model/parameters.safetensors", "model/vocabulary.json", "model/config.json", "model/sha256.json"),
]


def outcome(path):
    """What is read, or else the message of an expected error."""
    try:
        return read(path), None
    except command_line.ERRORS as error:
        return None, str(error)


def check(finished, tmp_path, name, flips, truncations):
    whole, chance = read(finished), random.Random(name)
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    content = (path / name).read_bytes()
    damaged = [content[: chance.randrange(len(content))] for _ in range(truncations)]
    for _ in range(flips):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    for each in damaged:
        (path / name).write_bytes(each)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found, error = outcome(path)
        if error is not None:
            assert str(path) in error, error
        elif name.startswith("checkpoints"):
            assert found["checkpoint"][0] == 4, "the one before"
            assert "Going back to the one of step 4" in str(warned[0].message)
        elif name == "metrics.jsonl" and content.startswith(each[:-1]):  # as of a run killed earlier
            assert found["metrics"] == whole["metrics"][: each.count(b"\n")]
        else:
            assert found == whole
            assert each == content.rstrip() or b'"crc32"' not in each, "no damage, or none but of this name"


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_or_falls_back(finished, tmp_path, name):
    check(finished, tmp_path, name, flips=8, truncations=4)


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_much_damage_is_refused_or_falls_back(finished, tmp_path, name):
    check(finished, tmp_path, name, flips=200, truncations=50)
