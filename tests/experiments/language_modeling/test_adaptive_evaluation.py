"""The neural cache and dynamic evaluation: their definitions, written out; no word is seen too soon."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.language_modeling import adaptive_evaluation as adaptive
from experiments.language_modeling.model import Architecture, LanguageModel, initial_state, window_loss
from lstmjax.nnx import functional
from lstmjax.training.streams import TokenStream

TOKENS = np.array([0, 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6], np.int32)


@pytest.fixture(scope="module", name="model")
def _model():
    return functional(functools.partial(LanguageModel, Architecture(10, 6, 2, init_scale=0.5)))


@pytest.fixture(scope="module", name="params")
def _params(model):
    return model.init(jax.random.key(0))


@pytest.fixture(scope="module", name="reading")
def _reading(model, params):
    return adaptive.read(model, params, TOKENS, window=7)


def test_a_reading_is_that_of_the_whole_text(model, params, reading):
    module = model.bind(params)
    _, outputs = module.outputs(TOKENS[None, :-1], module.initial_state((1,)))
    probabilities = jax.nn.softmax(module.logits(outputs[-1][0]))
    np.testing.assert_array_equal(reading.targets, TOKENS[1:])
    np.testing.assert_allclose(reading.outputs, outputs[-1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(reading.probabilities, probabilities[np.arange(23), TOKENS[1:]], rtol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("block", [3, 256])
def test_the_cache_has_the_probabilities_of_its_definition(reading, size, block):
    expected = np.zeros(23)
    for place in range(23):
        before = range(max(place - size, 0), place)
        weights = {i: math.exp(1.5 * float(reading.outputs[place] @ reading.outputs[i])) for i in before}
        right = sum(weight for i, weight in weights.items() if TOKENS[i + 1] == TOKENS[place + 1])
        expected[place] = right / sum(weights.values()) if weights else 0
    found = adaptive.cache_probabilities(reading, size, theta=1.5, block=block)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_model_and_cache_together_are_a_distribution(reading):
    """Over all words that might have come at a place, the probabilities add up to one."""
    total, last = 0.0, len(reading.targets) - 1
    for word in range(10):
        targets = reading.targets.copy()
        targets[last] = word
        total += adaptive.cache_probabilities(reading._replace(targets=targets), 8, theta=1.0)[last]
    assert total == pytest.approx(1)
    mixed = adaptive.mix(np.array([0.5, 0.25]), np.array([0.0, 1.0]), weight=0.2)
    np.testing.assert_allclose(mixed, [0.5, 0.4])


def test_what_is_chosen_is_the_best(reading):
    best = adaptive.choose(reading, 10, thetas=(0.1, 1.0), weights=(0.1, 0.5))
    for theta in (0.1, 1.0):
        cache = adaptive.cache_probabilities(reading, 10, theta)
        for weight in (0.1, 0.5):
            assert best.perplexity <= adaptive.perplexity(adaptive.mix(reading.probabilities, cache, weight))
    assert (best.theta, best.weight) in {(0.1, 0.1), (0.1, 0.5), (1.0, 0.1), (1.0, 0.5)}


def dynamic(model, params, tokens, squares, rate, decay, window=4):
    loss, windows = (
        functools.partial(window_loss, model),
        TokenStream(tokens, 1, window).once(),
    )
    state = initial_state(model, 1)
    return adaptive.evaluate_dynamically(loss, params, state, windows, squares, rate, decay)


def test_dynamic_evaluation_is_its_definition(model, params, reading):
    ones = jax.tree.map(jnp.ones_like, params)
    assert dynamic(model, params, TOKENS, ones, 0.0, 0.0) == pytest.approx(
        adaptive.perplexity(reading.probabilities), rel=1e-5
    )
    squares = jax.tree.map(lambda leaf: jnp.abs(leaf) * 0.01, params)
    roots = jax.tree.map(jnp.sqrt, squares)
    average = np.mean(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(roots)]))
    now, state, total = params, initial_state(model, 1), 0.0
    for window in TokenStream(TOKENS, 1, 4).once():

        def mean(w, state=state, window=window):
            after, nll = window_loss(model, w, state, window)
            return nll.compute(), (after, nll.total)

        (_, (state, nll)), slopes = jax.value_and_grad(mean, has_aux=True)(now)
        total += float(nll)
        now = jax.tree.map(
            lambda w, g, r, w0: w - 0.01 * g / (r + 1e-5) + np.minimum(0.3 * r / average, 1) * (w0 - w),
            *(now, slopes, roots, params),
        )
    found = dynamic(model, params, TOKENS, squares, 0.01, 0.3)
    assert found == pytest.approx(math.exp(total / 23), rel=1e-4)


def test_dynamic_evaluation_learns_a_text_that_repeats_itself(model, params):
    repeated = np.tile(np.array([1, 7, 2, 5], np.int32), 30)
    loss, windows = functools.partial(window_loss, model), TokenStream(repeated, 2, 4)
    batches = [windows.at(0, step) for step in range(5)]
    squares = adaptive.mean_squares(loss, params, initial_state(model, 2), batches)
    plain = dynamic(model, params, repeated, squares, 0.0, 0.0)
    assert dynamic(model, params, repeated, squares, 0.03, 0.0) < 0.7 * plain
