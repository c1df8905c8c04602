"""What is said of a run beforehand, against what XLA says of it and what it takes."""

import jax
import jax.numpy as jnp
import pytest

import lstmjax
from lstmjax.backends import native


def xla_flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("cell", [lstmjax.lstm(64, 96), lstmjax.gru(64, 96), lstmjax.elman(64, 96)], ids=str)
def test_operations_are_those_that_xla_counts_within_a_fifth(cell):
    """Counted on a Python loop, since XLA counts the body of its loops once."""
    batch, time = 8, 3
    params = jax.eval_shape(cell.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((batch, time, cell.features), jnp.float32)

    def loop(params, inputs):
        state, total = cell.initial_state((batch,)), 0.0
        for t in range(time):
            state, output = cell.step(params, state, inputs[:, t] * 1.5)
            total += (output**2).sum()
        return total

    explanation = lstmjax.explain(cell, inputs.shape)
    assert explanation.forward.flops == pytest.approx(xla_flops(loop, params, inputs), rel=0.2)
    whole = xla_flops(jax.value_and_grad(loop, argnums=(0, 1)), params, inputs)
    assert explanation.gradient.flops == pytest.approx(whole, rel=0.2)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("backend", ["auto", "scan", "fused"])
@pytest.mark.parametrize("remat", [None, "sqrt"])
def test_memory_is_what_xla_sets_aside(backend, remat):
    cell = lstmjax.lstm(32, 32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((4, 100, 32), jnp.float32)

    def loss(params, inputs):
        return lstmjax.unroll(cell, params, inputs, backend=backend, remat=remat)[1].sum()

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(params, inputs).compile()
    said = lstmjax.explain(cell, inputs.shape, backend=backend, remat=remat).gradient.memory
    # Here the outputs, which explain counts among the results, are memory beside results.
    outputs = 4 * 100 * 32 * 4
    assert said == pytest.approx(compiled.memory_analysis().temp_size_in_bytes, rel=0.2, abs=2 * outputs)


def test_it_says_how_each_part_is_run_and_why():
    inner = lstmjax.lstm(8, 8)
    cell = lstmjax.stack(lstmjax.residual(inner), lstmjax.slstm(8, 8))
    explanation = lstmjax.explain(lstmjax.bidirectional(cell, inner), (2, 5, 8), lengths=True, resets=True)
    fast = "native" if native.load() is None else "scan"
    assert [(str(part), choice.way) for part, choice in explanation.parts] == [
        ("LSTM(features=8, hidden=8)", fast),
        ("SLSTM(features=8, hidden=8)", "scan"),
        ("LSTM(features=8, hidden=8)", fast),
    ]
    text = str(explanation)
    assert "SLSTM(features=8, hidden=8): scan (the only way for SLSTM)" in text
    assert "with gradient" in text


def test_it_takes_layers_apart():
    both, cell = lstmjax.bidirectional(lstmjax.lstm(3, 4), lstmjax.gru(3, 4)), lstmjax.elman(8, 2)
    explanation = lstmjax.explain(lstmjax.layers(both, cell), (2, 5, 3))
    assert [part for part, _ in explanation.parts] == [both.forward, both.backward, cell]
    alone = [lstmjax.explain(layer, shape) for layer, shape in ((both, (2, 5, 3)), (cell, (2, 5, 8)))]
    assert explanation.forward.flops == sum(one.forward.flops for one in alone)


def test_segments_are_told():
    text = str(lstmjax.explain(lstmjax.lstm(2, 3), (1, 100, 2), remat="sqrt"))
    assert "in segments of 10 steps" in text


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="with 2 features"):
        lstmjax.explain(lstmjax.lstm(2, 3), (1, 100, 4))
