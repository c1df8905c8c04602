"""Which way a cell is run; that all ways agree is point 10 of the contract in test_unroll.py."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import lstmjax
from lstmjax import backends
from lstmjax.backends import native
from lstmjax.nnx import Recurrent


def gradient_of(cell, backend, rows=2):
    params = jax.eval_shape(cell.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((rows, 7, cell.features), jnp.float32)

    def loss(params, inputs):
        return lstmjax.unroll(cell, params, inputs, backend=backend)[1].sum()

    return jax.make_jaxpr(jax.grad(loss))(params, inputs)


def products_in_loops(jaxpr, inside=False):
    """How many matrix products a computation has within its loops over time."""
    count = 0
    for equation in jaxpr.eqns:
        loop = inside or equation.primitive.name == "scan"
        count += inside and equation.primitive.name == "dot_general"
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                count += products_in_loops(inner, loop)
    return count


@pytest.mark.parametrize(
    ("cell", "stages"),
    [(lstmjax.lstm(3, 4), 1), (lstmjax.gru(3, 4, reset_after=False), 2)],
    ids=["lstm", "gru"],
)
def test_the_fused_gradient_has_one_product_of_each_stage_in_each_loop(cell, stages):
    assert products_in_loops(gradient_of(cell, "fused").jaxpr) == 2 * stages
    assert products_in_loops(gradient_of(cell, "scan").jaxpr) > 2 * stages


@pytest.mark.parametrize(
    ("cell", "products"),
    [
        (lstmjax.lstm(3, 4, layer_norm=True, projection=2), 2),
        (lstmjax.lstm(3, 4, full_gate_recurrence=True), 2),
    ],
    ids=["projection", "gate recurrence"],
)
def test_only_products_with_the_state_stay_in_the_loops_of_the_hoisted_gradient(cell, products):
    assert products_in_loops(gradient_of(cell, "hoisted").jaxpr) == 2 * products
    assert products_in_loops(gradient_of(cell, "scan").jaxpr) == 4 * products
    few, many = backends.HOISTED_TO, backends.HOISTED_TO + 1
    assert backends.choose("auto", cell, rows=few).way == "hoisted"
    assert backends.choose("auto", cell, rows=many, platform="tpu").way == "hoisted"
    assert products_in_loops(gradient_of(cell, "auto", few).jaxpr) == 2 * products
    if jax.default_backend() == "cpu":
        assert products_in_loops(gradient_of(cell, "auto", many).jaxpr) == 4 * products
        assert lstmjax.explain(cell, (many, 2, 3)).parts[0][1].way == "scan"


@pytest.mark.parametrize(
    "wrap", [lambda cell: cell, lambda cell: lstmjax.stack(lstmjax.residual(cell))], ids=["alone", "wrapped"]
)
@pytest.mark.parametrize(
    ("hidden", "chosen"), [(backends.FUSED_FROM - 1, "scan"), (backends.FUSED_FROM, "fused")]
)
def test_auto_without_native_code_takes_the_fused_gradient_for_large_cells(wrap, hidden, chosen, monkeypatch):
    monkeypatch.setattr(native, "load", lambda: "there is no compiler")
    jax.clear_caches()
    cell = wrap(lstmjax.lstm(hidden, hidden))
    auto, expected = (products_in_loops(gradient_of(cell, name).jaxpr) for name in ("auto", chosen))
    jax.clear_caches()
    assert auto == expected


def test_noise_around_a_cell_and_highways_leave_it_its_fused_gradient():
    cell = lstmjax.highway(lstmjax.dropout(lstmjax.lstm(4, 4), inputs=0.5, outputs=0.5))
    params = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)), (2,))

    def loss(inputs):
        return lstmjax.unroll(cell, params, inputs, backend="fused")[1].sum()

    assert products_in_loops(jax.make_jaxpr(jax.grad(loss))(jnp.ones((2, 7, 4))).jaxpr) == 2
    assert [part for part, _ in lstmjax.explain(cell, (2, 7, 4)).parts] == [lstmjax.lstm(4, 4)]


def test_values_without_a_gradient_are_those_of_the_scan_to_the_bit():
    cell = lstmjax.lstm(3, 4)
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 7, 3))
    one, other = (lstmjax.unroll(cell, params, inputs, backend=name) for name in ("scan", "fused"))
    jax.tree.map(lambda a, b: jnp.array_equal(a, b) or pytest.fail("bits differ"), one, other)


def test_an_unknown_backend_is_named(unchecked):
    cell = lstmjax.lstm(3, 4)
    with pytest.raises(
        ValueError, match=r"backend must be one of auto, scan, hoisted, fused, .*, got 'cuda'"
    ):
        lstmjax.unroll(cell, cell.init(jax.random.key(0)), jnp.ones((2, 7, 3)), backend="cuda")


@dataclasses.dataclass(frozen=True, repr=False)
class Doubled(lstmjax.LSTM):
    """A cell whose step is not that of its parent."""

    def step(self, params, state, inputs):
        state, outputs = super().step(params, state, inputs)
        return state, 2 * outputs


def test_a_subclass_keeps_its_own_step():
    cell = Doubled(backends.FUSED_FROM, backends.FUSED_FROM)
    own, scanned = (products_in_loops(gradient_of(cell, name).jaxpr) for name in ("fused", "hoisted"))
    assert own == scanned


def test_layers_and_modules_pass_the_backend_on(unchecked):
    cell = lstmjax.lstm(3, 4)
    layer = lstmjax.bidirectional(cell, cell)
    with pytest.raises(ValueError, match="backend must be"):
        layer.apply(layer.init(jax.random.key(0)), jnp.ones((2, 7, 3)), backend="cuda")
    for part in (cell, layer):
        with pytest.raises(ValueError, match="backend must be"):
            Recurrent(part, rngs=nnx.Rngs(0))(jnp.ones((2, 7, 3)), backend="cuda")
