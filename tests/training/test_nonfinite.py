"""Where a computation first goes wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax.training.nonfinite import locate

CELL = lstmjax.lstm(2, 3)
PARAMS = CELL.init(jax.random.key(0))
INPUTS = np.ones((2, 5, 2), np.float32)


def outputs(params, inputs, backend="scan"):
    return lstmjax.unroll(CELL, params, inputs, backend=backend)[1]


def masked_attention(params, inputs, key):
    """Minus infinity under a mask, random keys and a jitted part, none of which is wrong."""
    scores = jax.jit(outputs)(params, inputs) + jax.random.normal(key, ())
    return jax.nn.softmax(jnp.where(jnp.arange(3) < 2, scores, -jnp.inf)).sum()


def test_nothing_is_found_where_all_is_finite_though_masks_are_not():
    assert locate(jax.value_and_grad(masked_attention), PARAMS, INPUTS, jax.random.key(0)) is None


def test_the_arguments_come_first():
    inputs = INPUTS.copy()
    inputs[1, 3, 0] = np.nan
    place = locate(jax.value_and_grad(masked_attention), PARAMS, inputs, jax.random.key(0))
    assert str(place) == "argument [1], first at index [1, 3, 0]"
    bad = PARAMS._replace(bias=PARAMS.bias.at[7].set(jnp.inf))
    assert str(locate(masked_attention, bad, INPUTS, jax.random.key(0))).startswith("argument [0].bias")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_the_time_step_within_a_scan_is_named(wrap, reverse):
    def roots(values):
        def body(carry, value):
            return carry * value, jnp.sqrt(carry * value)

        return jax.lax.scan(body, jnp.ones(2), values, reverse=reverse)[1].sum()

    values = np.ones((5, 2), np.float32)
    values[3, 1] = -1
    place = locate(jax.value_and_grad(wrap(roots)), values)
    assert place.what.startswith("sqrt float32[2]")
    assert "test_nonfinite.py" in place.what
    assert (place.entry, place.loops) == ((1,), (3,))


def test_an_infinity_is_found_where_nothing_is_nan():
    place = locate(lambda x: jnp.exp(x * 100).sum(), np.ones(3, np.float32))
    assert place.what.startswith("exp float32[3]")


def test_the_gradient_is_searched_too():
    place = locate(jax.grad(lambda x: jnp.sqrt(x).sum()), np.array([4.0, 0.0], np.float32))
    assert place.entry == (1,)


@pytest.mark.parametrize("backend", ["scan", "auto"])
def test_a_network_whose_weights_overflow(backend):
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3e38), PARAMS)
    place = locate(jax.value_and_grad(lambda p, x: outputs(p, x, backend).sum()), params, INPUTS)
    assert place.what.startswith("dot_general")
