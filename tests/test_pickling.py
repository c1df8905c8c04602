"""Copies between processes: cells, layers, attentions, modules and streams go through pickle as equals."""

import concurrent.futures
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from cases import CELLS, Sampled, assert_equal
from flax import nnx
from jax.nn import initializers as of_jax

import lstmjax
from lstmjax import attention, initializers, linen
from lstmjax.nnx import LSTM, Bidirectional, LSTMCell, Recurrent

pytestmark = pytest.mark.usefixtures("unchecked")


def _case(name: str) -> Any:
    cell = CELLS[name].make("float32")
    return cell.cell if isinstance(cell, Sampled) else cell


def _kind(name: str) -> lstmjax.Cell:
    entry = lstmjax.CELLS[name]
    return entry.make(*[2] * len(entry.sizes))


def _cell(**options: Any) -> lstmjax.Cell:
    return lstmjax.lstm(2, 3, **options)


PARTS: dict[str, Callable[[], Any]] = {
    **{f"case {name}": (lambda name=name: _case(name)) for name in CELLS},
    **{f"kind {name}": (lambda name=name: _kind(name)) for name in lstmjax.CELLS},
    "layers": lambda: lstmjax.layers(lstmjax.bidirectional(_cell(), _cell()), lstmjax.gru(6, 2)),
    "activation": lambda: _cell(candidate_activation="softsign", gate_activation=jax.nn.hard_sigmoid),
    "function": lambda: _cell(output_activation=jax.nn.gelu),
    "uniform": lambda: _cell(kernel_init=initializers.uniform(0.1), forget_bias=initializers.chrono(9.0)),
    "forget_gate_bias": lambda: _cell(forget_bias=initializers.forget_gate_bias(2.0)),
    "of jax": lambda: _cell(kernel_init=jax.nn.initializers.glorot_uniform()),
    "bahdanau": lambda: attention.bahdanau(3, 4, 5),
    "luong": lambda: attention.luong(3, 4),
    "window": lambda: attention.graves_window(3, 4, 5),
    "location": lambda: attention.location_sensitive(3, 4, 5, width=3, filters=2),
    "linen lstm": lambda: linen.LSTM(3, {"forget_bias": 2.0}),
    "linen cell": lambda: linen.LSTMCell(3, {"kernel_init": initializers.uniform(0.1)}),
    "linen recurrent": lambda: linen.Recurrent(lstmjax.gru(2, 3)),
    "linen bidirectional": lambda: linen.Bidirectional(_cell(), _cell()),
}
"""What is compared by value."""


@pytest.mark.parametrize("name", PARTS)
def test_a_copy_and_what_is_built_anew_are_equal(name: str) -> None:
    part = PARTS[name]()
    for other in (pickle.loads(pickle.dumps(part)), PARTS[name]()):
        assert other == part
        assert hash(other) == hash(part)
        assert repr(other) == repr(part)
        assert "0x" not in repr(other) or name == "function"


MODULES: dict[str, Callable[[], nnx.Module]] = {
    "lstm": lambda: LSTM(2, 3, rngs=nnx.Rngs(0), forget_bias=2.0),
    "recurrent": lambda: Recurrent(PARTS["layers"](), rngs=nnx.Rngs(0)),
    "bidirectional": lambda: Bidirectional(_cell(), lstmjax.gru(2, 3), rngs=nnx.Rngs(0)),
    "cell": lambda: LSTMCell(2, 3, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", MODULES)
def test_nnx_modules_are_copied_with_their_parameters(name: str) -> None:
    module = MODULES[name]()
    copy = pickle.loads(pickle.dumps(module))
    graphs, states = zip(nnx.split(module), nnx.split(copy), strict=True)
    assert graphs[0] == graphs[1]
    assert_equal(*map(nnx.to_pure_dict, states))


def run(copied: Any, inputs: Any) -> Any:
    """What another process does with the copies it is given."""
    stream, module, variables = copied
    return [stream(row) for row in inputs], module.apply(variables, inputs)[1]


@pytest.mark.full
def test_another_process_goes_on_with_a_stream_and_a_module() -> None:
    cell = lstmjax.dropout(PARTS["uniform"](), outputs=0.5)
    stream = lstmjax.Stream(cell, cell.init(jax.random.key(0)))
    stream(jnp.ones(2))
    module, inputs = linen.Recurrent(cell), jax.random.normal(jax.random.key(1), (3, 2))
    copied = (stream, module, module.init(jax.random.key(0), inputs))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        results = pool.submit(run, copied, inputs).result()
    assert_equal(results, run(copied, inputs))


def equal(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two initializers make equal cells."""
    return _cell(kernel_init=one) == _cell(kernel_init=other)


def test_initializers_of_jax_are_equal_if_their_arguments_are() -> None:
    assert equal(of_jax.he_normal(), of_jax.he_normal())
    assert equal(of_jax.variance_scaling(2.0, "fan_in", "truncated_normal"), of_jax.he_normal())
    assert not equal(of_jax.he_normal(), of_jax.lecun_normal())
    assert not equal(of_jax.normal(0.1), of_jax.normal(0.2))
    assert not equal(of_jax.constant(jnp.ones(())), of_jax.constant(jnp.ones(()))), "arrays are not compared"
    assert equal(of_jax.zeros, of_jax.zeros)
    assert not equal(lambda *of: jnp.zeros(*of[1:]), lambda *of: jnp.ones(*of[1:]))
    kernel_init = _cell(kernel_init=of_jax.he_normal()).kernel_init
    assert repr(kernel_init) == (
        "jax.nn.initializers.variance_scaling(scale=2.0, mode='fan_in', distribution='truncated_normal')"
    )
    of = (jax.random.key(0), (3, 4), jnp.float32)
    assert_equal(kernel_init(*of), of_jax.he_normal()(*of))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("normal", (0.1,)),
        ("uniform", (0.1,)),
        ("truncated_normal", (0.1,)),
        ("orthogonal", (0.5,)),
        ("delta_orthogonal", ()),
        ("constant", (0.5,)),
        ("glorot_normal", ()),
    ],
)
def test_all_initializers_of_jax_are_compared(name: str, arguments: Any) -> None:
    make = getattr(of_jax, name)
    cell = _cell(kernel_init=make(*arguments))
    assert cell == _cell(kernel_init=make(*arguments))
    assert pickle.loads(pickle.dumps(cell)) == cell
