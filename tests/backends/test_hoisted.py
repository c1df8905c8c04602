"""Cells of users, written in every way that JAX allows: hoisted, they are what the scan of their step is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from cases import assert_close

import lstmjax


@dataclasses.dataclass(frozen=True, repr=False)
class Tied(lstmjax.Cell):
    """A kernel that multiplies inputs and state, from both sides, and is added, too."""

    features: int = 3
    output_size = 3
    input_dtype = jnp.float64

    def init(self, key):
        kernel, scale = (
            0.4 * jax.random.normal(key, (3, 3), self.input_dtype),
            jnp.array(0.7, self.input_dtype),
        )
        return {"kernel": kernel, "scale": scale, "steps": jnp.array(2)}

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 3), self.input_dtype), jnp.zeros(batch_shape, jnp.int32)

    def step(self, params, state, inputs):
        (hidden, number), kernel = state, params["kernel"]
        left = (kernel @ hidden[..., None])[..., 0]
        right = jnp.einsum("...i,ij->...j", hidden, jnp.tanh(kernel).T)
        seen = jax.jit(lambda x: x @ kernel + kernel[0])(inputs)
        for _ in range(2):
            hidden = jnp.tanh(jax.jit(jnp.add)(hidden * params["scale"] + left, right) + seen * kernel[1])
        hidden = jax.lax.fori_loop(0, 2, lambda _, x: jnp.sin(x + x @ kernel), hidden)
        number = number + params["steps"]
        return (hidden, number), hidden * jnp.asarray(number % 3, self.input_dtype)[..., None]


class Quiet(Tied):
    """Without a product."""

    def step(self, params, state, inputs):
        hidden = jnp.tanh(state[0] * params["scale"] + inputs + params["kernel"][0])
        return (hidden, state[1] + 1), hidden


class Loud(Tied):
    """A step with an effect."""

    def step(self, params, state, inputs):
        jax.debug.callback(lambda: None)
        return super().step(params, state, inputs)


def _loss(cell, way, floats, inputs, params):
    mask = jnp.arange(5) < jnp.array([5, 0, 3])[:, None]
    resets = jnp.zeros((3, 5), bool).at[0, 2].set(True)
    state, outputs = lstmjax.unroll(cell, params | floats, inputs, None, None, resets, mask=mask, backend=way)
    return jnp.sin(2 * outputs).sum() + (state[0] ** 2).sum()


@pytest.mark.parametrize("cell", [Tied(), Quiet(), Loud()], ids=["tied", "quiet", "loud"])
def test_derivatives_are_those_of_the_scan(cell, exact):
    params = cell.init(jax.random.key(0))
    floats = {name: params.pop(name) for name in ("kernel", "scale")}
    inputs = jax.random.normal(jax.random.key(1), (3, 5, 3), jnp.float64)
    tangents = jax.tree.map(jnp.cos, (floats, inputs))

    @functools.partial(jax.jit, static_argnums=0)
    def all_of(way):
        loss = functools.partial(_loss, cell, way, params=params)
        gradient = jax.grad(loss, argnums=(0, 1))
        alone = [jax.grad(loss, argnums=place)(floats, inputs) for place in (0, 1)]
        twice = () if cell == Loud() else jax.jvp(gradient, (floats, inputs), tangents)
        return alone, jax.jvp(loss, (floats, inputs), tangents), twice

    assert_close(all_of("hoisted"), all_of("scan"))


def test_several_models_beside_each_other(exact):
    cell = Tied()
    params = jax.vmap(cell.init)(jax.random.split(jax.random.key(0), 4))
    inputs = jax.random.normal(jax.random.key(1), (3, 5, 3), jnp.float64)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(way):
        def loss(kernel, params):
            return _loss(cell, way, {"kernel": kernel}, inputs, params)

        return jax.vmap(jax.grad(loss))(params["kernel"], params)

    assert_close(gradients("hoisted"), gradients("scan"))
