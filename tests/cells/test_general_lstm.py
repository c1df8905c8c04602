"""The family of the LSTM and the newer cells: what differs in a formula, published sizes, and mistakes.

What all cells promise is in test_unroll.py; structurally different ones go through all of it.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import (
    SHAPES,
    VARIANTS,
    Gradients,
    arguments,
    assert_close,
    expect,
    expect_loss,
    random_like,
    random_problem,
    run,
)
from flax import nnx

import lstmjax
from lstmjax import backends
from lstmjax.backends import native
from lstmjax.cells.general_lstm import ACTIVATIONS
from lstmjax.nnx import LSTM, Recurrent

pytestmark = pytest.mark.usefixtures("exact")

KEY = jax.random.key(0)


@pytest.mark.parametrize(("name", "way"), [(name, way) for name in VARIANTS for way in VARIANTS[name].ways])
def test_variants_equal_the_reference_in_values_and_gradients(name: str, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=1)
    result, gradients = run(name, problem, way)
    assert_close(result, expect(name, problem))
    at, loss, random = arguments(problem), expect_loss(name, problem), np.random.default_rng(0)
    for part in Gradients._fields:
        direction = jax.tree.map(np.zeros_like, at)._replace(**{part: random_like(getattr(at, part), random)})
        assert_close(reference.inner(gradients, direction), reference.derivative(loss, at, direction))


# The usual LSTM is the usual LSTM, however it is asked for.


def test_without_options_it_is_the_usual_lstm() -> None:
    explicit = lstmjax.lstm(
        2, 3, forget_gate=True, projection=None, candidate_activation=jnp.tanh, gate_activation="sigmoid"
    )
    assert type(explicit) is lstmjax.LSTM
    assert explicit == lstmjax.lstm(2, 3)
    chrono = lstmjax.initializers.chrono(9.0)
    cell = lstmjax.lstm(2, 3, forget_bias=chrono, dtype="bfloat16")
    assert cell == lstmjax.LSTM(2, 3, forget_bias=chrono, dtype="bfloat16")


@pytest.mark.parametrize("name", VARIANTS)
def test_no_variant_is_the_usual_lstm(name: str) -> None:
    assert type(VARIANTS[name].make(jnp.float32)) is not lstmjax.LSTM


def test_a_variant_with_nothing_special_equals_the_usual_lstm() -> None:
    usual, general = lstmjax.lstm(2, 3, dtype="float64"), lstmjax.GeneralLSTM(2, 3, dtype="float64")
    params, inputs = usual.init(KEY), jax.random.normal(KEY, (4, 5, 2), jnp.float64)
    same = lstmjax.GeneralLSTMParams(*params, None, None, None, None)
    state, outputs = lstmjax.unroll(usual, params, inputs)
    general_state, general_outputs = lstmjax.unroll(general, same, inputs)
    assert_close(general_outputs, outputs, 1e-13)
    assert_close(tuple(general_state[:2]), tuple(state), 1e-13)


def test_a_cell_prints_its_options() -> None:
    cell = lstmjax.lstm(2, 3, forget_gate=False, gate_activation="hard_sigmoid")
    options = "forget_gate=False, gate_activation='hard_sigmoid'"
    assert repr(cell) == f"GeneralLSTM(features=2, hidden=3, {options})"


def test_equal_options_make_equal_cells() -> None:
    make = functools.partial(lstmjax.lstm, 2, 3, peepholes=True)
    assert make(candidate_activation=jax.nn.relu) == make(candidate_activation="relu")
    assert make(candidate_activation=jax.nn.relu) != make()


def _biases(key: Any, hidden: int, dtype: Any) -> Any:
    return jnp.arange(4 * hidden, dtype=dtype).reshape(4, hidden)


@pytest.mark.parametrize(
    ("options", "bias"),
    [
        ({"peepholes": True}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"forget_gate": False}, [0, 1, 4, 5, 6, 7]),
        ({"input_gate": False}, [2, 3, 4, 5, 6, 7]),
        ({"output_gate": False}, [0, 1, 2, 3, 4, 5]),
        ({"coupled": True}, [-2, -3, 4, 5, 6, 7]),  # 1 - sigmoid(-b) is sigmoid(b)
    ],
)
def test_each_gate_that_is_there_starts_with_its_bias(options: Any, bias: list[int]) -> None:
    cell = lstmjax.lstm(1, 2, forget_bias=_biases, **options)
    np.testing.assert_array_equal(cell.init(KEY).bias, bias)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("hard_sigmoid", [0.0, 1 / 3, 2 / 3, 1.0]),
        ("identity", [-5.0, -1.0, 1.0, 5.0]),
        ("relu", [0.0, 0.0, 1.0, 5.0]),
        ("sigmoid", [1 / (1 + np.exp(-x)) for x in (-5, -1, 1, 5)]),
        ("softsign", [-5 / 6, -1 / 2, 1 / 2, 5 / 6]),
        ("tanh", [np.tanh(x) for x in (-5, -1, 1, 5)]),
    ],
)
def test_activations_by_name(name: str, values: list[float]) -> None:
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.array([-5.0, -1.0, 1.0, 5.0])), values, rtol=1e-12)


# Published sizes.


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("inputs", "weights"), [(4, 100_881), (25, 117_681)])
def test_sizes_of_graves_et_al_2009(inputs: int, weights: int) -> None:
    """Two layers of 100 peephole LSTM blocks and a layer of 81 outputs over both, with biases."""
    cell = lstmjax.lstm(inputs, 100, peepholes=True)
    both = lstmjax.bidirectional(cell, cell)
    outputs = (both.output_size + 1) * 81
    assert _count(jax.eval_shape(both.init, KEY)) + outputs == weights


def test_size_of_gers_et_al_2000() -> None:
    """Continual Reber strings: 7 inputs, 4 blocks of 2 cells, 7 outputs that also see the inputs.

    The two cells of a block share their gates, which here each have their own: so of the gates' columns
    half are counted. Cells have no bias there.
    """
    params = jax.eval_shape(lstmjax.lstm(7, 8).init, KEY)
    one_column = params.kernel.shape[0] + params.recurrent_kernel.shape[0]
    cells = 8
    gates = 3 * cells // 2
    assert params.bias.shape == (4 * cells,)
    outputs = (cells + 7 + 1) * 7
    assert cells * one_column + gates * (one_column + 1) + outputs == 424


def test_size_of_sak_et_al_2014() -> None:
    """Their count for 40 inputs, 2048 cells and 512 projected units: peepholes are in it, biases are not."""
    inputs, cells, projected = 40, 2048, 512
    params = jax.eval_shape(lstmjax.lstm(inputs, cells, peepholes=True, projection=projected).init, KEY)
    weights = cells * projected * 4 + inputs * cells * 4 + cells * projected + cells * 3
    assert _count(params._replace(bias=None)) == weights


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ("LSTM", 4 * (3 * 4 + 4 * 4 + 4)),
        ("LSTM of 1997", 3 * (3 * 4 + 4 * 4 + 4)),
        ("CIFG", 3 * (3 * 4 + 4 * 4 + 4)),
        ("FGR", 4 * (3 * 4 + 4 * 4 + 4) + 9 * 4 * 4),
        ("layer-normalized LSTM", 4 * (3 * 4 + 4 * 4 + 4) + 2 * (16 + 16 + 4)),
        ("multiplicative LSTM", 4 * (3 * 4 + 4 * 4 + 4) + 3 * 4 + 4 * 4),
        ("GRU", 3 * (3 * 4 + 4 * 4 + 4) + 4),
        ("GRU of 2014", 3 * (3 * 4 + 4 * 4 + 4)),
        ("minLSTM", 3 * (3 * 4 + 4)),
        ("minGRU", 2 * (3 * 4 + 4)),
        ("sLSTM", 4 * (3 * 4 + 4 * 4 + 4)),
        ("mLSTM", 4 * (3 * 4 + 4) + 2 * (3 + 1)),
    ],
)
def test_sizes_by_the_equations(entry: str, size: int) -> None:
    assert _count(jax.eval_shape(lstmjax.CELLS[entry].make(3, 4).init, KEY)) == size


# The table of cells.


@pytest.mark.parametrize("entry", lstmjax.CELLS.values(), ids=lstmjax.CELLS)
def test_every_cell_of_the_table_runs_in_bfloat16_with_parameters_of_any_dtype(entry: Any) -> None:
    cell = entry.make(*[4] * len(entry.sizes), dtype="bfloat16", param_dtype="float16")
    params = jax.eval_shape(cell.init, KEY)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float16"}
    inputs = jax.ShapeDtypeStruct((2, 5, cell.features), jnp.bfloat16)

    def total(params: Any, inputs: Any) -> Any:
        outputs = lstmjax.unroll(cell, params, inputs)[1]
        return outputs.sum(), outputs

    gradients, outputs = jax.eval_shape(jax.grad(total, has_aux=True), params, inputs)
    assert outputs.shape == (2, 5, cell.output_size)
    assert outputs.dtype == jnp.bfloat16
    assert jax.tree.map(lambda leaf: leaf.dtype, gradients) == jax.tree.map(lambda leaf: leaf.dtype, params)


@pytest.mark.parametrize("entry", lstmjax.CELLS.values(), ids=lstmjax.CELLS)
def test_every_cell_of_the_table_says_where_it_is_from(entry: Any) -> None:
    assert entry.function.__name__ in lstmjax.__all__
    assert entry.call.startswith(f"{entry.function.__name__}(")
    assert "Source:" in entry.function.__doc__
    author, *_, year = entry.paper.split()
    assert author in entry.function.__doc__
    assert year in entry.function.__doc__


def test_every_maker_of_a_cell_is_in_the_table() -> None:
    functions = {name: getattr(lstmjax, name) for name in lstmjax.__all__}
    functions = {name: value for name, value in functions.items() if inspect.isfunction(value)}
    parameters = {name: inspect.signature(value).parameters for name, value in functions.items()}
    makers = {name for name, of in parameters.items() if "hidden" in of and "cell" not in of}  # no wrappers
    assert {"lstm", "gru", "conv_lstm"} <= makers
    assert {entry.function.__name__ for entry in lstmjax.CELLS.values()} == makers


def test_modules_hold_variants() -> None:
    module = LSTM(3, 4, peepholes=True, projection=2, dtype="float64", rngs=nnx.Rngs(0))
    assert module(jnp.ones((2, 5, 3)))[1].shape == (2, 5, 2)
    image = Recurrent(lstmjax.conv_lstm(2, 2, 1, 3, dtype="float64"), rngs=nnx.Rngs(0))
    assert image(jnp.ones((2, 5, 4)))[0].hidden.shape == (2, 2, 2, 3)


# All steps at once.


def test_linear_cells_run_at_once_wherever_they_are() -> None:
    cell = lstmjax.stack(
        lstmjax.min_lstm(2, 3, forget_bias=1.0, dtype="float64"),
        lstmjax.residual(lstmjax.min_gru(3, 3, dtype="float64")),
        lstmjax.lstm(3, 2, dtype="float64"),
    )
    params, inputs = cell.init(KEY), jax.random.normal(KEY, (3, 7, 2), jnp.float64)
    run = functools.partial(lstmjax.unroll, cell, params, inputs, lengths=np.array([7, 0, 4]))
    assert_close(run(backend="associative"), run(backend="scan"), 1e-13)
    here = "native" if native.load() is None else "associative"
    assert backends.choose("auto", cell.cells[0], platform="cpu").way == here
    assert backends.choose("auto", cell.cells[0], platform="gpu").way == "associative"
    narrow = lstmjax.min_gru(2, 3, dtype="bfloat16")  # its state is wider than its outputs
    assert backends.choose("auto", narrow, platform="cpu").way == "associative"
    assert backends.choose("associative", cell.cells[2]).way == "scan"
    assert backends.choose("associative", lstmjax.gru(2, 3)).way == "scan"


def test_no_loop_over_time_is_left() -> None:
    cell = lstmjax.min_gru(2, 3)
    params = jax.eval_shape(cell.init, KEY)
    inputs = jax.ShapeDtypeStruct((4, 64, 2), jnp.float32)
    text = {
        way: str(jax.make_jaxpr(functools.partial(lstmjax.unroll, cell, backend=way))(params, inputs))
        for way in ("associative", "scan")
    }
    assert "scan[" in text["scan"]
    assert "scan[" not in text["associative"]


class Doubled(lstmjax.MinGRU):
    """A cell whose step is not what its coefficients say."""

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        state, outputs = super().step(params, state, inputs)
        return state, 2 * outputs


class Slower(lstmjax.MinGRU):
    """A cell whose coefficients are not those of its units."""

    def coefficients(self, params: Any, inputs: Any) -> Any:
        decay, addend = super().coefficients(params, inputs)
        return decay / 2, addend


@pytest.mark.parametrize(("kind", "way"), [(Doubled, "hoisted"), (Slower, "associative")])
def test_a_subclass_with_a_step_of_its_own_keeps_it(kind: type[lstmjax.MinGRU], way: str) -> None:
    assert backends.choose("auto", kind(2, 3)).way == way


def test_gates_that_both_round_to_zero_still_share() -> None:
    """In float32 the sigmoid of -200 is 0, but f / (f + i) is a half."""
    cell = lstmjax.min_lstm(1, 1, dtype="float32")
    params = lstmjax.LinearParams(np.zeros((1, 3), np.float32), np.array([-200, -200, 3.0], np.float32))
    state, _ = cell.step(params, cell.initial_state(), np.zeros(1, np.float32))
    np.testing.assert_allclose(state.cell, [1.5], rtol=1e-6)


# The stabilizer of the xLSTM changes nothing.


def _random(cell: lstmjax.Cell, time: int = 6) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    params = random_like(jax.eval_shape(cell.init, KEY), random)
    return params, random.standard_normal((time, cell.features))


@pytest.mark.parametrize("exponential", [False, True])
def test_an_slstm_equals_its_definition_without_stabilizer(exponential: bool) -> None:
    cell = lstmjax.slstm(2, 3, exponential_forget=exponential, dtype="float64")
    params, inputs = _random(cell)
    c, n, h = np.zeros(3), np.zeros(3), np.zeros(3)
    expected = []
    for x in inputs:
        i, f, z, o = np.split(x @ params.kernel + h @ params.recurrent_kernel[0] + params.bias, 4)
        f = np.exp(f) if exponential else reference.sigmoid(f)
        c, n = f * c + np.exp(i) * np.tanh(z), f * n + np.exp(i)
        h = reference.sigmoid(o) * c / n
        expected.append(h)
    state, outputs = lstmjax.unroll(cell, params, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
    np.testing.assert_allclose(state.normalizer * np.exp(state.stabilizer), n, rtol=1e-12)


@pytest.mark.parametrize("exponential", [False, True])
def test_an_mlstm_equals_its_definition_without_stabilizer(exponential: bool) -> None:
    cell = lstmjax.mlstm(2, 3, exponential_forget=exponential, dtype="float64")
    params, inputs = _random(cell)
    memory, n = np.zeros((3, 3)), np.zeros(3)
    expected = []
    for x in inputs:
        q, k, v, o = np.split(x @ params.kernel, 4)
        bias_q, bias_k, bias_v, bias_o = np.split(params.bias, 4)
        q, k, v, o = q + bias_q, k / np.sqrt(3) + bias_k, v + bias_v, o + bias_o
        i, f = x @ params.gate_kernel + params.gate_bias
        f = np.exp(f) if exponential else reference.sigmoid(f)
        memory, n = f * memory + np.exp(i) * np.outer(v, k), f * n + np.exp(i) * k
        expected.append(reference.sigmoid(o) * (memory @ q) / max(abs(n @ q), 1))
    state, outputs = lstmjax.unroll(cell, params, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
    np.testing.assert_allclose(state.normalizer[0] * np.exp(state.stabilizer), n, rtol=1e-12)


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_an_slstm_takes_gates_beyond_any_number(shift: float) -> None:
    """All weights times exp(1000) are the same mean."""
    cell = lstmjax.slstm(2, 4, heads=2, dtype="float64")
    params, inputs = _random(cell)
    shifted = params._replace(bias=params.bias + shift * (np.arange(16) < 4))
    expected = lstmjax.unroll(cell, params, inputs)[1]
    np.testing.assert_allclose(lstmjax.unroll(cell, shifted, inputs)[1], expected, rtol=1e-9)


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_an_mlstm_takes_gates_beyond_any_number(shift: float) -> None:
    cell = lstmjax.mlstm(2, 4, heads=2, dtype="float64")
    params, inputs = _random(cell)
    shifted = params._replace(gate_bias=params.gate_bias + shift * (np.arange(4) < 2))

    def total(params: Any) -> Any:
        return lstmjax.unroll(cell, params, inputs)[1].sum()

    value, gradient = jax.value_and_grad(total)(shifted)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (value == 0) == (shift < 0)  # nothing written, or everything


# Mistakes.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupled": True, "forget_gate": False}, "coupled=True needs both gates"),
        ({"coupled": True, "input_gate": False}, "coupled=True needs both gates"),
        ({"projection": 0}, "lstm: projection must be a positive integer, got 0"),
        ({"candidate_activation": "tanhh"}, "candidate_activation must be one of hard_sigmoid, .*'tanhh'"),
        (
            {"peepholes": True, "forget_gate": False, "input_gate": False, "output_gate": False},
            "need a gate, and there is none",
        ),
    ],
)
def test_options_that_do_not_go_together(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lstmjax.lstm(2, 3, **options)


def test_an_activation_must_be_a_function(unchecked: None) -> None:
    with pytest.raises(TypeError, match="gate_activation must be a name or a function, got 3"):
        lstmjax.lstm(2, 3, gate_activation=3)


@pytest.mark.parametrize("make", [lstmjax.slstm, lstmjax.mlstm])
def test_heads_must_divide_the_hidden_size(make: Any) -> None:
    with pytest.raises(ValueError, match=f"{make.__name__}: hidden must be a multiple of heads, got 4 and 3"):
        make(2, 4, heads=3)
    with pytest.raises(ValueError, match=f"{make.__name__}: heads must be a positive integer, got 0"):
        make(2, 4, heads=0)


@pytest.mark.parametrize(
    "make", [lstmjax.multiplicative_lstm, lstmjax.min_lstm, lstmjax.min_gru, lstmjax.slstm, lstmjax.mlstm]
)
def test_a_wrong_size_names_the_function_that_was_called(make: Any) -> None:
    with pytest.raises(ValueError, match=f"^{make.__name__}: hidden must be a positive integer, got 0"):
        make(2, 0)


def test_a_wrong_size_of_an_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"^conv_lstm: width must be a positive integer, got 0"):
        lstmjax.conv_lstm(2, 0, 1, 1)
    cell = lstmjax.conv_lstm(2, 3, 1, 1)
    with pytest.raises(ValueError, match="with 6 features"):
        lstmjax.unroll(cell, cell.init(KEY), jnp.ones((4, 2, 3), jnp.float32))
