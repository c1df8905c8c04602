"""Functions of units in C++: those of any cell, equal to what JAX computes, or refused with a reason."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax import backends
from lstmjax.backends import codegen, native
from lstmjax.cells.elementwise import ElementwiseCell, Structure, Weights

needs_native = pytest.mark.skipif(native.load() is not None, reason=f"no native code: {native.load()}")


@dataclasses.dataclass(frozen=True, repr=False)
class Mixed(ElementwiseCell):
    """A cell of a user: two columns with products, one with an input alone, and most operations."""

    structure = Structure(columns=4, inputs=3, products=3)

    def init(self, key):
        sizes = ((self.features, 3 * self.hidden), (self.hidden, 3 * self.hidden), (4 * self.hidden,))
        keys = jax.random.split(key, 3)
        return [
            0.5 * jax.random.normal(k, size, self.param_dtype) for k, size in zip(keys, sizes, strict=True)
        ]

    def initial_state(self, batch_shape=()):
        zeros = jnp.zeros((*batch_shape, self.hidden), self.dtype)
        return {"a": zeros, "b": zeros, "c": zeros}

    def weights(self, params):
        return Weights(*params)

    def elementwise(self, totals, vectors, state):
        w, x, y, z = totals
        hidden, slow, most = state
        slow = jnp.where(w > 0, 0.9 * slow + 0.1 * jnp.abs(x), jax.nn.softplus(slow) - jnp.log(2.0))
        most = jnp.clip(jnp.maximum(most, y), -2.0, 0.5) + jnp.exp(-(z**2)) / (1 + jnp.sqrt(1 + w**2))
        after = jax.nn.silu(x + z) * jax.nn.hard_sigmoid(w) - jnp.minimum(slow, most) ** 3 * jnp.sign(y)
        return jnp.tanh(after + 0.1 * hidden), slow, most


def gradient(cell, backend, dtype):
    params, rng = cell.init(jax.random.key(0)), np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(3, 6, cell.features)), dtype)
    resets = jnp.asarray(rng.random((3, 6)) < 0.3)

    def loss(params, inputs):
        lengths = jnp.array([6, 0, 4])
        state, outputs = lstmjax.unroll(cell, params, inputs, lengths=lengths, resets=resets, backend=backend)
        return jnp.sin(outputs).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(state))

    return jax.value_and_grad(loss, argnums=(0, 1))(params, inputs)


@needs_native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cell_of_a_user_has_native_code_and_the_fused_derivative(dtype):
    with jax.enable_x64(dtype == "float64"):
        cell = Mixed(3, 5, dtype=dtype)
        assert backends.choose("auto", cell).way == "native"
        expected = gradient(cell, "scan", dtype)
        tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
        for backend in ("native", "fused"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
                gradient(cell, backend, dtype),
                expected,
            )


@needs_native
def test_a_function_that_has_no_form_in_cpp_is_named_and_runs_without():
    cell = lstmjax.lstm(3, 4, candidate_activation=jnp.sin)
    choice = backends.choose("native", cell)
    assert choice == ("fused", "its function of the units uses sin, which has no form in C++ here")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        gradient(cell, "native", "float32"),
        gradient(cell, "scan", "float32"),
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.full((3,), x).sum() if x.ndim == 0 else 3 * x,
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: 2 * y, x),
    ],
    ids=["array", "loop"],
)
def test_arrays_and_loops_are_refused_and_not_taken_for_single_numbers(function):
    with pytest.raises(codegen.UnsupportedError):
        codegen.source_of(lstmjax.lstm(3, 4, candidate_activation=function))


def test_sizes_do_not_matter_to_the_program_but_formulas_do():
    programs = [
        codegen.source_of(cell).name
        for cell in (lstmjax.lstm(2, 3), lstmjax.lstm(4, 50), lstmjax.lstm(2, 3, coupled=True))
    ]
    assert programs[0] == programs[1] != programs[2]


def test_the_program_is_the_same_within_a_mesh_and_whatever_the_precision_of_numbers():
    cell, make = lstmjax.lstm(2, 3, peepholes=True), codegen.source_of.__wrapped__
    expected, mesh = make(cell), jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        assert make(cell) == expected
    with jax.enable_x64(True):
        assert make(cell) == expected


@needs_native
def test_functions_that_cannot_be_compiled_leave_a_cell_its_scan(monkeypatch, caplog):
    def broken(*_):
        raise MemoryError("anything")

    monkeypatch.setattr(native, "_load_library", broken)
    source = codegen.Source("cell-none", "")
    assert native._load_functions.__wrapped__(source, 1) == "anything"
    assert "without native code" in caplog.text
