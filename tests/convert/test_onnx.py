"""Recurrent operators of ONNX models that others wrote, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmjax
from lstmjax import convert

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

INPUTS = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)  # [time, batch, features]


def _operator(
    kind: str, size: int = 3, directions: int = 1, number: int = 0, without: str = "", **attributes: Any
) -> tuple[Any, list[Any]]:
    """A node from ``x<number>`` to ``y<number>`` with 4 units, and its parameters, less those ``without``."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (4 * gates, size), "R": (4 * gates, 4), "B": (8 * gates,), "P": (12,)}
    random = np.random.default_rng(number)
    tensors, operands = [], [f"x{number}"]
    for part in ("W", "R", "B", "lengths", "h", "c", "P") if kind == "LSTM" else ("W", "R", "B"):
        given = part in shapes and part not in without
        operands.append(f"{part}{number}" if given else "")
        if given:
            array = random.standard_normal((directions, *shapes[part])).astype(np.float32) / 2
            tensors.append(numpy_helper.from_array(array, operands[-1]))
    direction = "bidirectional" if directions == 2 else "forward"
    options = {"hidden_size": 4, "direction": direction, "name": f"{kind.lower()} {number}", **attributes}
    return helper.make_node(kind, operands, [f"y{number}"], **options), tensors


def _model(nodes: list[Any], tensors: list[Any], output: str) -> Any:
    value = helper.make_tensor_value_info
    inputs = [value("x0", onnx.TensorProto.FLOAT, INPUTS.shape)]
    outputs = [value(output, onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "model", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _agree(converted: Any, model: Any) -> None:
    """The outputs of what was converted are those of the model, ``[time, directions, batch, hidden]``."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x0": INPUTS})
    if expected.ndim == 4:
        expected = np.concatenate(np.moveaxis(expected, 1, 0), axis=-1)
    outputs = np.moveaxis(lstmjax.unroll(*converted, np.moveaxis(INPUTS, 0, 1))[1], 0, 1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("kind", "options", "want"),
    [
        ("LSTM", {"without": "P"}, lstmjax.lstm(3, 4)),
        ("LSTM", {"without": "BP"}, lstmjax.lstm(3, 4, bias=False)),
        ("GRU", {"without": "B", "linear_before_reset": 1}, lstmjax.gru(3, 4, bias=False)),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}, lstmjax.lstm(3, 4, peepholes=True)),
        ("GRU", {}, lstmjax.gru(3, 4, reset_after=False)),
        ("GRU", {"linear_before_reset": 1}, lstmjax.gru(3, 4)),
        ("RNN", {}, lstmjax.elman(3, 4)),
    ],
)
def test_operators_agree(kind: str, options: dict[str, Any], want: lstmjax.Cell, directions: int) -> None:
    if "activations" in options:
        options = {**options, "activations": options["activations"] * directions}
    node, tensors = _operator(kind, directions=directions, **options)
    model = _model([node], tensors, "y0")
    converted = convert.from_onnx(model)
    assert converted[0] == (want if directions == 1 else lstmjax.bidirectional(want, want))
    _agree(converted, model)


def _stack() -> tuple[list[Any], list[Any]]:
    """A bidirectional LSTM below a GRU whose parameters are computed from constants."""
    below, tensors = _operator("LSTM", directions=2)
    above, more = _operator("GRU", size=8, number=1)
    for tensor in more:  # stored as its negative, as an exporter that folds no constants may
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), f"minus {tensor.name}"))
    negative = [helper.make_node("Neg", [one.name], [one.name.removeprefix("minus ")]) for one in more]
    between = [
        helper.make_node("Constant", [], ["shape"], value_ints=[0, 0, -1]),
        helper.make_node("Transpose", ["y0"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "shape"], ["x1"]),
    ]
    return [*negative, below, *between, above], [*tensors, *more]


def test_operators_above_each_other_are_a_stack(tmp_path: Path) -> None:
    model = _model(*_stack(), "y1")
    onnx.save(model, tmp_path / "model.onnx")
    layer, params = convert.from_onnx(tmp_path / "model.onnx")
    assert isinstance(layer, lstmjax.Layers)
    _agree((layer, params), model)
    found = convert.from_onnx_model(str(tmp_path / "model.onnx"))
    assert {name: one for name, (one, _) in found.items()} == {
        "lstm 0": layer.parts[0],
        "gru 1": layer.parts[1],
    }


def test_what_is_no_plain_stack_is_converted_one_by_one() -> None:
    nodes, tensors = _stack()
    relu = helper.make_node("Relu", ["turned"], ["rectified"])
    position = [node.op_type for node in nodes].index("Reshape")
    nodes[position].input[0] = "rectified"
    model = _model([*nodes[:position], relu, *nodes[position:]], tensors, "y1")
    with pytest.raises(ValueError, match=r"'gru 1' does not take the outputs of the one before it.*_model"):
        convert.from_onnx(model)
    assert list(convert.from_onnx_model(model)) == ["lstm 0", "gru 1"]
    with pytest.raises(ValueError, match="the model has no operator LSTM, GRU, RNN"):
        convert.from_onnx(_model([helper.make_node("Relu", ["x0"], ["y0"])], [], "y0"))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "LSTM",
            {"direction": "reverse"},
            r"LSTM 'lstm 0': direction is reverse.*unroll\(..., reverse=True\)",
        ),
        ("LSTM", {"input_forget": 1}, "input_forget is 1, which cannot be converted"),
        ("GRU", {"clip": 3.0}, "clip is 3.0, which cannot be converted"),
        ("RNN", {"activations": ["Relu"]}, r"activations must be \['tanh'\], got \['relu'\]"),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "activations must be"),
        ("GRU", {"without": "W"}, "GRU 'gru 0': an operator has parameters W and R, got"),
    ],
)
def test_operators_that_compute_something_else_are_refused(
    kind: str, options: dict[str, Any], message: str
) -> None:
    node, tensors = _operator(kind, **options)
    with pytest.raises(ValueError, match=f"from_onnx: .*{message}"):
        convert.from_onnx(_model([node], tensors, "y0"))


def test_parameters_that_depend_on_inputs_are_refused() -> None:
    node, tensors = _operator("GRU")
    product = helper.make_node("Mul", ["R0", "x0"], ["scaled"])
    node.input[2] = "scaled"
    with pytest.raises(ValueError, match="GRU 'gru 0': its parameters depend on 'x0', which is no constant"):
        convert.from_onnx(_model([product, node], tensors, "y0"))
