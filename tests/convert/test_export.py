"""Programs that run without this library, against the functional form."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_like

import lstmjax
from lstmjax.export import export_onnx, export_stablehlo


def _both(features: int) -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(lstmjax.lstm(features, 4), lstmjax.lstm(features, 4))


LAYERS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: lstmjax.lstm(3, 4),
    "stack": lambda: lstmjax.stack(lstmjax.lstm(3, 4), lstmjax.lstm(4, 5)),
    "peepholes": lambda: lstmjax.bidirectional(lstmjax.lstm(3, 4, peepholes=True), lstmjax.lstm(3, 4)),
    "deep bidirectional": lambda: lstmjax.layers(_both(3), _both(8), lstmjax.lstm(8, 2)),
    "gru": lambda: lstmjax.stack(lstmjax.gru(3, 4), lstmjax.gru(4, 4, reset_after=False)),
    "unbiased": lambda: lstmjax.layers(
        lstmjax.bidirectional(lstmjax.lstm(3, 4, bias=False), lstmjax.lstm(3, 4)),
        lstmjax.lstm(8, 4, bias=False),
        lstmjax.gru(4, 4, bias=False),
    ),
    "elman": lambda: lstmjax.bidirectional(lstmjax.elman(3, 4), lstmjax.elman(3, 4)),
}

each_layer = pytest.mark.parametrize("name", LAYERS)
INPUTS = np.random.default_rng(0).standard_normal((3, 5, 3)).astype(np.float32)
LENGTHS = np.array([5, 0, 2], np.int32)


def _problem(layer: Any) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: (layer.init(jax.random.key(0)), layer.initial_state((3,))))
    return random_like(shapes, random, 0.5)


def _assert_close(actual: Any, expected: Any) -> None:
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# Sizes that are not known yet are no int, which annotations say they are; so these are not checked.
symbolic = pytest.mark.usefixtures("unchecked")


@symbolic
@pytest.mark.parametrize("name", [*LAYERS, "residual"])
def test_an_exported_program_runs_batches_of_any_size(name: str) -> None:
    layer = lstmjax.residual(lstmjax.gru(3, 3)) if name == "residual" else LAYERS[name]()
    params, state = _problem(layer)
    program = jax.export.deserialize(export_stablehlo(layer, params).serialize())
    assert program.platforms == ("cpu", "cuda", "tpu")
    leaves = tuple(jax.tree.leaves(state))
    _assert_close(
        program.call(INPUTS, LENGTHS, leaves), lstmjax.unroll(layer, params, INPUTS, state, LENGTHS)
    )
    first = tuple(leaf[:1] for leaf in leaves)
    expected = lstmjax.unroll(layer, params, INPUTS[:1, :2], jax.tree.map(lambda leaf: leaf[:1], state))
    _assert_close(program.call(INPUTS[:1, :2], np.array([2], np.int32), first), expected)


@symbolic
def test_parameters_can_be_an_argument_with_a_gradient() -> None:
    layer = LAYERS["lstm"]()
    params, state = _problem(layer)
    leaves = tuple(jax.tree.leaves(state))
    data = export_stablehlo(layer).serialize(vjp_order=1)
    program = jax.export.deserialize(data)

    def loss(params: Any) -> jax.Array:
        return program.call(tuple(params), INPUTS, LENGTHS, leaves)[1].sum()

    def expected(params: Any) -> jax.Array:
        return lstmjax.unroll(layer, params, INPUTS, state, LENGTHS)[1].sum()

    params = jax.tree.map(jnp.asarray, params)
    _assert_close(jax.grad(loss)(params), jax.grad(expected)(params))


@symbolic
def test_shapes_can_be_fixed() -> None:
    layer = LAYERS["lstm"]()
    params, _ = _problem(layer)
    program = export_stablehlo(layer, params, batch_shape=("rows", 2), time=7, platforms=("cpu",))
    assert [str(size) for size in program.in_avals[0].shape] == ["rows", "2", "7", "3"]
    assert program.out_avals[-1].shape[1:] == (2, 7, 4)


LOADER = """
import sys
import jax.export, numpy
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
arrays = numpy.load(sys.argv[2])
state, outputs = program.call(arrays["inputs"], arrays["lengths"], (arrays["hidden"], arrays["cell"]))
numpy.save(sys.argv[3], outputs)
assert "lstmjax" not in sys.modules
"""


@symbolic
def test_a_program_is_loaded_where_this_library_is_not(tmp_path: Path) -> None:
    layer = LAYERS["lstm"]()
    params, state = _problem(layer)
    paths = [tmp_path / name for name in ("program", "arrays.npz", "outputs.npy")]
    paths[0].write_bytes(export_stablehlo(layer, params).serialize())
    np.savez(paths[1], inputs=INPUTS, lengths=LENGTHS, hidden=state.hidden, cell=state.cell)
    subprocess.run([sys.executable, "-c", LOADER, *map(str, paths)], check=True, cwd=tmp_path)
    _assert_close(np.load(paths[2]), lstmjax.unroll(layer, params, INPUTS, state, LENGTHS)[1])


def _run_onnx(model: Any, arrays: dict[str, Any]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


@each_layer
@pytest.mark.parametrize("with_lengths", [False, True])
def test_onnxruntime_agrees(name: str, with_lengths: bool) -> None:
    pytest.importorskip("onnx")
    layer = LAYERS[name]()
    params, _ = _problem(layer)
    given = {"lengths": LENGTHS} if with_lengths else {}
    model = export_onnx(layer, params, lengths=with_lengths)
    (outputs,) = _run_onnx(model, {"inputs": INPUTS, **given})
    _assert_close(outputs, lstmjax.unroll(layer, params, INPUTS, None, **given)[1])


@each_layer
def test_onnxruntime_takes_and_gives_the_state(name: str) -> None:
    pytest.importorskip("onnx")
    layer, lengths = LAYERS[name](), np.array([5, 1, 2], np.int32)
    params, state = _problem(layer)
    model = export_onnx(layer, params, lengths=True, state=True)
    named = {value.name: value for value in model.graph.input}

    def by_layer(state: Any) -> dict[str, np.ndarray]:
        parts = state if type(state) is tuple else (state,)
        ways = [part if isinstance(part, lstmjax.Directions) else (part,) for part in parts]
        return {
            f"{kind}.{number}": np.stack([getattr(way, kind, way) for way in part])
            for number, part in enumerate(ways)
            for kind in (("hidden", "cell") if hasattr(part[0], "hidden") else ("hidden",))
        }

    assert set(named) == {"inputs", "lengths", *by_layer(state)}
    outputs, *after = _run_onnx(model, {"inputs": INPUTS, "lengths": lengths, **by_layer(state)})
    expected_state, expected = lstmjax.unroll(layer, params, INPUTS, state, lengths)
    _assert_close(outputs, expected)
    wanted = by_layer(expected_state)
    names = [value.name.removeprefix("next.") for value in model.graph.output[1:]]
    _assert_close(dict(zip(names, after, strict=True)), wanted)


def test_what_onnx_does_not_have_is_refused() -> None:
    pytest.importorskip("onnx")
    for layer, message in (
        (lstmjax.min_gru(3, 4), "export_onnx: only LSTMs"),
        (lstmjax.lstm(3, 4, projection=2), r"only LSTMs \(with peepholes or without\)"),
        (lstmjax.lstm(3, 4, dtype="bfloat16"), "must be float32, or all float64; got bfloat16, float32"),
        (lstmjax.bidirectional(lstmjax.lstm(3, 4), lstmjax.lstm(3, 5)), "same hidden size"),
        (lstmjax.bidirectional(lstmjax.lstm(3, 4), lstmjax.gru(3, 4)), "of one kind"),
    ):
        with pytest.raises(ValueError, match=message):
            export_onnx(layer, layer.init(jax.random.key(0)))
