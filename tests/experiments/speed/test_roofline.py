"""The predicted time of a training step, against what XLA counts and a ring that is walked step by step."""

import jax
import jax.numpy as jnp
import pytest

import lstmjax
from experiments.speed import EXPERIMENT, scaling_page
from experiments.speed.config import DEVICES, PROCESSES, Config
from experiments.speed.peers import Layer
from experiments.speed.roofline import COUNTS, KINDS, Kind, computing, gradient_bytes, pays_until, predict
from experiments.speed.scaling import NUMBERS

KIND = Kind("a device", 1e12, 1e11, 1e10, 1e-6, 2e-6, 8, 1e9, 1e-5, "none")


@pytest.mark.usefixtures("optimized")
def test_flops_are_those_that_xla_counts():
    layer = Layer(64, 1, 48, 32)  # of one step: XLA counts the body of a loop once
    cell = lstmjax.lstm(48, 32)
    params, state = cell.init(jax.random.key(0)), cell.initial_state((64,))

    def loss(params, state, inputs):
        return jnp.square(cell.step(params, state, inputs)[1]).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))
    counted = gradient.lower(params, state, jnp.ones((64, 48))).compile().cost_analysis()["flops"]
    seconds, bound = computing(layer, layer.batch, 1.0, 1e12, 1e-6)  # the others take next to nothing
    assert bound == "rate"
    assert seconds == pytest.approx(counted, rel=0.1)


def test_bytes_of_the_gradient_are_those_of_the_parameters():
    params = lstmjax.lstm(5, 7).init(jax.random.key(0))
    assert gradient_bytes(Layer(1, 1, 5, 7)) == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("devices", [1, 2, 8, 16])
def test_the_sum_goes_around_a_ring(devices):
    layer, seconds = Layer(64, 10, 32, 32), 0.0
    link, hop = (1e10, 1e-6) if devices <= 8 else (1e9, 1e-5)
    for _ in range(2):  # each part becomes a sum, and then gets to all
        for _ in range(devices - 1):
            seconds += gradient_bytes(layer) / devices / link + hop
    assert predict(KIND, layer, devices).communication == pytest.approx(seconds)


def test_what_bounds_a_step():
    assert predict(KIND, Layer(512, 10, 512, 512), 1).bound == "rate"
    assert predict(KIND, Layer(4096, 10, 4, 4), 1).bound == "memory"
    assert predict(KIND, Layer(1, 1000, 8, 8), 1).bound == "latency"


def test_parts_are_added():
    activations, weights = 8 * 10 * (3 + 6 * 5), 4 * 5 * (3 + 5)
    parts = (6 * 8 * 10 * weights / 1e12, 12 * (activations + weights) / 1e11, 2 * 10 * 2e-6)
    assert predict(KIND, Layer(16, 10, 3, 5), 2).compute == pytest.approx(sum(parts))


def test_it_pays_until_a_doubling_saves_too_little():
    for kind in KINDS:
        for layer in scaling_page.ELSEWHERE:
            last, times = 1, {count: predict(kind, layer, count).total for count in COUNTS}
            while 2 * last in times and 2 * last <= layer.batch and times[2 * last] <= 0.9 * times[last]:
                last *= 2
            assert pays_until(kind, layer) == last
    assert pays_until(KIND, Layer(1, 1000, 8, 8)) == 1


def test_tables_are_those_of_the_record():
    metrics = {"scaling_rate_gflops": 100.0, "scaling_bandwidth_gb": 10.0, "scaling_latency_us": 1.0}
    names = [*map(str, DEVICES), *(f"{count}_processes" for count in PROCESSES)]
    metrics |= {f"scaling_step_ms_64x50x64x64_{name}": 7.0 for name in names}
    metrics |= {f"scaling_sum_us_{name}_{numbers}": 2000.0 for name in names for numbers in NUMBERS}
    text = scaling_page.tables(metrics)
    seconds, _ = computing(Layer(64, 50, 64, 64), 64, 100e9, 10e9, 1e-6)
    compute = 1e3 * seconds
    assert f"| 7.0 ({compute:.1f}) | 7.0 ({compute + 2:.1f}) |" in text
    assert all(kind.source in text for kind in KINDS)


def test_devices_are_made_before_jax_starts(monkeypatch):
    asked = {}
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.update({name: value}))
    EXPERIMENT.prepare(Config(scaling=True))
    assert asked["jax_num_cpu_devices"] == max(DEVICES)
