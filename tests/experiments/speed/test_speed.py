"""The timing experiment, and guards against losing speed: by ratio, and by what is compiled."""

import importlib.util
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.command_line import main
from experiments.speed import EXPERIMENT, config, family, page, peers, run
from experiments.speed.config import Config
from experiments.speed.measurements import (
    _bind,
    check_equal,
    compare,
    interval,
    means,
    take_turns,
    value_and_gradient,
)
from experiments.speed.peers import Layer
from lstmjax.backends import native
from lstmjax.training import ConfigError
from lstmjax.training.record import Record, Run, keep, load_records

needs_native = pytest.mark.skipif(native.load() is not None, reason=f"no native code: {native.load()}")
GUARDED = (Layer(20, 35, 200, 200), Layer(16, 64, 128, 128), Layer(64, 50, 64, 64), Layer(1, 300, 64, 64))


@pytest.mark.parametrize("variant", [{}, {"depth": 2}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("name", [*peers.JAX_PEERS, "torch"])
def test_every_peer_computes_what_we_do(name, variant, monkeypatch):
    package = {"linen": "flax", "nnx": "flax"}.get(name, name)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    layer = Layer(3, 5, 4, 6, **variant)
    keys = jax.random.split(jax.random.key(0), 3)
    params, inputs = layer.init(keys[0]), jax.random.normal(keys[1], (3, 5, 4))
    weights = jax.random.normal(keys[2], (3, 5, layer.output_size))
    ours = peers.ours(layer, "scan")
    if name == "torch":
        torch = peers.Torch(layer, params, inputs, weights)
        expected = value_and_gradient(ours)(ours.convert(params), inputs, weights)[1][1]
        assert jnp.allclose(torch.gradient().numpy(), expected, atol=1e-5)
    else:
        check_equal({"scan": ours, name: peers.JAX_PEERS[name](layer)}, params, inputs, weights)


@pytest.mark.parametrize("kind", ["LSTM, resets", "GRU, resets"])
def test_cells_of_memax_compute_what_ours_do(kind):
    pytest.importorskip("memax", reason="memax is not installed")
    made = family._contestants(Config(), family.KINDS[kind], 3, 40, 5, 5)
    assert {"auto", "scan", "memax"} == set(made)


def test_the_interval_of_a_median_holds_for_skewed_values():
    """Of nine values it must hold in 96 % of samples; of five no interval of order statistics is of 95 %."""
    samples = np.random.default_rng(0).exponential(size=(4000, 9))
    found = [interval(sample.tolist()) for sample in samples]
    held = np.mean([low <= np.log(2) <= high for low, high in found])
    assert 0.95 < held < 0.97
    assert interval([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 5.0)


def test_the_share_counts_all_products():
    layer = Layer(3, 5, 4, 6, depth=2)
    assert layer.gradient_flops == 3 * 2 * 3 * 5 * (4 * 24 + 6 * 24 + 2 * 6 * 24)
    assert Layer(3, 5, 4, 6, bidirectional=True).gradient_flops == 2 * Layer(3, 5, 4, 6).gradient_flops


def test_unequal_layers_are_not_timed():
    layer = Layer(3, 5, 4, 6)
    ours = peers.ours(layer, "scan")
    wrong = ours._replace(apply=lambda params, inputs: 1.01 * ours.apply(params, inputs))
    arrays = jnp.ones((3, 5, 4)), jnp.ones((3, 5, 6))
    with pytest.raises(AssertionError, match="wrong"):
        check_equal({"scan": ours, "wrong": wrong}, layer.init(jax.random.key(0)), *arrays)


def test_turns_are_fair():
    order = []
    functions = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = take_turns(functions, rounds=4, warm_up=1)
    rounds = [tuple(order[i : i + 3]) for i in range(3, 15, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 1
    assert [len(times) for times in seconds.values()] == [4, 4, 4]


def test_means_are_geometric_and_best_is_the_quickest():
    figures = {
        f"grad_ratio_{layer}_{name}": value
        for layer, values in {"x": (0.5, 0.25, 2.0), "y": (2.0, 0.25, 0.5)}.items()
        for name, value in zip(("linen", "nnx", "torch"), values, strict=True)
    }
    found = means(figures, ["x", "y"])
    assert found["grad_ratio_linen"] == pytest.approx(1.0)
    assert found["grad_ratio_best_flax"] == pytest.approx(1.0)
    assert found["grad_worst_torch"] == 2.0


def test_the_whole_path(tmp_path, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # what tests run under stays as it is
    run = main("speed", EXPERIMENT, ["--quick", "--runs", str(tmp_path / "runs"), "--rivals", "linen"])
    keep(run.path, "cpu-grid", tmp_path / "results")
    (record,) = load_records(tmp_path / "results")
    assert record.file == Path("speed", "cpu-grid.json")
    shapes = ("4x10x16x16", "4x10x16x16-depth2")
    for name, value in zip(shapes, (0.25, 1.0), strict=True):
        ratio, times = (record.metrics[f"grad_{kind}_{name}_linen"] for kind in ("ratio", "ms"))
        of_medians = record.metrics[f"grad_ms_{name}_auto"] / times
        assert 1 / 3 < ratio / of_medians < 3, "two rounds, beside other work"
        record.metrics[f"grad_ratio_{name}_linen"] = value
    assert {*shapes} == {
        found[1] for key in record.metrics if (found := re.match(r"grad_ms_(.+)_linen", key))
    }
    assert record.metrics["grad_low_4x10x16x16_linen"] <= record.metrics["grad_high_4x10x16x16_linen"]
    text = page.page([record])
    assert "| flax.linen.RNN | 0.50 | 0.50 | 1.00, 4x10x16x16-depth2 |" in text
    assert "flax.linen.RNN" in text
    assert re.search(r"\| 4x10x16x16 \| \d", text)
    assert "flax.linen.RNN" in page.readme([record])


def test_means_are_of_all_shapes_and_one_leaves_out_batch_1():
    ratios = {"1x9x4x4": 0.1, "8x9x4x4": 0.4, "8x9x4x4-bidirectional": 0.9}
    metrics = {f"grad_ratio_{shape}_torch": ratio for shape, ratio in ratios.items()}
    metrics |= {f"grad_ratio_{shape}_keras": 0.5 for shape in ratios} | {"grad_ratio_torch": 77.0}
    mean, batched = (0.1 * 0.4 * 0.9) ** (1 / 3), (0.4 * 0.9) ** (1 / 2)
    record = Record("speed", "cpu-grid", "", {}, 0, metrics, "cpu", 60.0, "c", {"jax": "1", "torch": "2"})
    assert f"| torch.nn.LSTM | {mean:.2f} | {batched:.2f} | 0.90, 8x9x4x4-bidirectional |" in page.readme(
        [record]
    )
    assert "jax 1, torch 2; not recorded: keras" in page._versions(record)


def test_every_rival_has_a_column():
    metrics = {f"family_ratio_4x10x16x16-GRU_{name}": 0.5 for name in config.RIVALS}
    assert "| cell | " + " | ".join(config.RIVALS) + " |" in page._family(metrics)


def test_unknown_rivals_and_resuming_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no peer \\['mxnet'\\]"):
        Config(rivals=("mxnet",))
    with pytest.raises(ConfigError, match="no layer \\['1x1'\\]"):
        Config(layers=("1x1",))
    earlier = Run.create(tmp_path, "speed", {}, 0, "")
    with pytest.raises(ConfigError, match="cannot be resumed"):
        run(Config(resume=earlier.path), earlier)


def compiled_gradient(layer):
    peer = peers.ours(layer, "auto")
    params = peer.convert(layer.init(jax.random.key(0)))
    inputs = jnp.zeros((layer.batch, layer.time, layer.features))
    weights = jnp.zeros((layer.batch, layer.time, layer.output_size))
    return jax.jit(value_and_gradient(peer)).lower(params, inputs, weights).compile()


@pytest.mark.usefixtures("optimized")
@needs_native
@pytest.mark.parametrize("layer", GUARDED, ids=str)
def test_the_compiled_gradient_moves_no_large_array(layer):
    """What cost time before: copying or transposing the gradients of the gates of all steps."""
    text = compiled_gradient(layer).as_text()
    size = layer.batch * layer.time
    moved = []
    for line in text[text.index("\nENTRY") :].splitlines():
        name = re.match(r"\s*(?:ROOT )?%([\w.-]*(?:copy|transpose)[\w.-]*) = f32\[([\d,]*)\]", line)
        if name and product(name[2]) >= 4 * size * layer.hidden:
            moved.append(name[1])
    assert not moved
    assert "while" not in text


def product(dimensions):
    return math.prod(map(int, filter(None, dimensions.split(","))))


@pytest.mark.usefixtures("optimized")
@needs_native
@pytest.mark.parametrize("layer", GUARDED, ids=str)
def test_the_gradient_needs_no_more_memory_than_it_did(layer):
    """In arrays [batch, time, hidden]: gates, cell, hidden, outputs and what becomes of them.

    At widths for which inputs are transposed first, one such array more.
    """
    unit, limit = layer.batch * layer.time * layer.hidden * 4, 10.5 + (layer.hidden % 128 == 0)
    assert compiled_gradient(layer).memory_analysis().temp_size_in_bytes < limit * unit


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("layer", GUARDED, ids=str)
def test_the_gradient_is_quicker_than_a_scan(layer):
    """By ratio in turns, since seconds mean nothing on a shared machine."""
    keys = jax.random.split(jax.random.key(0), 3)
    params, inputs = (
        layer.init(keys[0]),
        jax.random.normal(keys[1], (layer.batch, layer.time, layer.features)),
    )
    weights = jax.random.normal(keys[2], (layer.batch, layer.time, layer.hidden))
    functions = {}
    for name in ("auto", "scan"):
        peer = peers.ours(layer, name)
        compiled = jax.jit(value_and_gradient(peer))
        functions[name] = _bind(compiled, peer.convert(params), inputs, weights)
    figures = compare("grad", "guard", take_turns(functions, 21))
    assert figures["grad_ratio_guard_scan"] < 0.85
