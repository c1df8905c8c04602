"""The training loop: exact resume, the best parameters kept, early stopping, clear failures."""

import dataclasses
import functools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from resuming import assert_resumes, assert_same_bits

import lstmjax
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.batching import SequenceBatches
from lstmjax.training.record import Run

CELL = lstmjax.lstm(features=1, hidden=4)


def make_task(**changes):
    """Predict the next value of sine waves of unequal length, with noise that depends on the key."""
    random = np.random.default_rng(0)
    waves = [
        np.sin(np.arange(length) / random.uniform(1, 3))[:, None].astype(np.float32)
        for length in random.integers(5, 12, size=20)
    ]
    batches = SequenceBatches(waves, batch_size=4, buckets=2)

    def errors(params, batch):
        inputs = jnp.asarray(batch.values)
        lengths = jnp.maximum(batch.lengths - 1, 0)
        _, outputs = lstmjax.unroll(CELL, params["cell"], inputs[:, :-1], lengths=lengths)
        squares = jnp.square((outputs @ params["readout"])[..., 0] - inputs[:, 1:, 0])
        return Mean.of(squares, jnp.arange(squares.shape[1]) < lengths[:, None])

    def init(key):
        return {"cell": CELL.init(key), "readout": jnp.zeros((4, 1))}

    def loss(params, batch, key):
        noise = 1 + 0.1 * jax.random.normal(key)
        mean = errors(params, batch)
        return mean.compute() * noise, {"error": mean}

    functions = {
        "init": init,
        "loss": loss,
        "batch": batches.at,
        "evaluate": lambda params, batch: {"nll": errors(params, batch)},
        "valid": lambda: SequenceBatches(waves[:5], 4, buckets=1).once(),
    }
    return training.Task.plain(**functions | changes)


CONFIG = training.TrainConfig(
    steps=12, seed=3, learning_rate=0.01, averaging=0.9, evaluate_every=3, log_every=2, checkpoint_every=4
)


def new_run(folder):
    return Run.create(folder, "waves", {}, seed=CONFIG.seed, command="test")


def test_a_figure_that_is_to_become_large_decides_with_a_minus_before_its_name():
    seen = []

    def examine(params):
        seen.append(jax.device_get(params))
        return {"score": [3.0, 5.0, 4.0, 1.0][len(seen) - 1]}

    task = make_task(monitor="-score", examine=examine)
    fit = training.fit(task, CONFIG)
    assert (fit.best.step, fit.best.value, fit.best.stale, len(seen)) == (6, -5.0, 2, 4)
    assert_same_bits(fit.best.params, seen[1])
    lowest = training.fit(
        dataclasses.replace(make_task(), monitor="score", examine=lambda _: {"score": 1.0}), CONFIG
    )
    assert (lowest.best.step, lowest.best.value) == (3, 1.0)


def test_training_lowers_the_loss_and_keeps_the_best():
    config = dataclasses.replace(CONFIG, steps=150, evaluate_every=10)
    task = make_task()
    fit = training.fit(task, config)
    untrained = training.fit(task, dataclasses.replace(config, steps=0)).best.params
    before = training.evaluate(task, untrained, task.valid())
    after = training.evaluate(task, fit.best.params, task.valid())
    assert after["nll"] < 0.5 * before["nll"]
    assert after["nll"] == pytest.approx(fit.best.value)
    assert int(fit.state.step) == 150


@pytest.mark.parametrize(
    ("stop_at", "by"),
    [(1, None), (4, None), (7, None), (0, signal.SIGTERM), (4, signal.SIGINT), (5, signal.SIGTERM)],
)
def test_a_resumed_run_gives_the_same_bits(tmp_path, stop_at, by):
    assert_resumes(make_task(), CONFIG, stop_at, tmp_path, by=by)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_last_step_is_not_lost(by):
    def batch(seed, step):
        if step == CONFIG.steps - 1:
            signal.raise_signal(by)
        return make_task().batch(seed, step)

    task, caught = make_task(batch=batch), []
    before = signal.signal(by, lambda number, frame: caught.append(number))
    try:
        with pytest.raises(training.Interrupted, match=f"ended by {signal.Signals(by).name} after step 12"):
            training.fit(task, CONFIG)
    finally:
        assert signal.signal(by, before) is not signal.SIG_DFL
    assert not caught, "it is not delivered twice"


def test_a_finished_run_resumed_does_nothing_more(tmp_path):
    run = new_run(tmp_path)
    first = training.fit(make_task(), CONFIG, run)

    def no_batch(seed, step):
        raise AssertionError("there is nothing left to train")

    assert_same_bits(first, training.fit(make_task(batch=no_batch), CONFIG, Run.open(run.path)))


def test_seeds_differ_and_equal_seeds_agree():
    task = make_task()
    one, again = training.fit(task, CONFIG), training.fit(task, CONFIG)
    other = training.fit(task, dataclasses.replace(CONFIG, seed=4))
    assert_same_bits(one, again)
    assert not np.array_equal(one.state.params["readout"], other.state.params["readout"])


def test_early_stopping_keeps_the_best_of_what_was_seen(tmp_path):
    values = iter([5.0, 3.0, 4.0, 4.0, 4.0, 1.0])
    evaluations = []

    def valid():
        evaluations.append(next(values))
        return iter([evaluations[-1]])

    task = make_task(valid=valid, evaluate=lambda params, value: {"nll": Mean.of(jnp.asarray(value))})
    config = dataclasses.replace(CONFIG, steps=100, patience=2)
    run = new_run(tmp_path)
    fit = training.fit(task, config, run)
    assert evaluations == [5.0, 3.0, 4.0, 4.0]
    assert (fit.best.value, fit.best.step, int(fit.state.step)) == (3.0, 6, 12)
    assert_same_bits(fit, training.fit(task, config, Run.open(run.path)))


def test_without_a_validation_set_the_last_parameters_are_the_best():
    fit = training.fit(make_task(valid=lambda: iter(())), dataclasses.replace(CONFIG, averaging=0.0))
    assert_same_bits(fit.best.params, fit.state.params)
    assert fit.best.step == CONFIG.steps


def test_the_average_is_the_one_of_its_definition():
    task = make_task()
    config = dataclasses.replace(CONFIG, steps=5, averaging=0.3)
    optimizer = training.adam(config)
    step = training.make_step(task, config, optimizer)
    state = training.init_state(task, config, optimizer)
    expected = np.asarray(state.params["readout"])
    for number in range(5):
        state, _ = step(state, task.batch(config.seed, number))
        decay = min(0.3, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * np.asarray(state.params["readout"])
    np.testing.assert_allclose(state.average["readout"], expected, rtol=1e-5)


def test_the_step_does_not_compile_again_for_equal_shapes_and_donates_its_state():
    task = make_task()
    optimizer = training.adam(CONFIG)
    step = training.make_step(task, CONFIG, optimizer)
    first = training.init_state(task, CONFIG, optimizer)
    state, _ = step(first, task.batch(0, 0))
    shapes = {task.batch(0, number).values.shape for number in range(20)}
    for number in range(20):
        state, _ = step(state, task.batch(0, number))
    assert step._cache_size() == len(shapes)
    assert first.params["readout"].is_deleted()


LOSSES = {
    "loss": lambda params, batch, key: (params["readout"].sum() * jnp.nan, {}),
    # It is finite at zero, and its slope is not.
    "gradient": lambda params, batch, key: (jnp.sqrt(jnp.square(params["readout"]).sum()), {}),
}


@pytest.mark.parametrize("what", LOSSES)
def test_too_many_steps_in_a_row_that_are_not_finite_stop_the_run_and_changed_nothing(tmp_path, what):
    run = new_run(tmp_path)
    config = dataclasses.replace(CONFIG, max_skipped=4)
    message = r"in 4 steps in a row, from step 1 on, batch 0 of seed 3; .* First not finite: (mul|div) "
    with pytest.raises(training.NonFiniteError, match=message):
        training.fit(make_task(loss=LOSSES[what]), config, run)
    entry = run.metrics("train")[0]
    assert entry.metrics["skipped_steps"] == 2
    assert np.isnan(entry.metrics["loss"])


@pytest.mark.parametrize("what", ["batch", "carry", "gradient"])
def test_steps_that_are_not_finite_are_skipped_with_the_state_unchanged_and_counted(what):
    bad = {2, 5, 6}

    def loss(params, carry, batch, key):
        number, is_bad = batch
        value = ((params["slope"] * number - carry) ** 2).sum()
        if what == "gradient":  # infinite at zero
            value += jnp.sqrt(jnp.where(is_bad, 0, 1) * params["slope"])
        after = jnp.where(is_bad & (what == "carry"), jnp.nan, carry + 1)
        return value, (after, {"size": Mean.of(number)})

    task = dataclasses.replace(
        sequential_task(),
        loss=loss,
        init=lambda key: {"slope": jnp.ones(())},
        initial_carry=lambda: np.zeros(()),
    )
    optimizer = training.adam(CONFIG)
    step, state = training.make_step(task, CONFIG, optimizer), training.init_state(task, CONFIG, optimizer)
    for number in range(9):
        before, is_bad = jax.device_get(state), number in bad
        value = np.nan if is_bad and what == "batch" else number + 1
        state, metrics = step(state, (np.float32(value), np.bool_(is_bad)))
        after = jax.device_get(state)
        assert float(metrics["size"].weight) == 1 - is_bad
        assert (after.params["slope"] == before.params["slope"]) == is_bad
        if is_bad:
            assert_same_bits(before, after._replace(step=before.step, skipped=before.skipped))
    assert (int(state.skipped.total), int(state.skipped.in_row), int(state.step)) == (3, 0, 9)


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    run = new_run(tmp_path)
    huge = optax.scale(float("inf"))
    with pytest.raises(training.NonFiniteError, match="parameters are not finite at step 2"):
        training.fit(make_task(), CONFIG, run, huge)
    assert not list(run.path.glob("checkpoints/*"))


def test_a_monitor_that_is_not_evaluated_is_named():
    with pytest.raises(training.TrainingError, match=r"monitors 'accuracy', but evaluates only \['nll'\]"):
        training.fit(make_task(monitor="accuracy"), CONFIG)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("log_every", 0),
        ("averaging", 1.0),
        ("seed", -2),
        ("max_skipped", 0),
        ("learning_rate", float("nan")),
        ("clip_norm", float("inf")),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(training.ConfigError, match=f"train.{name} must .*{value}"):
        training.TrainConfig(**{name: value})


def test_the_schedule_rises_then_falls_and_gradients_are_clipped():
    config = training.TrainConfig(steps=10, learning_rate=0.5, schedule="cosine", warmup=4, clip_norm=1.0)
    optimizer = training.adam(config)
    params = jnp.zeros(3)
    state, sizes = optimizer.init(params), []
    for _ in range(10):
        updates, state = optimizer.update(jnp.full(3, 1e6), state, params)
        sizes.append(float(jnp.abs(updates).max()))
    expected = [0.5 * n / 4 for n in range(4)] + [0.25 * (1 + np.cos(np.pi * n / 6)) for n in range(6)]
    np.testing.assert_allclose(sizes, expected, rtol=1e-3, atol=1e-6)
    clipped, _ = optax.clip_by_global_norm(1.0).update(jnp.full(3, 1e6), optax.EmptyState())
    moment = functools.reduce(
        lambda found, leaf: leaf if leaf.shape == (3,) else found, jax.tree.leaves(state)
    )
    assert float(jnp.max(moment)) <= float(jnp.max(clipped)) + 1e-6, "Adam only ever saw clipped gradients"


def test_a_figure_that_is_not_finite_is_never_the_best():
    def evaluate(params, batch):
        return {"nll": Mean.of(jnp.full(1, jnp.nan))}

    with pytest.raises(training.TrainingError, match="nll on the validation set is nan at step 3"):
        training.fit(make_task(evaluate=evaluate), CONFIG)


def sequential_task(**changes):
    """Predict a walk from a carried sum that decays: the loss depends on all batches before."""
    steps = np.random.default_rng(1).normal(size=40).astype(np.float32)

    def predicted(params, carry, batch):
        after = 0.5 * carry + batch
        return after, jnp.square(params["slope"] * carry - batch)

    def loss(params, carry, batch, key):
        after, error = predicted(params, carry, batch)
        return error * (1 + 0.1 * jax.random.normal(key)), (after, {"error": Mean.of(error)})

    def evaluate(params, carry, batch):
        after, error = predicted(params, carry, batch)
        return after, {"nll": Mean.of(error)}

    task = training.Task(
        init=lambda key: {"slope": jnp.ones(())},
        initial_carry=lambda: jnp.full((), 3.0),
        loss=loss,
        batch=lambda seed, step: steps[step % 20],
        initial_evaluation_carry=lambda: jnp.full((), -2.0),
        evaluate=evaluate,
        valid=lambda: iter(steps[20:]),
    )
    return dataclasses.replace(task, **changes)


def test_a_carry_goes_from_batch_to_batch_and_no_gradient_through_it():
    task = sequential_task()
    config = dataclasses.replace(CONFIG, averaging=0.0, clip_norm=0.0)
    optimizer = optax.sgd(0.01)
    step, state = training.make_step(task, config, optimizer), training.init_state(task, config, optimizer)
    carry, slope = 3.0, 1.0
    for number in range(5):
        batch = float(task.batch(0, number))
        state, metrics = step(state, np.float32(batch))
        error = (slope * carry - batch) ** 2
        noise = float(metrics["loss"].compute()) / error  # 1 and what the key gave
        assert float(metrics["error"].compute()) == pytest.approx(error, rel=1e-4)
        slope -= 0.01 * 2 * (slope * carry - batch) * carry * noise
        carry = 0.5 * carry + batch
        assert float(state.params["slope"]) == pytest.approx(slope, rel=1e-4)
        assert float(state.carry) == pytest.approx(carry, rel=1e-4)


def test_an_evaluation_in_order_begins_with_its_own_carry_each_time():
    task, params = sequential_task(), {"slope": jnp.full((), 0.7)}
    carry, errors = -2.0, []
    for batch in task.valid():
        errors.append((0.7 * carry - float(batch)) ** 2)
        carry = 0.5 * carry + float(batch)
    for _ in range(2):
        figures = training.evaluate(task, params, task.valid())
        assert figures["nll"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_an_evaluation_computes_in_the_usual_dtypes():
    """Only the sums are of float64: a model that makes constants of its own makes them of float32."""

    def evaluate(params, batch):
        assert jnp.ones(()).dtype == jnp.float32
        return {"nll": Mean.of(jnp.ones(3))}

    task = make_task(evaluate=evaluate)
    assert training.evaluate(task, task.init(jax.random.key(0)), task.valid()) == {"nll": 1.0}


def test_a_run_with_a_carry_resumes_to_the_same_bits(tmp_path):
    resumed = assert_resumes(sequential_task(), CONFIG, 7, tmp_path)
    assert float(resumed.state.carry) != 3.0


def test_a_plain_task_is_one_with_an_empty_carry():
    task = make_task(loss=lambda params, batch, key: (jnp.sum(params["readout"]), {}))
    params, batch, key = task.init(jax.random.key(0)), task.batch(0, 0), jax.random.key(1)
    assert task.initial_carry() == task.initial_evaluation_carry() == ()
    assert task.loss(params, (), batch, key)[1] == ((), {})
    assert task.evaluate(params, (), batch)[0] == ()
    assert training.init_state(task, CONFIG, training.adam(CONFIG)).carry == ()


NONMONOTONE = dataclasses.replace(
    CONFIG, steps=30, averaging=0.0, nonmonotone=2, evaluate_every=2, clip_norm=0.0
)


def oscillating(**changes):
    """The walk, with a metric that says which parameters were evaluated."""
    walk = sequential_task()

    def evaluate(params, carry, batch):
        after, metrics = walk.evaluate(params, carry, batch)
        return after, {**metrics, "slope": Mean.of(params["slope"])}

    return sequential_task(evaluate=evaluate, **changes)


def test_nt_asgd_is_its_definition(tmp_path):
    """The iterates of plain SGD; the mean from the first step whose evaluation is worse than long before."""
    task, optimizer, run = oscillating(), optax.sgd(0.05), new_run(tmp_path)
    fit = training.fit(task, NONMONOTONE, run, optimizer)

    plain = dataclasses.replace(NONMONOTONE, nonmonotone=0)
    step, state = training.make_step(task, plain, optimizer), training.init_state(task, plain, optimizer)
    iterates, logs, began, expected = [float(state.params["slope"])], [], None, []
    for number in range(30):
        state, _ = step(state, task.batch(CONFIG.seed, number))
        iterates.append(float(state.params["slope"]))
        if (number + 1) % 2:
            continue
        slope = iterates[-1] if began is None else np.mean(iterates[began:])
        params = {"slope": jnp.float32(slope)}
        value = training.evaluate(task, params, task.valid())["nll"]
        expected.append((slope, value))
        if began is None and len(logs) > 2 and value > min(logs[:-2]):
            began = number + 1
        logs.append(value)

    assert began is not None
    assert 6 < began < 24, "somewhere in the middle"
    seen = [(entry.metrics["slope"], entry.metrics["nll"]) for entry in run.metrics("valid")]
    np.testing.assert_allclose(seen, expected, rtol=1e-4)
    assert int(fit.state.average.averaged) == 30 - began + 1
    assert float(fit.state.average.mean["slope"]) == pytest.approx(np.mean(iterates[began:]), rel=1e-5)
    assert float(fit.state.params["slope"]) == pytest.approx(iterates[-1], rel=1e-6), "SGD goes on as it was"
    assert fit.best.value == pytest.approx(min(value for _, value in expected), rel=1e-4)


@pytest.mark.parametrize("stop_at", [5, 9, 13, 21, 29])
@pytest.mark.parametrize("from_start", [False, True])
def test_a_run_resumes_to_the_same_bits_before_and_after_its_mean_has_begun(tmp_path, stop_at, from_start):
    config, optimizer = dataclasses.replace(NONMONOTONE, mean_from_start=from_start), optax.sgd(0.05)
    resumed = assert_resumes(oscillating(), config, stop_at, tmp_path, optimizer)
    assert int(resumed.state.average.averaged) > 1


def given_values(values, **changes):
    """A task whose evaluations are these, one after the other."""
    left = iter(values)
    return sequential_task(
        valid=lambda: iter([next(left)]),
        evaluate=lambda params, carry, value: (carry, {"nll": Mean.of(jnp.asarray(value))}),
        **changes,
    )


def test_a_mean_from_the_start_stops_by_the_criterion_and_counts_where_it_began(tmp_path):
    """The first value is of the parameters before any step: it may be the best, but is not in the history."""
    config, run = dataclasses.replace(NONMONOTONE, mean_from_start=True), new_run(tmp_path)
    start, values = oscillating().init(jax.random.key(0)), [0.5, 5.0, 3.0, 4.0, 3.5, 3.2, 0.1]
    fit = training.fit(given_values(values), config, run, optax.sgd(0.01), start)
    assert int(fit.state.step) == 10, "3.2 is worse than the 3.0 of three evaluations before"
    assert int(fit.state.average.averaged) == 11
    assert (fit.best.value, fit.best.step, fit.best.stale) == (0.5, 0, 5)
    assert_same_bits(fit.best.params, start)
    assert [entry.step for entry in run.metrics("valid")] == [2, 4, 6, 8, 10]
    assert_same_bits(fit, training.fit(given_values([]), config, Run.open(run.path), optax.sgd(0.01)))


def test_a_mean_that_never_begins_changes_nothing():
    task, optimizer = oscillating(valid=lambda: iter(())), optax.sgd(0.01)
    fit = training.fit(task, NONMONOTONE, optimizer=optimizer)
    plain = training.fit(task, dataclasses.replace(NONMONOTONE, nonmonotone=0), optimizer=optimizer)
    assert_same_bits(fit.state.params, plain.state.params)
    assert_same_bits(fit.best.params, plain.best.params)
    assert int(fit.state.average.averaged) == 0


def test_without_a_mean_a_checkpoint_has_the_leaves_that_it_always_had(tmp_path):
    run = new_run(tmp_path)
    training.fit(sequential_task(), CONFIG, run, optax.sgd(0.01))
    (latest,) = run.path.glob("checkpoints/step-00000012.safetensors")
    names = {
        ".state.skipped.total",
        ".state.skipped.in_row",
        ".state.step",
        ".state.params['slope']",
        ".state.average['slope']",
        ".state.carry",
    }
    names |= {".best.params['slope']", ".best.value", ".best.step", ".best.stale"}
    assert set(safetensors.numpy.load_file(latest)) == names


def test_the_rate_factor_of_a_batch_scales_its_update_after_clipping():
    config = dataclasses.replace(CONFIG, averaging=0.0)
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    moved = []
    for factor in (1.0, 0.25):
        task = sequential_task(rate_factor=lambda batch, factor=factor: factor * jnp.ones_like(batch))
        state = training.init_state(task, config, optimizer)
        state, _ = training.make_step(task, config, optimizer)(state, task.batch(0, 0))
        moved.append(float(state.params["slope"]) - 1.0)
    assert abs(moved[0]) == pytest.approx(1e-3, rel=1e-3)
    assert moved[1] == pytest.approx(moved[0] / 4, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"averaging": 0.9, "nonmonotone": 5}, "averaging 0.9 and train.nonmonotone 5 are two averages"),
        ({"mean_from_start": True}, "mean_from_start needs train.nonmonotone"),
        ({"nonmonotone": -1}, "train.nonmonotone must not be negative, got -1"),
    ],
)
def test_averages_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(training.ConfigError, match=message):
        training.TrainConfig(**settings)


def test_evaluations_are_traced_in_the_types_of_training():
    seen = []

    def evaluate(params, batch):
        seen.append(jnp.zeros(3).dtype)
        return {"nll": Mean.of(jnp.asarray(batch.values))}

    task = make_task(evaluate=evaluate)
    training.evaluate(task, {}, task.valid())
    assert set(seen) == {np.dtype("float32")}
