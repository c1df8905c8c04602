"""Conversion of parameters from ONNX; `lstmjax.export.export_onnx` is the other direction."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmjax.convert.formats import FORMATS, read
from lstmjax.convert.structure import Converted, build, pile

OPERATORS: Mapping[str, Sequence[str]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}
"""The recurrent operators, and the activations that the cells of this library have."""

REARRANGING = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
"""Operators that may stand between two layers."""


class _Scope(NamedTuple):
    """What the nodes of a graph can refer to: its own tensors and those of the graphs around it."""

    constants: dict[str, Any]
    makers: dict[str, Any]
    """The node that makes a tensor, by the tensor's name."""

    def value(self, name: str) -> np.ndarray:
        """The tensor of that name, if it does not depend on the inputs of the model."""
        import onnx  # noqa: PLC0415
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

        if name in self.constants:
            return onnx.numpy_helper.to_array(self.constants[name])
        if name not in self.makers:
            raise ValueError(f"its parameters depend on {name!r}, which is no constant.")
        node = self.makers[name]
        values = {operand: self.value(operand) for operand in node.input if operand}
        results = ReferenceEvaluator(node).run(None, values)
        return dict(zip(node.output, results, strict=False))[name]

    def below(self, node: Any) -> str:
        """The tensor that a node's inputs are, before it was rearranged."""
        name = node.input[0]
        while name in self.makers and self.makers[name].op_type in REARRANGING:
            name = self.makers[name].input[0]
        return name


def from_onnx(source: Any) -> Converted:
    """Convert the LSTM, GRU or RNN operators of an ONNX model, one above the other, to one cell or layer.

    Args:
      source: an ``onnx.ModelProto``, or the path of a file. What the model computes before the first and
        after the last of these operators is left out, and so are initial states and the order of axes.

    Returns:
      A cell (a stack for several operators), or a layer if there are two directions; and its parameters.

    Raises:
      ValueError: there is no such operator, their order is not a plain stack, or one computes something else
        than the cells of this library: other activations, ``clip``, ``input_forget``, the direction
        ``reverse``, parameters that are no constants.
      ImportError: the package ``onnx`` is not installed.
    """
    found = list(_operators(source))
    names = ", ".join(repr(name) for name, _, _ in found)
    if not found:
        raise ValueError(f"from_onnx: the model has no operator {', '.join(OPERATORS)}.")
    for (_, lower, _), (name, upper, scope) in itertools.pairwise(found):
        if scope.below(upper) != lower.output[0]:
            raise ValueError(
                f"from_onnx: {name!r} does not take the outputs of the one before it, of {names}: use "
                "lstmjax.convert.from_onnx_model, which converts each on its own."
            )
    return pile([_read(*one) for one in found])


def from_onnx_model(source: Any) -> dict[str, Converted]:
    """Convert every LSTM, GRU or RNN operator of an ONNX model on its own, also those in its subgraphs.

    Args:
      source: as in `from_onnx`.

    Returns:
      A cell, or a layer if there are two directions, and its parameters, for the name of each operator; in a
      subgraph, that of the operator around it, the branch, and its own, joined by ``/``.

    Raises:
      ValueError: an operator computes something else, as in `from_onnx`.
      ImportError: the package ``onnx`` is not installed.
    """
    return {name: _read(name, node, scope) for name, node, scope in _operators(source)}


def _operators(source: Any) -> Iterator[tuple[str, Any, _Scope]]:
    """The recurrent operators of a model in the order of computation, with their names."""
    import onnx  # noqa: PLC0415

    model = onnx.load(os.fspath(source)) if isinstance(source, str | os.PathLike) else source
    return _walk(model.graph, _Scope({}, {}), "")


def _walk(graph: Any, around: _Scope, path: str) -> Iterator[tuple[str, Any, _Scope]]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    scope = _Scope({**around.constants, **constants}, {**around.makers, **makers})
    for number, node in enumerate(graph.node):
        name = f"{path}{node.name or f'{node.op_type}_{number}'}"
        if node.op_type in OPERATORS and node.domain in ("", "ai.onnx"):
            yield name, node, scope
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _walk(attribute.g, scope, f"{name}/{attribute.name}/")


def _read(name: str, node: Any, scope: _Scope) -> Converted:
    import onnx  # noqa: PLC0415

    where = f"from_onnx: {node.op_type} {name!r}"
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if attributes.get("direction") == b"reverse":
        raise ValueError(
            f"{where}: direction is reverse: set it to forward to convert, and run the cell with "
            "lstmjax.unroll(..., reverse=True)."
        )
    activations = [value.decode().lower() for value in attributes.get("activations", [])]
    usual = list(OPERATORS[node.op_type])
    if activations not in ([], usual, usual * 2):
        raise ValueError(f"{where}: activations must be {usual}, got {activations}.")
    for attribute in ("clip", "input_forget"):
        if attributes.get(attribute):
            raise ValueError(f"{where}: {attribute} is {attributes[attribute]}, which cannot be converted.")
    operands = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
    try:
        arrays = {part: scope.value(operands[part]) for part in "WRBP" if operands.get(part)}
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not {"W", "R"} <= set(arrays):
        raise ValueError(f"{where}: an operator has parameters W and R, got {sorted(arrays)}.")
    after = bool(attributes.get("linear_before_reset", 0))
    entries = []
    for way in range(len(arrays["W"])):
        biases = np.split(arrays["B"][way], 2) if "B" in arrays else ()
        peepholes = arrays["P"][way] if "P" in arrays else None
        kernels = arrays["W"][way], arrays["R"][way]
        form = FORMATS["onnx"]
        entries.append(read(where, form, *kernels, *biases, peepholes=peepholes, reset_after=after))
    return build([entries])
