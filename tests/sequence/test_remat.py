"""Sequences in segments: less memory; that results are the same is tested in test_unroll.py."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import lstmjax
from lstmjax.nnx import Recurrent
from lstmjax.sequence.remat import segment

CELL = lstmjax.lstm(16, 16)


def memory(time, remat, backend):
    """Bytes that a gradient needs beside arguments and results."""

    def loss(params, inputs):
        state, _ = lstmjax.unroll(CELL, params, inputs, backend=backend, remat=remat)
        return jnp.sum(state.hidden**2)

    params = jax.eval_shape(CELL.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((4, time, 16), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(params, inputs).compile().memory_analysis().temp_size_in_bytes


def test_layers_and_modules_pass_it_on():
    layer = lstmjax.bidirectional(CELL, CELL)
    params, inputs = layer.init(jax.random.key(0)), jnp.ones((2, 5, 16))
    with pytest.raises(ValueError, match="remat must be"):
        layer.apply(params, inputs, remat=0)
    with pytest.raises(ValueError, match="remat must be"):
        Recurrent(CELL, rngs=nnx.Rngs(0))(inputs, remat=0)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("backend", ["auto", "fused", "scan"])
def test_memory_grows_as_the_root_of_the_length_beside_one_copy_of_the_inputs(backend):
    times = 1024, 16384
    copies = [4 * time * 16 * 4 for time in times]
    short, long = (memory(time, "sqrt", backend) - copy for time, copy in zip(times, copies, strict=True))
    assert 0 < long < 5 * short  # the root of 16, and what does not grow
    assert memory(times[1], "sqrt", backend) < memory(times[1], None, backend) / 4


@pytest.mark.parametrize(
    ("remat", "time", "expected"),
    [
        ("sqrt", 100, 10),
        ("sqrt", 101, 11),
        ("sqrt", 0, None),
        ("sqrt", 1, None),
        (7, 7, None),
        (6, 7, 6),
        (None, 7, None),
    ],
)
def test_the_number_of_steps_of_a_segment(remat, time, expected):
    assert segment(remat, time) == expected


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("remat", [0, -1, 2.0, True, "root"])
def test_anything_else_is_refused(remat):
    with pytest.raises(ValueError, match="remat must be 'sqrt', a positive number of steps or None"):
        lstmjax.unroll(CELL, CELL.init(jax.random.key(0)), jnp.ones((2, 5, 16)), remat=remat)


@pytest.mark.slow
def test_a_hundred_thousand_steps_train_within_two_gibibytes(tmp_path):
    """In a process of its own, whose peak is measured."""
    code = """
import resource, jax, lstmjax
cell = lstmjax.lstm(128, 128)
params = cell.init(jax.random.key(0))
loss = lambda params, inputs: (lstmjax.unroll(cell, params, inputs, remat="sqrt")[1] ** 2).mean()
jax.block_until_ready(jax.jit(jax.grad(loss))(params, jax.numpy.ones((4, 100_000, 128))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2
