"""Errors: each bad argument is named, with what it is and what was expected."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax import initializers
from lstmjax.training import batching

pytestmark = pytest.mark.usefixtures("unchecked")

BATCH, TIME = 4, 5
CELL = lstmjax.lstm(2, 3)
DEEP = lstmjax.stack(lstmjax.lstm(2, 3), lstmjax.residual(lstmjax.gru(3, 3)))


def _ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def _good(cell: Any) -> dict[str, Any]:
    """Arguments of `unroll` without a fault."""
    return {
        "params": cell.init(jax.random.key(0)),
        "inputs": _ones(BATCH, TIME, 2),
        "state": cell.initial_state((BATCH,)),
        "lengths": np.full(BATCH, TIME),
        "resets": np.zeros((BATCH, TIME), bool),
    }


GRU = lstmjax.gru(2, 3)
WIDER = lstmjax.lstm(2, 7)

Fault = tuple[str, Any, type[Exception], list[str]]
"""An argument, a bad value or what makes one of the good value, and the error with parts of its message."""

FAULTS: dict[str, Fault] = {
    "other features": (
        "inputs",
        _ones(BATCH, TIME, 7),
        ValueError,
        ["inputs", "[..., time, features]", "2 features", "(4, 5, 7)"],
    ),
    "no time axis": (
        "inputs",
        _ones(2),
        ValueError,
        ["inputs", "[..., time, features]", "float32 of shape (2,)"],
    ),
    "a scalar": ("inputs", _ones(), ValueError, ["inputs", "[..., time, features]", "()"]),
    "a list": (
        "inputs",
        [[1.0, 2.0]],
        ValueError,
        ["inputs must be an array", "[..., time, features]", "list"],
    ),
    "no inputs": ("inputs", None, ValueError, ["inputs must be an array", "NoneType"]),
    "narrow inputs": (
        "inputs",
        _ones(BATCH, TIME, 2, dtype=np.float16),
        TypeError,
        ["inputs", "float16", "float32", "astype"],
    ),
    "integer inputs": (
        "inputs",
        _ones(BATCH, TIME, 2, dtype=np.int32),
        TypeError,
        ["inputs", "int32", "float32"],
    ),
    "a length above time": (
        "lengths",
        np.array([5, 6, 5, 7]),
        ValueError,
        ["lengths", "0..5", "lengths[1] is 6"],
    ),
    "a negative length": (
        "lengths",
        np.array([5, 0, 5, -1]),
        ValueError,
        ["lengths", "0..5", "lengths[3] is -1"],
    ),
    "lengths on the device": (
        "lengths",
        lambda _: jnp.array([5, 0, 9, 1]),
        ValueError,
        ["lengths[2] is 9"],
    ),
    "too few lengths": (
        "lengths",
        np.array([5, 5, 5]),
        ValueError,
        ["lengths", "batch shape", "(4,)", "(3,)"],
    ),
    "one length for all": ("lengths", np.array(5), ValueError, ["lengths", "(4,)", "()"]),
    "lengths of another rank": (
        "lengths",
        np.full((BATCH, 1), TIME),
        ValueError,
        ["lengths", "(4,)", "(4, 1)"],
    ),
    "lengths as floats": (
        "lengths",
        np.full(BATCH, 5.0),
        TypeError,
        ["lengths must be integers", "float64 of shape (4,)"],
    ),
    "a mask as lengths": (
        "lengths",
        np.ones((BATCH, TIME), bool),
        TypeError,
        ["lengths must be integers", "bool of shape (4, 5)", "mask.sum(axis=-1)"],
    ),
    "a mask of integers as lengths": (
        "lengths",
        np.ones((BATCH, TIME), np.int32),
        ValueError,
        ["lengths", "(4,)", "(4, 5)", "mask.sum(axis=-1)"],
    ),
    "resets as integers": (
        "resets",
        np.zeros((BATCH, TIME), np.int32),
        TypeError,
        ["resets must be booleans", "int32 of shape (4, 5)", "!= 0"],
    ),
    "resets of another time": (
        "resets",
        np.zeros((BATCH, TIME + 1), bool),
        ValueError,
        ["resets", "[..., time]", "(4, 5)", "(4, 6)"],
    ),
    "resets without batch": (
        "resets",
        np.zeros(TIME, bool),
        ValueError,
        ["resets", "(4, 5)", "(5,)"],
    ),
    "a state of another batch": (
        "state",
        lambda _: CELL.initial_state((3,)),
        ValueError,
        ["state.hidden", "(4, 3)", "(3, 3)"],
    ),
    "a state without batch": (
        "state",
        lambda _: CELL.initial_state(),
        ValueError,
        ["state.hidden", "(4, 3)", "(3,)"],
    ),
    "a state of another cell": (
        "state",
        lambda _: GRU.initial_state((BATCH,)),
        TypeError,
        ["state", "structure", "LSTMState"],
    ),
    "a state of a wider cell": (
        "state",
        lambda _: WIDER.initial_state((BATCH,)),
        ValueError,
        ["state.hidden", "(4, 3)", "(4, 7)"],
    ),
    "a state of mixed parts": (
        "state",
        lambda state: state._replace(cell=WIDER.initial_state((BATCH,)).cell),
        ValueError,
        ["state.cell", "(4, 3)", "(4, 7)"],
    ),
    "a narrow cell state": (
        "state",
        lambda state: state._replace(cell=state.cell.astype(jnp.float16)),
        TypeError,
        ["state.cell", "float32", "float16"],
    ),
    "parameters of another cell": (
        "params",
        lambda _: GRU.init(jax.random.key(0)),
        TypeError,
        ["params", "structure", "LSTMParams", "GRUParams"],
    ),
    "parameters of a wider cell": (
        "params",
        lambda _: WIDER.init(jax.random.key(0)),
        ValueError,
        ["params.kernel", "(2, 12)", "(2, 28)"],
    ),
    "a wrong bias": (
        "params",
        lambda params: params._replace(bias=_ones(3)),
        ValueError,
        ["params.bias", "(12,)", "(3,)"],
    ),
    "narrow parameters": (
        "params",
        lambda params: params._replace(recurrent_kernel=params.recurrent_kernel.astype(jnp.bfloat16)),
        TypeError,
        ["params.recurrent_kernel", "float32", "bfloat16"],
    ),
    "no parameters": ("params", None, TypeError, ["params", "structure"]),
}


def _spoil(arguments: dict[str, Any], name: str, bad: Any) -> dict[str, Any]:
    return {**arguments, name: bad(arguments[name]) if callable(bad) else bad}


def _check(error: pytest.ExceptionInfo[Exception], parts: list[str]) -> None:
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in: {error.value}"


@pytest.mark.parametrize(("name", "bad", "kind", "parts"), FAULTS.values(), ids=FAULTS)
def test_unroll_says_what_is_wrong(name: str, bad: Any, kind: type[Exception], parts: list[str]) -> None:
    with pytest.raises(kind) as error:
        lstmjax.unroll(CELL, **_spoil(_good(CELL), name, bad))
    assert error.type is kind
    _check(error, parts)


UNDER_JIT = {
    name: fault
    for name, fault in FAULTS.items()
    if name not in ("a length above time", "a negative length", "lengths on the device", "a list")
}
"""Faults of shapes and dtypes, which are known while JAX traces."""


@pytest.mark.parametrize(("name", "bad", "kind", "parts"), UNDER_JIT.values(), ids=UNDER_JIT)
def test_unroll_says_it_under_jit_too(name: str, bad: Any, kind: type[Exception], parts: list[str]) -> None:
    arguments = _spoil(_good(CELL), name, bad)
    with pytest.raises(kind) as error:
        jax.jit(lambda arguments: lstmjax.unroll(CELL, **arguments))(arguments)
    if name == "lengths":  # NumPy's integers and floats of 64 bits have 32 under jit.
        parts = [part.replace("float64", "float32") for part in parts]
    _check(error, parts)


@pytest.mark.parametrize(
    "fault", ["other features", "narrow inputs", "a narrow cell state", "a state of another batch",
              "parameters of a wider cell", "parameters of another cell"]
)  # fmt: skip
def test_step_says_what_is_wrong(fault: str) -> None:
    name, bad, kind, parts = FAULTS[fault]
    good = {**_good(CELL), "inputs": _ones(BATCH, 2)}
    bad = _ones(BATCH, 7) if fault == "other features" else bad
    bad = _ones(BATCH, 2, dtype=np.float16) if fault == "narrow inputs" else bad
    arguments = _spoil(good, name, bad)
    with pytest.raises(kind) as error:
        CELL.step(arguments["params"], arguments["state"], arguments["inputs"])
    parts = [part.replace("[..., time, features]", "[..., features]") for part in parts]
    _check(error, [part.replace("(4, 5, 7)", "(4, 7)") for part in parts])


@pytest.mark.parametrize("cell", [CELL, GRU, lstmjax.elman(2, 3), DEEP], ids=lambda cell: type(cell).__name__)
def test_every_cell_checks_inputs_parameters_and_state(cell: lstmjax.Cell) -> None:
    good = _good(cell)
    lstmjax.unroll(cell, **good)
    for name in ("inputs", "params", "state"):
        bad = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf], axis=-1), good[name])
        with pytest.raises(ValueError, match=rf"^{name}.* shape"):
            lstmjax.unroll(cell, **{**good, name: bad})
        narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), good[name])
        with pytest.raises(TypeError, match=rf"^{name}.*dtype.*float"):
            lstmjax.unroll(cell, **{**good, name: narrow})
        step = {key: good[key] for key in ("params", "state")} | {"inputs": good["inputs"][:, 0]}
        with pytest.raises((ValueError, TypeError), match=r"shape|dtype"):
            cell.step(**{**step, name: bad if name != "inputs" else bad[:, 0]})


def test_errors_inside_a_stack_name_the_place() -> None:
    good = _good(DEEP)
    first, second = good["params"]
    with pytest.raises(ValueError, match=r"params\[1\]\.bias must have shape \(9,\).*got \(2,\)"):
        lstmjax.unroll(DEEP, **{**good, "params": (first, second._replace(bias=_ones(2)))})
    with pytest.raises(TypeError, match=r"params of a stack must be a tuple.*2 cells"):
        DEEP.step((first,), good["state"], good["inputs"][:, 0])
    with pytest.raises(TypeError, match=r"state of a stack must be a tuple.*2 cells"):
        DEEP.step(good["params"], good["state"][:1], good["inputs"][:, 0])


def test_the_place_of_a_bad_length_in_a_batch_of_rank_two() -> None:
    params = CELL.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"lengths\[1\]\[0\] is 6"):
        lstmjax.unroll(CELL, params, _ones(2, 2, TIME, 2), lengths=np.array([[5, 5], [6, 5]]))
    with pytest.raises(ValueError, match=r"lengths is -1"):
        lstmjax.unroll(CELL, params, _ones(TIME, 2), lengths=np.array(-1))


def test_lengths_known_only_when_compiled_code_runs_are_clamped() -> None:
    good = _good(CELL)
    run = jax.jit(lambda lengths: lstmjax.unroll(CELL, **{**good, "lengths": lengths}))
    jax.tree.map(
        np.testing.assert_array_equal,
        run(np.array([-2, 9, 3, 0], np.int32)),
        run(np.array([0, TIME, 3, 0], np.int32)),
    )


def _nan_cell() -> lstmjax.Cell:
    return lstmjax.lstm(2, 3, forget_bias=initializers.chrono(float("nan")))


CONSTRUCTORS: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "no features": (lambda: lstmjax.lstm(0, 3), ValueError, ["lstm: features", "positive", "got 0"]),
    "negative hidden": (lambda: lstmjax.lstm(2, -3), ValueError, ["lstm: hidden", "got -3"]),
    "a float": (lambda: lstmjax.gru(2, 3.0), ValueError, ["gru: hidden", "integer", "3.0"]),
    "a boolean": (lambda: lstmjax.elman(True, 3), ValueError, ["elman: features", "True"]),
    "a text": (lambda: lstmjax.elman("2", 3), ValueError, ["elman: features", "'2'"]),
    "an unknown option": (lambda: lstmjax.lstm(2, 3, forget_bais=1.0), TypeError, ["forget_bais"]),
    "an option of another cell": (lambda: lstmjax.gru(2, 3, forget_bias=1.0), TypeError, ["forget_bias"]),
    "an integer dtype": (
        lambda: lstmjax.lstm(2, 3, dtype=jnp.int32),
        TypeError,
        ["lstm: dtype", "floating", "int32"],
    ),
    "a complex dtype": (lambda: lstmjax.gru(2, 3, dtype="complex64"), TypeError, ["gru: dtype", "complex64"]),
    "integer parameters": (
        lambda: lstmjax.gru(2, 3, param_dtype="int8"),
        TypeError,
        ["gru: param_dtype", "int8"],
    ),
    "float64 where there is none": (
        lambda: lstmjax.lstm(2, 3, dtype="float64"),
        TypeError,
        ["lstm: dtype", "float64", "jax_enable_x64"],
    ),
    "an empty stack": (lstmjax.stack, ValueError, ["stack", "at least one cell"]),
    "a stack that does not fit": (
        lambda: lstmjax.stack(CELL, lstmjax.gru(3, 4), lstmjax.gru(5, 2)),
        ValueError,
        ["stack", "cell 1 puts out 4", "cell 2 takes 5"],
    ),
    "a residual that does not fit": (
        lambda: lstmjax.residual(CELL),
        ValueError,
        ["residual", "takes 2", "puts out 3"],
    ),
    "directions that do not fit": (
        lambda: lstmjax.bidirectional(CELL, lstmjax.gru(4, 3)),
        ValueError,
        ["bidirectional", "takes 2", "backward one 4"],
    ),
    "a list as a stack": (
        lambda: lstmjax.stack([CELL, GRU]),
        TypeError,
        ["stack: part 0 must be a cell", "got a list: give cells one by one"],
    ),
    "a layer in a stack": (
        lambda: lstmjax.stack(CELL, lstmjax.bidirectional(GRU, GRU)),
        TypeError,
        ["stack: part 1 must be a cell", "the layer Bidirectional", "lstmjax.layers"],
    ),
    "a list as layers": (lambda: lstmjax.layers([CELL]), TypeError, ["layers: part 0", "got a list"]),
    "a function as a direction": (
        lambda: lstmjax.bidirectional(CELL, lstmjax.lstm),
        TypeError,
        ["bidirectional: backward must be a cell", "the function lstm: call it"],
    ),
    "dropout of a layer": (
        lambda: lstmjax.dropout(lstmjax.bidirectional(GRU, GRU), 0.5),
        TypeError,
        ["dropout: the first argument must be a cell", "the layer Bidirectional"],
    ),
    "a rate before its cell": (lambda: lstmjax.zoneout(0.5, CELL), TypeError, ["zoneout", "got float"]),
    "a rate of 1": (
        lambda: lstmjax.dropout(CELL, hidden=np.float32(1)),
        ValueError,
        ["dropout: hidden must be a rate from 0 to below 1"],
    ),
    "a limit as text": (
        lambda: lstmjax.clip_gradient(CELL, "1"),
        ValueError,
        ["clip_gradient: limit must be a number above 0, got '1'"],
    ),
    "forget biases as an array": (
        lambda: lstmjax.lstm(2, 3, forget_bias=np.ones(3)),
        TypeError,
        ["lstm: forget_bias must be a number, or a GateBias", "float64 of shape (3,)", "init returns"],
    ),
    "a text as forget bias": (
        lambda: lstmjax.conv_lstm(2, 2, 1, 1, forget_bias="chrono"),
        TypeError,
        ["conv_lstm: forget_bias", "got str"],
    ),
    "a function as the forget bias of a minLSTM": (
        lambda: lstmjax.min_lstm(2, 3, forget_bias=initializers.chrono(9)),
        ValueError,
        ["min_lstm: forget_bias must be a finite number"],
    ),
    "an initializer by name": (
        lambda: lstmjax.gru(2, 3, kernel_init="orthogonal"),
        TypeError,
        ["gru: kernel_init must be a function", "got str"],
    ),
    "an initializer that was not called": (
        lambda: lstmjax.gru(2, 3, kernel_init=jax.nn.initializers.he_normal).init(jax.random.key(0)),
        TypeError,
        ["call it, as in he_normal()"],
    ),
    "a text as a switch": (
        lambda: lstmjax.lstm(2, 3, peepholes="no"),
        TypeError,
        ["lstm: peepholes must be True or False, got 'no'"],
    ),
    "a stream of a layer": (
        lambda: lstmjax.Stream(lstmjax.bidirectional(GRU, GRU), None),
        TypeError,
        ["Stream: the first argument must be a cell"],
    ),
    "a memory of two steps": (lambda: initializers.chrono(2.0), ValueError, ["chrono", "max_time", "2.0"]),
    "a memory of nan steps": (_nan_cell, ValueError, ["chrono", "max_time", "nan"]),
}


@pytest.mark.parametrize(("make", "kind", "parts"), CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_constructors_say_what_is_wrong(
    make: Callable[[], Any], kind: type[Exception], parts: list[str]
) -> None:
    with pytest.raises(kind) as error:
        make()
    _check(error, parts)


def test_a_bidirectional_layer_says_what_is_wrong() -> None:
    layer = lstmjax.bidirectional(CELL, GRU)
    params = layer.init(jax.random.key(0))
    with pytest.raises(TypeError, match=r"params of.*Directions\(forward, backward\).*tuple"):
        layer.apply(tuple(params), _ones(BATCH, TIME, 2))
    with pytest.raises(TypeError, match=r"Directions.*LSTMState"):
        layer.apply(params, _ones(BATCH, TIME, 2), CELL.initial_state((BATCH,)))
    with pytest.raises(ValueError, match=r"inputs.*\(4, 5, 3\)"):
        layer.apply(params, _ones(BATCH, TIME, 3))


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (
            lambda: lstmjax.losses.cross_entropy(_ones(2, 3, 5), np.zeros((2, 5), np.int32)),
            ["labels", "(2, 3)", "(2, 5)"],
        ),
        (
            lambda: lstmjax.losses.bernoulli(_ones(2, 3, 5), _ones(2, 3)),
            ["targets", "(2, 3, 5)", "(2, 3)"],
        ),
        (
            lambda: lstmjax.losses.bernoulli(_ones(2, 3), _ones(2, 3), np.ones((2, 3), bool)),
            ["mask", "(2,)", "(2, 3)"],
        ),
        (
            lambda: lstmjax.metrics.Mean.of(_ones(2, 3), np.ones(2, bool)),
            ["mask", "(2, 3)", "(2,)"],
        ),
    ],
    ids=["labels", "targets", "mask of a loss", "mask of a mean"],
)
def test_losses_and_metrics_say_what_is_wrong(call: Callable[[], Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match="shape") as error:
        call()
    _check(error, parts)


@dataclasses.dataclass(frozen=True, repr=False)
class Faulty(lstmjax.Cell):
    """A user's cell, and what its step returns of a state and an array of that shape."""

    result: Callable[[Any, jax.Array], Any]
    features: int = 2
    output_size: int = 3
    input_dtype: Any = "float32"

    def init(self, key: Any) -> Any:
        return ()

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Any:
        return {"memory": jnp.zeros((*batch_shape, 3))}

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        return self.result(state, state["memory"] + inputs.sum(axis=-1, keepdims=True))


STEPS: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], list[str]]] = {
    "another dtype": (
        lambda state, h: ({"memory": h.astype(jnp.bfloat16)}, h),
        TypeError,
        ["Faulty.step", "state['memory'] must have dtype float32", "got bfloat16"],
    ),
    "no batch": (
        lambda state, h: ({"memory": h.sum(axis=0)}, h),
        ValueError,
        ["Faulty.step", "state['memory'] must have shape (4, 3)", "got (3,)"],
    ),
    "another tree": (lambda state, h: (h, h), TypeError, ["Faulty.step", "structure", "'memory'"]),
    "outputs of another size": (
        lambda state, h: (state, h[:, :1]),
        ValueError,
        ["Faulty.step must return outputs", "(4, 3)", "(4, 1)"],
    ),
    "no outputs": (lambda state, h: state, TypeError, ["Faulty.step must return the next state and the out"]),
}


@pytest.mark.parametrize(("result", "kind", "parts"), STEPS.values(), ids=STEPS)
def test_what_a_step_returns_is_checked(result: Any, kind: type[Exception], parts: list[str]) -> None:
    with pytest.raises(kind) as error:
        lstmjax.unroll(Faulty(result), (), _ones(BATCH, TIME, 2))
    _check(error, parts)


def _decode(step: Callable[[Any, Any], Any], start: Any = (0, 0)) -> Any:
    return lstmjax.decoding.greedy(step, jnp.zeros((2, 3)), np.array(start), end=1, max_length=3)


PARAMS = CELL.init(jax.random.key(0))

CALLS: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "no cell": (lambda: lstmjax.unroll(PARAMS, _ones(5, 2)), TypeError, ["missing", "'inputs'"]),
    "parameters before the cell": (
        lambda: lstmjax.unroll(PARAMS, CELL, _ones(5, 2)),
        TypeError,
        ["unroll: the first argument must be a cell", "LSTMParams"],
    ),
    "inputs before parameters": (
        lambda: lstmjax.unroll(CELL, _ones(5, 2), PARAMS),
        ValueError,
        ["inputs must be an array", "LSTMParams"],
    ),
    "inputs explained": (
        lambda: lstmjax.explain(CELL, _ones(4, 5, 2)),
        ValueError,
        ["explain: shape must be [..., time, features]", "inputs.shape"],
    ),
    "labels as floats": (
        lambda: lstmjax.losses.cross_entropy(_ones(2, 3), _ones(2)),
        TypeError,
        ["labels must be integers", "float32"],
    ),
    "a start between tokens": (
        lambda: _decode(lambda state, tokens: (state, state), (0.5, 0)),
        TypeError,
        ["greedy: start must be integers", "float64"],
    ),
    "a step without state": (
        lambda: _decode(lambda state, tokens: state),
        TypeError,
        ["greedy: step must return the next state and the logits"],
    ),
    "a state that changes": (
        lambda: _decode(lambda state, tokens: (state.astype(jnp.bfloat16), state)),
        TypeError,
        ["greedy: the state that step returns", "float32", "bfloat16"],
    ),
    "tokens for logits": (
        lambda: _decode(lambda state, tokens: (state, jnp.ones((2, 3), int))),
        TypeError,
        ["greedy: step must return logits in floating point", "int32"],
    ),
    "one sequence for many": (
        lambda: batching.pad([1, 2]),
        ValueError,
        ["pad: sequences must be arrays [time, ...]", "sequence 0"],
    ),
    "one sequence to cut": (lambda: batching.chunk(np.arange(6), 3), ValueError, ["chunk: sequences"]),
    "half a row": (
        lambda: batching.SequenceBatches([np.arange(3)], batch_size=2.5),
        ValueError,
        ["batch_size must be a positive integer, got 2.5"],
    ),
}


@pytest.mark.parametrize(("call", "kind", "parts"), CALLS.values(), ids=CALLS)
def test_plain_mistakes_are_named(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    with pytest.raises(kind) as error:
        call()
    _check(error, parts)


def test_numbers_of_numpy_are_numbers() -> None:
    assert lstmjax.dropout(CELL, np.float32(0.5), hidden=np.float64(0.25)) == lstmjax.dropout(CELL, 0.5, 0.25)
    assert lstmjax.zoneout(CELL, np.float32(0.5)) == lstmjax.zoneout(CELL, 0.5)
    assert lstmjax.recurrent_dropout(CELL, np.float16(0.5)) == lstmjax.recurrent_dropout(CELL, 0.5)
    assert lstmjax.clip_gradient(CELL, np.float32(2)) == lstmjax.clip_gradient(CELL, 2)
    for bias in (np.float32(2), np.array(2), jnp.float32(2)):
        assert repr(lstmjax.lstm(2, 3, forget_bias=bias)) == "LSTM(features=2, hidden=3, forget_bias=2.0)"
    assert lstmjax.lstm(2, 3, peepholes=np.bool_(True)) == lstmjax.lstm(2, 3, peepholes=True)
    good = _good(CELL)
    jax.tree.map(
        np.testing.assert_array_equal,
        lstmjax.unroll(CELL, **good, remat=np.int64(2)),
        lstmjax.unroll(CELL, **good, remat=2),
    )


def test_unroll_takes_a_layer() -> None:
    deep = lstmjax.layers(lstmjax.bidirectional(CELL, CELL), lstmjax.gru(6, 2))
    params, lengths = deep.init(jax.random.key(0)), np.array([5, 0, 2, 1])
    arguments = (params, _ones(BATCH, TIME, 2), None, lengths)
    jax.tree.map(np.testing.assert_array_equal, lstmjax.unroll(deep, *arguments), deep.apply(*arguments))
