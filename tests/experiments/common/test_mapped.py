"""Several models as one task: each as if it were alone, its best parameters and its figures its own."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from resuming import assert_resumes

from experiments.common import mapped
from experiments.common.tables import spread_of
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.record import Run

RATES = np.array([0.01, 0.3, 1.9], np.float32)
CONFIG = training.TrainConfig(
    steps=12, seed=1, learning_rate=1.0, clip_norm=0.0, evaluate_every=2, averaging=0.0
)


def regression(rate):
    """A line through points; the rate, a float or an array of models, is applied to the gradient."""

    def errors(params, batch):
        inputs, targets = batch
        return jnp.square(inputs @ params["slope"] - targets)

    def batch(seed, step):
        rng = np.random.default_rng((seed, step))
        inputs = rng.normal(size=(8, 2)).astype(np.float32)
        return inputs, (inputs @ [1.0, -2.0] + rng.normal(size=8)).astype(np.float32)

    return errors, batch, [batch(0, 100), batch(0, 101)]


def alone(model, start):
    errors, batch, valid = regression(RATES[model])
    task = training.Task.plain(
        init=lambda key: {"slope": start},
        loss=lambda params, batch, key: (errors(params, batch).mean(), {}),
        evaluate=lambda params, batch: {"nll": Mean.of(errors(params, batch))},
        batch=batch,
        valid=lambda: valid,
    )
    return training.fit(task, CONFIG, optimizer=optax.sgd(float(RATES[model])))


def side_by_side(starts, **changes):
    errors, batch, valid = regression(RATES)

    def loss(params, batch, key):
        return jax.vmap(errors, (0, None))(params, batch).mean(axis=1).sum(), {}

    def evaluate(params, batch):
        return {"nll": jax.vmap(lambda params: Mean.of(errors(params, batch)))(params)}

    functions = {
        "init": lambda key: {"slope": starts},
        "loss": loss,
        "evaluate": evaluate,
        "batch": batch,
        "valid": lambda: valid,
        "models": len(RATES),
    }
    return training.Task.plain(**functions | changes)


def rates():
    return optax.stateless(lambda updates, params: jax.tree.map(lambda g: -RATES[:, None] * g, updates))


STARTS = np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)


def test_each_model_is_as_it_would_be_alone_and_keeps_its_own_best():
    fit = training.fit(side_by_side(STARTS), CONFIG, optimizer=rates())
    singles = [alone(model, STARTS[model]) for model in range(3)]
    assert len({single.best.step for single in singles}) > 1, "the best steps differ"
    assert fit.best.step.tolist() == [single.best.step for single in singles]
    np.testing.assert_allclose(fit.best.value, [single.best.value for single in singles], rtol=1e-5)
    for model, single in enumerate(singles):
        np.testing.assert_allclose(fit.best.params["slope"][model], single.best.params["slope"], rtol=1e-5)


def test_figures_are_those_of_each_model_and_their_mean_is_logged(tmp_path):
    run = Run.create(tmp_path, "lines", {}, seed=1, command="test")
    task = side_by_side(STARTS)
    fit = training.fit(task, CONFIG, run, rates())
    each = training.evaluate_each(task, fit.best.params, task.valid())
    assert each["nll"].shape == (3,)
    np.testing.assert_allclose(each["nll"], fit.best.value, rtol=1e-6)
    assert training.evaluate(task, fit.best.params, task.valid())["nll"] == pytest.approx(each["nll"].mean())
    last = training.evaluate_each(task, fit.state.params, task.valid())["nll"].mean()
    assert run.metrics("valid")[-1].metrics["nll"] == pytest.approx(last)


def test_a_model_that_has_diverged_does_not_stop_the_others():
    def evaluate(lost, params, batch):
        errors = jax.vmap(regression(RATES)[0], (0, None))(params, batch).mean(axis=1)
        return {"nll": Mean(jnp.where(lost, jnp.nan, errors), jnp.ones(3))}

    lost = functools.partial(evaluate, np.array([False, False, True]))
    fit = training.fit(side_by_side(STARTS, evaluate=lost), CONFIG, optimizer=rates())
    assert np.isfinite(fit.best.value).tolist() == [True, True, False]
    assert (fit.best.step > 0).tolist() == [True, True, False]
    with pytest.raises(training.TrainingError, match="nll on the validation set"):
        training.fit(
            side_by_side(STARTS, evaluate=functools.partial(evaluate, True)), CONFIG, optimizer=rates()
        )


@pytest.mark.parametrize("stop_at", [3, 7])
def test_models_side_by_side_resume_to_the_same_bits(tmp_path, stop_at):
    assert_resumes(side_by_side(STARTS), CONFIG, stop_at, tmp_path, rates())


def test_a_task_whose_metric_has_no_axis_of_models_is_refused():
    with pytest.raises(training.TrainingError, match="models=None"):
        training.fit(side_by_side(STARTS, models=None), CONFIG, optimizer=rates())


def test_the_spread_of_figures_is_mean_deviation_and_range():
    figures = mapped.spread({"test_nll": np.array([1.0, 2.0, 6.0])})
    assert figures == {
        "test_nll": 3.0,
        "test_nll_std": pytest.approx(7**0.5),
        "test_nll_min": 1.0,
        "test_nll_max": 6.0,
    }
    assert "test_nll_std" not in mapped.spread({"test_nll": np.array([1.0])})
    record = SimpleNamespace(metrics=figures)
    assert spread_of(record, "test_nll", 1) == "3.0 (1.0 to 6.0)"
    assert spread_of(record, "valid_nll") == ""
