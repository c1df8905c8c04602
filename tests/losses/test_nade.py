"""NADE against the product of conditionals written as loops, and against the enumeration of all vectors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import losses
from lstmjax.losses import nade

VARIABLES, UNITS = 6, 4


@pytest.fixture(name="model")
def _model():
    random = np.random.default_rng(0)
    params = nade.NADEParams(
        jnp.asarray(random.normal(size=(VARIABLES, UNITS)), jnp.float32),
        jnp.asarray(random.normal(size=(VARIABLES, UNITS)), jnp.float32),
    )
    visible = jnp.asarray(random.normal(size=VARIABLES), jnp.float32)
    hidden = jnp.asarray(random.normal(size=UNITS), jnp.float32)
    return params, visible, hidden


def _every_vector():
    return np.array(list(itertools.product([0, 1], repeat=VARIABLES)), np.uint8)


def _loop_logits(params, values, visible, hidden):
    logits = []
    for variable in range(VARIABLES):
        total = np.array(hidden, np.float64)
        for before in range(variable):
            total += values[before] * np.asarray(params.encoder[before], np.float64)
        units = 1 / (1 + np.exp(-total))
        logits.append(float(visible[variable]) + units @ np.asarray(params.decoder[variable], np.float64))
    return np.array(logits)


@functools.partial(jax.jit, static_argnames="max_active")
def _log_likelihoods(model, vectors, **options):
    params, visible, hidden = model
    visible = jnp.broadcast_to(visible, (len(vectors), VARIABLES))
    hidden = jnp.broadcast_to(hidden, (len(vectors), UNITS))
    logits = nade.conditionals(params, vectors, visible, hidden, **options)
    return -losses.bernoulli(logits, vectors)


def test_conditionals_equal_the_loops(model):
    params, visible, hidden = model
    vectors = _every_vector()
    shape = (len(vectors),)
    visible_all, hidden_all = (np.broadcast_to(bias, shape + bias.shape) for bias in (visible, hidden))
    logits = jax.jit(nade.conditionals)(params, vectors, visible_all, hidden_all)
    expected = [_loop_logits(params, values, visible, hidden) for values in vectors]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(nade.conditionals(params, vectors[9], visible, hidden), expected[9], atol=1e-5)


def test_probabilities_of_all_vectors_sum_to_one(model):
    assert np.exp(_log_likelihoods(model, _every_vector())).sum() == pytest.approx(1, abs=1e-5)


def test_max_active_is_exact_where_it_holds_and_nan_where_it_does_not(model):
    vectors = _every_vector()
    few = vectors.sum(-1) <= 2
    exact = np.asarray(_log_likelihoods(model, vectors))
    limited = np.asarray(_log_likelihoods(model, vectors, max_active=2))
    np.testing.assert_allclose(limited[few], exact[few], atol=1e-6)
    assert np.isnan(limited[~few]).all()


def test_gradients_do_not_depend_on_max_active(model):
    few = _every_vector()[_every_vector().sum(-1) <= 3]

    def loss(model, **options):
        return _log_likelihoods(model, few, **options).sum()

    full, limited = (jax.jit(jax.grad(functools.partial(loss, max_active=n)))(model) for n in (None, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), full, limited)


def test_samples_have_the_probabilities_of_the_model(model):
    params, visible, hidden = model
    count = 40_000
    samples = jax.jit(nade.sample)(
        params,
        jax.random.key(0),
        np.broadcast_to(visible, (count, VARIABLES)),
        np.broadcast_to(hidden, (count, UNITS)),
    )
    code = np.asarray(samples, np.int64) @ (2 ** np.arange(VARIABLES)[::-1])
    observed = np.bincount(code, minlength=2**VARIABLES) / count
    expected = np.exp(_log_likelihoods(model, _every_vector()))
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(observed - expected) < 5 * deviation + 1e-4).all()


def test_a_low_temperature_takes_the_likelier_value(model):
    params, visible, hidden = model
    frozen = nade.sample(params, jax.random.key(1), visible, hidden, temperature=1e-6)
    logits = _loop_logits(params, np.asarray(frozen), visible, hidden)
    np.testing.assert_array_equal(np.asarray(frozen), logits > 0)
