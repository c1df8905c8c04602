"""The tables that the tests of the sequence contract loop over, and random data for them.

A new cell or a new way to run cells gets the whole contract by one line in a table.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reference
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from jax.typing import DTypeLike

import lstmjax
from lstmjax.backends import native
from lstmjax.wrappers.wrapper import Wrapper

SEED = 7


@dataclasses.dataclass(frozen=True, repr=False)
class Sampled(Wrapper):
    """A cell with noise, which all rows share, and the parameters of the cell without."""

    def noisy(self, params: Any) -> Any:
        return self.cell.sample(jax.random.key(SEED), params)

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        return self.cell.step(self.noisy(params), state, inputs)


def _unroll(cell: lstmjax.Cell, params: Any, *arguments: Any, **options: Any) -> Any:
    if isinstance(cell, Sampled):
        cell, params = cell.cell, cell.noisy(params)
    return lstmjax.unroll(cell, params, *arguments, **options)


WAYS: dict[str, Callable[..., Any]] = {
    "scan": functools.partial(_unroll, backend="scan"),
    "hoisted": functools.partial(_unroll, backend="hoisted"),
    "fused": functools.partial(_unroll, backend="fused"),
}
"""Ways to run a cell over sequences, with the arguments and results of `lstmjax.unroll`."""

if jax.default_backend() != "gpu":  # in interpret mode; compiled, it has no float64: test_pallas.py
    WAYS["pallas"] = functools.partial(_unroll, backend="pallas")

if native.load() is None:  # test_native.py tells why it is not, and fails where it should be
    WAYS["native"] = functools.partial(_unroll, backend="native")

LSTM_WAYS = tuple(WAYS)
"""The ways that differ for the usual LSTM."""

ELEMENTWISE_WAYS = tuple(way for way in WAYS if way not in ("pallas", "hoisted"))
"""The ways that differ for other cells of stages: products, each with a function of each unit after it."""

FASTEST = ELEMENTWISE_WAYS[-1:]
"""The one of most users: for what differs little from a cell that goes by all ways."""

WAYS["associative"] = functools.partial(_unroll, backend="associative")
WAYS["chunkwise"] = functools.partial(_unroll, backend="chunkwise")
WAYS["newton"] = functools.partial(_unroll, backend="newton")


class Case(NamedTuple):
    make: Callable[[DTypeLike], lstmjax.Cell]
    """The cell, small, for a dtype."""
    step: reference.Step
    """What its step computes."""
    ways: tuple[str, ...] = ("hoisted",)
    """The ways that differ for it: all others are this, or a plain scan."""
    reachable: Callable[[Any], Any] = lambda state: state
    """From a state of random numbers to one that a run may come to."""


def positive_normalizer(state: Any) -> Any:
    """An sLSTM's memory is divided by its normalizer, which is a sum of exponentials."""
    return state._replace(normalizer=np.exp(state.normalizer))


def _noisy(name: str) -> Any:
    """Noise and parameters of a cell of the table."""
    cell = CELLS[name].make(jnp.float32)
    assert isinstance(cell, Sampled)
    return cell.noisy(cell.init(jax.random.key(0)))


@functools.cache
def _dropped() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors for inputs, hidden state and outputs of the lower cell of "dropout"."""
    (below, masks), _ = _noisy("dropout")
    return tuple(np.asarray(mask, np.float64) for mask in (masks.inputs, below.noise, masks.outputs))


@functools.cache
def _dropped_above() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_dropped`, of the upper cell."""
    _, above = _noisy("dropout")
    return np.ones(3), np.ones(3), np.asarray(above.cell.noise.outputs, np.float64)


@functools.cache
def _in_step(layer: int, number: int, size: int, step: int) -> np.ndarray:
    """A mask of "stepwise": a function of the layer's key, the number of the step, and which mask it is."""
    key = jax.random.fold_in(jax.random.fold_in(_noisy("stepwise")[layer].noise, step % 2**32), number)
    return np.asarray(jax.random.bernoulli(key, jnp.float32(0.5), (size,)))


CELLS: dict[str, Case] = {
    "lstm": Case(lambda dtype: lstmjax.lstm(2, 3, dtype=dtype), reference.lstm, (*LSTM_WAYS, "newton")),
    "lstm_chrono": Case(
        lambda dtype: lstmjax.lstm(1, 1, forget_bias=lstmjax.initializers.chrono(10.0), dtype=dtype),
        reference.lstm,
        FASTEST,
    ),
    "lstm_without_bias": Case(
        lambda dtype: lstmjax.lstm(2, 3, bias=False, dtype=dtype), reference.lstm, FASTEST
    ),
    "peepholes_of_1997": Case(
        lambda dtype: lstmjax.lstm(2, 3, forget_gate=False, peepholes=True, dtype=dtype),
        reference.lstm_variant(gates="io"),
        ("scan", *FASTEST),
    ),
    "coupled_recurrent": Case(
        lambda dtype: lstmjax.lstm(2, 3, coupled=True, full_gate_recurrence=True, dtype=dtype),
        reference.lstm_variant(gates="io", coupled=True),
    ),
    "normalized_projected": Case(
        lambda dtype: lstmjax.lstm(2, 3, layer_norm=True, projection=2, dtype=dtype),
        reference.lstm_variant(),
    ),
    "multiplicative": Case(
        lambda dtype: lstmjax.multiplicative_lstm(2, 3, dtype=dtype),
        reference.multiplicative_lstm,
        ELEMENTWISE_WAYS,
    ),
    "conv_lstm": Case(
        lambda dtype: lstmjax.conv_lstm(2, 3, 1, 1, peepholes=True, dtype=dtype), reference.conv_lstm
    ),
    "elman": Case(lambda dtype: lstmjax.elman(2, 3, dtype=dtype), reference.elman, ("scan", *FASTEST)),
    "gru": Case(lambda dtype: lstmjax.gru(2, 3, dtype=dtype), reference.gru, ELEMENTWISE_WAYS),
    "min_lstm": Case(
        lambda dtype: lstmjax.min_lstm(2, 3, dtype=dtype),
        reference.min_lstm,
        ("scan", "associative", *FASTEST),
    ),
    "slstm": Case(
        lambda dtype: lstmjax.slstm(2, 4, heads=2, dtype=dtype),
        reference.slstm(),
        reachable=positive_normalizer,
    ),
    "mlstm": Case(
        lambda dtype: lstmjax.mlstm(2, 4, heads=2, dtype=dtype), reference.mlstm(), ("scan", "chunkwise")
    ),
    "stack": Case(
        lambda dtype: lstmjax.stack(lstmjax.lstm(2, 3, dtype=dtype), lstmjax.gru(3, 2, dtype=dtype)),
        reference.stack(reference.lstm, reference.gru),
        LSTM_WAYS,
    ),
    "residual": Case(
        lambda dtype: lstmjax.residual(lstmjax.lstm(3, 3, dtype=dtype)),
        reference.residual(reference.lstm),
        ("scan", *FASTEST),
    ),
    "nested": Case(
        lambda dtype: lstmjax.stack(
            lstmjax.elman(2, 3, dtype=dtype),
            lstmjax.residual(lstmjax.stack(lstmjax.lstm(3, 4, dtype=dtype), lstmjax.gru(4, 3, dtype=dtype))),
        ),
        reference.stack(reference.elman, reference.residual(reference.stack(reference.lstm, reference.gru))),
        ("scan", *FASTEST),
    ),
    "dropout": Case(
        lambda dtype: Sampled(
            lstmjax.stack(
                lstmjax.dropout(lstmjax.lstm(2, 3, dtype=dtype), inputs=0.5, hidden=0.5, outputs=0.5),
                lstmjax.highway(lstmjax.dropout(lstmjax.lstm(3, 3, dtype=dtype), outputs=0.5)),
            )
        ),
        reference.stack(
            reference.dropout(reference.lstm, _dropped),
            reference.highway(reference.dropout(reference.lstm, _dropped_above)),
        ),
        ("scan", *FASTEST),
    ),
    "stepwise": Case(
        lambda dtype: Sampled(
            lstmjax.stack(
                lstmjax.zoneout(lstmjax.lstm(2, 3, dtype=dtype), hidden=0.5, memory=0.5),
                lstmjax.recurrent_dropout(lstmjax.lstm(3, 2, dtype=dtype), 0.5),
            )
        ),
        reference.stack(
            reference.zoneout(
                reference.lstm, lambda step: (_in_step(0, 0, 3, step), _in_step(0, 1, 3, step))
            ),
            reference.lstm_with_recurrent_dropout(lambda step: 2.0 * ~_in_step(1, 0, 2, step)),
        ),
    ),
    "truncated": Case(
        lambda dtype: lstmjax.clip_gradient(lstmjax.truncate_gradient(lstmjax.lstm(2, 3, dtype=dtype)), 1e3),
        reference.truncated(reference.lstm),
    ),
}
"""Cells that differ in structure: each goes through the whole contract, by each of its ways."""


def _variant(step: reference.Step, **options: Any) -> Case:
    more = {"layer_norm", "projection", "full_gate_recurrence"} & options.keys()
    ways = ("hoisted",) if more else ELEMENTWISE_WAYS
    return Case(lambda dtype: lstmjax.lstm(2, 3, dtype=dtype, **options), step, ways)


VARIANTS: dict[str, Case] = {
    "no_forget_gate": _variant(reference.lstm_variant(gates="io"), forget_gate=False),
    "no_input_gate": _variant(reference.lstm_variant(gates="fo"), input_gate=False),
    "no_output_gate": _variant(reference.lstm_variant(gates="if"), output_gate=False),
    "no_gate": _variant(
        reference.lstm_variant(gates=""), forget_gate=False, input_gate=False, output_gate=False
    ),
    "no_candidate_activation": _variant(
        reference.lstm_variant(candidate=lambda x: x), candidate_activation="identity"
    ),
    "no_output_activation": _variant(
        reference.lstm_variant(output=lambda x: x), output_activation="identity"
    ),
    "coupled": _variant(reference.lstm_variant(gates="io", coupled=True), coupled=True),
    "peepholes": _variant(reference.lstm_variant(), peepholes=True),
    "full_gate_recurrence": _variant(reference.lstm_variant(), peepholes=True, full_gate_recurrence=True),
    "layer_norm": _variant(reference.lstm_variant(), layer_norm=True),
    "projection": _variant(reference.lstm_variant(), projection=2),
    "wide_projection": _variant(reference.lstm_variant(), projection=5),
    "activations": _variant(
        reference.lstm_variant(
            candidate=lambda x: 4 * reference.sigmoid(x) - 2,
            output=lambda x: 2 * reference.sigmoid(x) - 1,
            squash=lambda x: (1 + np.tanh(x)) / 2,
        ),
        candidate_activation=lambda x: 4 * jax.nn.sigmoid(x) - 2,
        output_activation=lambda x: 2 * jax.nn.sigmoid(x) - 1,
        gate_activation=lambda x: (1 + jnp.tanh(x)) / 2,
    ),
    "everything": _variant(
        reference.lstm_variant(gates="io", coupled=True, candidate=lambda x: x),
        peepholes=True,
        coupled=True,
        full_gate_recurrence=True,
        layer_norm=True,
        projection=2,
        candidate_activation="identity",
    ),
    "conv_lstm_without_peepholes": Case(
        lambda dtype: lstmjax.conv_lstm(3, 2, 2, 1, kernel_size=2, dtype=dtype), reference.conv_lstm
    ),
    "gru_reset_before": Case(
        lambda dtype: lstmjax.gru(2, 3, reset_after=False, dtype=dtype), reference.gru, ELEMENTWISE_WAYS
    ),
    "min_gru": Case(lambda dtype: lstmjax.min_gru(2, 3, dtype=dtype), reference.min_gru, ("associative",)),
    "slstm_exponential_forget": Case(
        lambda dtype: lstmjax.slstm(2, 3, exponential_forget=True, dtype=dtype),
        reference.slstm(forget=lambda x: x),
        reachable=positive_normalizer,
    ),
    "mlstm_exponential_forget": Case(
        lambda dtype: lstmjax.mlstm(2, 3, heads=3, exponential_forget=True, dtype=dtype),
        reference.mlstm(forget=lambda x: x),
        ("scan", "chunkwise"),
    ),
}
"""Cells that differ from those above in a formula (test_general_lstm.py)."""

ALL = CELLS | VARIANTS

RUNS = [(name, way) for name, case in CELLS.items() for way in case.ways]
"""Each cell by each of its ways."""

SHAPES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((4,), 5),
    ((), 5),
    ((1, 2), 1),
    ((0,), 2),
    ((2,), 0),
)
"""Batch shapes and times: ranks 0 to 2, empty batches, time 0 and 1. The first is the usual one."""

JUNK = (np.nan, np.inf, -np.inf, 1e300, -1e300)


class Problem(NamedTuple):
    """What a cell is to be run over, and the weights of a loss that is linear in the result."""

    params: Any
    inputs: np.ndarray
    state: Any
    lengths: np.ndarray
    resets: np.ndarray
    weights: Any
    reverse: bool


class Result(NamedTuple):
    state: Any
    outputs: Any


class Gradients(NamedTuple):
    params: Any
    inputs: Any
    state: Any


def random_like(tree: Any, random: np.random.Generator, scale: float = 1.0) -> Any:
    """Normal numbers in the shapes and dtypes of a tree."""
    return jax.tree.map(lambda leaf: (scale * random.standard_normal(leaf.shape)).astype(leaf.dtype), tree)


def random_problem(
    name: str,
    batch_shape: tuple[int, ...],
    time: int,
    seed: int,
    *,
    lengths: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    reverse: bool = False,
    dtype: DTypeLike = jnp.float64,
) -> Problem:
    """Random numbers everywhere; lengths and resets are random too unless given."""
    random = np.random.default_rng(seed)
    cell = ALL[name].make(dtype)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(functools.partial(cell.initial_state, batch_shape))
    inputs = jax.ShapeDtypeStruct((*batch_shape, time, cell.features), dtype)
    outputs = jax.ShapeDtypeStruct((*batch_shape, time, cell.output_size), dtype)
    if lengths is None:
        lengths = random.integers(0, time + 1, batch_shape, np.int32)
    if resets is None:
        resets = random.random((*batch_shape, time)) < 0.3
    return Problem(
        params=random_like(params, random, 0.5),
        inputs=random_like(inputs, random),
        state=ALL[name].reachable(random_like(state, random)),
        lengths=np.asarray(lengths, np.int32),
        resets=np.asarray(resets),
        weights=random_like(Result(state, outputs), random),
        reverse=reverse,
    )


def draw_problem(
    data: st.DataObject, name: str, shapes: tuple[tuple[tuple[int, ...], int], ...] = SHAPES[:1]
) -> Problem:
    """A problem in float64 for a cell, with lengths and resets of every kind, and junk as padding."""
    batch_shape, time = data.draw(st.sampled_from(shapes), "shape")
    problem = random_problem(
        name,
        batch_shape,
        time,
        seed=data.draw(st.integers(0, 2**32 - 1), "seed"),
        lengths=data.draw(npst.arrays(np.int32, batch_shape, elements=st.integers(0, time)), "lengths"),
        resets=data.draw(npst.arrays(np.bool_, (*batch_shape, time)), "resets"),
        reverse=data.draw(st.booleans(), "reverse"),
    )
    return problem._replace(inputs=fill_padding(problem, data.draw(st.sampled_from(JUNK), "junk")))


def padding(problem: Problem) -> np.ndarray:
    """Where inputs are padding, ``[..., time]``."""
    time = problem.inputs.shape[-2]
    return np.arange(time) >= problem.lengths[..., None]


def fill_padding(problem: Problem, value: float) -> np.ndarray:
    """The inputs with ``value`` in all of the padding."""
    dtype = problem.inputs.dtype
    return np.where(padding(problem)[..., None], np.asarray(value, dtype), problem.inputs)


@functools.partial(jax.jit, static_argnames=("way", "reverse"))
def _run(
    way: str,
    cell: lstmjax.Cell,
    params: Any,
    inputs: Any,
    state: Any,
    lengths: Any,
    resets: Any,
    weights: Any,
    reverse: bool,
) -> tuple[Result, Gradients]:
    def forward(params: Any, inputs: Any, state: Any) -> Result:
        return Result(*WAYS[way](cell, params, inputs, state, lengths, resets, reverse))

    result, pullback = jax.vjp(forward, params, inputs, state)
    return result, Gradients(*pullback(weights))


def run(
    name: str, problem: Problem, way: str = "fused", dtype: DTypeLike = jnp.float64
) -> tuple[Result, Gradients]:
    """Result and gradients of the weighted sum of all that comes out; compiled once for each shape.

    The cell is made anew each time and goes through `jax.jit` as an argument like any other.
    """
    *arguments, weights, reverse = problem
    result = _run(way, ALL[name].make(dtype), *arguments, weights, reverse)
    return jax.tree.map(np.asarray, result)


def shapes_of_run(name: str, problem: Problem, way: str, dtype: DTypeLike) -> tuple[Result, Gradients]:
    """Shapes and dtypes of what `run` returns, without a compilation."""
    *arguments, weights, reverse = problem
    function = functools.partial(_run, way, ALL[name].make(dtype), reverse=reverse)
    return jax.eval_shape(function, *arguments, weights)


def expect(name: str, problem: Problem) -> Result:
    """What the oracle says should come out."""
    problem = in_double(problem)
    initial = initial_row(name)
    return Result(
        *reference.unroll(
            ALL[name].step,
            problem.params,
            problem.inputs,
            initial,
            problem.state,
            problem.lengths,
            problem.resets,
            problem.reverse,
        )
    )


def expect_loss(name: str, problem: Problem) -> Callable[[Gradients], Any]:
    """The weighted sum of what comes out, as a function of params, inputs and state, by the oracle."""
    weights = in_double(problem).weights

    def loss(at: Gradients) -> Any:
        result = expect(name, problem._replace(params=at.params, inputs=at.inputs, state=at.state))
        return reference.inner(result, weights)

    return loss


def arguments(problem: Problem) -> Gradients:
    """What a problem can be differentiated by, in float64."""
    problem = in_double(problem)
    return Gradients(problem.params, problem.inputs, problem.state)


def initial_row(name: str) -> Any:
    """The initial state of one row: zeros, for every cell there is (test_cell.py)."""
    state = jax.eval_shape(ALL[name].make(jnp.float32).initial_state)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape), state)


def in_double(tree: Any) -> Any:
    """The same numbers in float64."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf.astype(np.float64)

    return jax.tree.map(one, tree)


def assert_as_scan(
    way: str, cell: Any, weights: Any, params: Any, inputs: Any, state: Any, *rest: Any
) -> None:
    """A way gives the last state, the outputs and the gradients of their weighted sum that the scan gives."""

    def loss(way: str, params: Any, inputs: Any, state: Any) -> Any:
        found = WAYS[way](cell, params, inputs, state, *rest)
        return sum(jax.tree.leaves(jax.tree.map(lambda x, w: (x * w).sum(), found, weights))), found

    ours, expected = (
        jax.jit(jax.value_and_grad(functools.partial(loss, each), (0, 1, 2), has_aux=True))(
            params, inputs, state
        )
        for each in (way, "scan")
    )
    assert_close(ours, expected, 1e-10)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Equal trees, up to rounding: relative to each number, and to 1 where numbers are smaller."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, want), have in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True
    ):
        have, want = np.asarray(have), np.asarray(want)
        assert have.shape == want.shape, jax.tree_util.keystr(path)
        np.testing.assert_allclose(
            have.astype(np.float64),
            want.astype(np.float64),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=False,
            err_msg=jax.tree_util.keystr(path),
        )


def assert_equal(actual: Any, expected: Any) -> None:
    """Equal trees, bit for bit; NaN is equal to nothing."""
    assert_close(actual, expected, tolerance=0.0)
