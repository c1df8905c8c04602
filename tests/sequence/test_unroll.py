"""The sequence contract (docs/design.md), point by point, for every cell and every way to run it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import (
    CELLS,
    LSTM_WAYS,
    RUNS,
    SHAPES,
    WAYS,
    Gradients,
    Problem,
    Result,
    arguments,
    assert_close,
    assert_equal,
    draw_problem,
    expect,
    expect_loss,
    fill_padding,
    in_double,
    padding,
    random_like,
    random_problem,
    run,
    shapes_of_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

import lstmjax
from lstmjax.wrappers.wrapper import Wrapper

pytestmark = pytest.mark.usefixtures("exact")

each_run = pytest.mark.parametrize(("name", "way"), RUNS)
each_way = pytest.mark.parametrize("way", LSTM_WAYS)
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])

DTYPES = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2}
"""Dtypes of the computation, and how far a result may be from the same in exact arithmetic."""


# 1. `unroll` equals a Python loop over `step`, and equals the NumPy reference, in values and gradients.


@each_run
@settings(max_examples=40)
@given(data=st.data())
def test_contract_01_equals_the_reference(name: str, way: str, data: st.DataObject) -> None:
    problem = draw_problem(data, name, SHAPES[:3])
    result, gradients = run(name, problem, way)
    assert_close(result, expect(name, problem))
    at, loss = arguments(problem), expect_loss(name, problem)
    random = np.random.default_rng(0)
    for part in Gradients._fields:
        direction = jax.tree.map(np.zeros_like, at)._replace(**{part: random_like(getattr(at, part), random)})
        slope = reference.derivative(loss, at, direction)
        assert_close(reference.inner(gradients, direction), slope)


@each_run
@each_direction
def test_contract_01_every_entry_of_every_gradient(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=1, reverse=reverse)
    _, gradients = run(name, problem, way)
    expected = reference.gradient(expect_loss(name, problem), arguments(problem))
    assert_close(gradients, expected)


@functools.partial(jax.jit, static_argnums=0)
def _step(cell: lstmjax.Cell, params: Any, state: Any, inputs: Any) -> Any:
    return cell.step(params, state, inputs)


@each_run
@each_direction
def test_contract_01_equals_a_loop_over_step(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=2, reverse=reverse)
    cell, time = CELLS[name].make(jnp.float64), problem.inputs.shape[-2]
    state, outputs = problem.state, [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        state, outputs[t] = _step(cell, problem.params, state, problem.inputs[:, t])
    everything = problem._replace(
        lengths=np.full_like(problem.lengths, time), resets=np.zeros_like(problem.resets)
    )
    result, _ = run(name, everything, way)
    assert_close(result, Result(state, np.stack(outputs, axis=1)), 1e-13)


@each_run
def test_contract_01_defaults_are_zero_state_full_length_and_no_resets(name: str, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=3)
    defaults = problem._replace(state=None, lengths=None, resets=None)
    explicit = problem._replace(
        state=jax.tree.map(np.zeros_like, problem.state),
        lengths=np.full_like(problem.lengths, problem.inputs.shape[-2]),
        resets=np.zeros_like(problem.resets),
    )
    result, gradients = run(name, defaults, way)
    expected, expected_gradients = run(name, explicit, way)
    assert gradients.state is None
    assert_close(result, expected, 1e-13)
    assert_close(gradients._replace(state=0.0), expected_gradients._replace(state=0.0), 1e-13)


@pytest.mark.parametrize("without", ["state", "lengths", "resets"])
@each_direction
def test_contract_01_each_argument_may_be_left_out_alone(without: str, reverse: bool) -> None:
    problem = random_problem("lstm", *SHAPES[0], seed=4, reverse=reverse)
    problem = problem._replace(**{without: None})
    assert_close(run("lstm", problem)[0], expect("lstm", problem))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_contract_01_lengths_may_be_integers_of_any_dtype(dtype: str) -> None:
    time = 300  # More than 8 bits hold; a length is as large as its dtype allows.
    lengths = np.array([0, 3, min(time, np.iinfo(dtype).max)], dtype)
    cell = lstmjax.elman(1, 1, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    _, outputs = lstmjax.unroll(cell, params, np.ones((3, time, 1)), lengths=lengths)
    np.testing.assert_array_equal(np.sum(outputs[..., 0] != 0, axis=-1), lengths)


# 2. Two halves with the carried state equal the whole.


@each_run
@given(data=st.data())
def test_contract_02_two_halves_equal_the_whole(name: str, way: str, data: st.DataObject) -> None:
    problem = draw_problem(data, name)
    middle = data.draw(st.sampled_from([2, 3]), "middle")
    if problem.reverse:
        # A reset at the first step of the later half lies between the halves: in reverse, whoever carries
        # the state from one to the other sees to it that none is carried there.
        problem.resets[..., middle] = False
    whole, _ = run(name, problem, way)
    earlier = problem._replace(
        inputs=problem.inputs[..., :middle, :],
        lengths=np.minimum(problem.lengths, middle),
        resets=problem.resets[..., :middle],
        weights=None,
    )
    later = problem._replace(
        inputs=problem.inputs[..., middle:, :],
        lengths=np.maximum(problem.lengths - middle, 0),
        resets=problem.resets[..., middle:],
        weights=None,
    )
    first, second = (later, earlier) if problem.reverse else (earlier, later)
    first_result = _values(name, first, way)
    second_result = _values(name, second._replace(state=first_result.state), way)
    halves = (first_result, second_result)[:: -1 if problem.reverse else 1]
    outputs = np.concatenate([half.outputs for half in halves], axis=-2)
    assert_close(Result(second_result.state, outputs), whole, 1e-13)


def _values(name: str, problem: Problem, way: str) -> Result:
    *arguments, _, reverse = problem
    return Result(*WAYS[way](CELLS[name].make(jnp.float64), *arguments, reverse))


# 3. Padding never matters.


@each_run
@settings(max_examples=30)
@given(data=st.data())
def test_contract_03_padding_never_matters(name: str, way: str, data: st.DataObject) -> None:
    problem = draw_problem(data, name)
    clean = problem._replace(inputs=fill_padding(problem, 0.0), resets=problem.resets & ~padding(problem))
    result, gradients = run(name, problem, way)
    assert_equal((result, gradients), run(name, clean, way))
    assert not result.outputs[padding(problem)].any()
    assert not gradients.inputs[padding(problem)].any()


# 4. A row of length 0 returns its initial state and gives zero gradient.


@each_run
@given(data=st.data())
def test_contract_04_a_row_of_length_zero_does_nothing(name: str, way: str, data: st.DataObject) -> None:
    problem = draw_problem(data, name)
    empty = data.draw(st.sampled_from([np.array([1, 3]), np.arange(4)]))
    problem.lengths[empty] = 0
    problem = problem._replace(inputs=fill_padding(problem, np.nan))
    result, gradients = run(name, problem, way)
    rows = functools.partial(jax.tree.map, lambda leaf: leaf[empty])
    assert_equal(rows(result.state), rows(problem.state))
    assert not result.outputs[empty].any()
    assert not gradients.inputs[empty].any()
    assert_equal(rows(gradients.state), rows(problem.weights.state))
    if len(empty) == 4:
        assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.params))


@each_run
@each_direction
def test_contract_04_empty_rows_add_nothing_to_the_gradient(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=5, lengths=[4, 0, 5, 0], reverse=reverse)
    other = random_problem(name, *SHAPES[0], seed=6, lengths=[4, 0, 5, 0], reverse=reverse)
    changed = problem._replace(
        inputs=np.where(problem.lengths[:, None, None] == 0, other.inputs, problem.inputs)
    )
    _, gradients = run(name, problem, way)
    assert_equal(run(name, changed, way)[1].params, gradients.params)


# 5. A reset at t equals starting a new sequence at t.


@each_run
@given(data=st.data())
def test_contract_05_a_reset_starts_a_new_sequence(name: str, way: str, data: st.DataObject) -> None:
    """One reset in the middle, against the two sequences on their own, each moved to the front."""
    problem = draw_problem(data, name)
    time = problem.inputs.shape[-2]
    t = data.draw(st.integers(1, time - 1))
    once = np.zeros_like(problem.resets)
    once[:, t] = True
    fresh = jax.tree.map(np.zeros_like, problem.state)
    packed, _ = run(name, problem._replace(resets=once), way)
    none = np.zeros_like(once)
    before = problem._replace(lengths=np.minimum(problem.lengths, t), resets=none)
    after = problem._replace(
        inputs=np.roll(problem.inputs, -t, axis=-2),
        lengths=np.maximum(problem.lengths - t, 0),
        resets=none,
    )
    # The sequence run first has the given state; a row that ends before the reset has but one sequence.
    crossing = problem.lengths > t
    state = _rows(crossing, fresh, problem.state)
    if problem.reverse:
        before = before._replace(state=state)
    else:
        after = after._replace(state=fresh)
    before_result, _ = run(name, before, way)
    after_result, _ = run(name, after, way)
    outputs = np.concatenate([before_result.outputs[:, :t], after_result.outputs[:, : time - t]], axis=1)
    last = before_result.state
    final = last if problem.reverse else _rows(crossing, after_result.state, last)
    assert_close(packed, Result(final, outputs), 1e-13)


@each_run
@each_direction
def test_contract_05_no_gradient_crosses_a_reset(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=7, lengths=[5] * 4, reverse=reverse)
    problem.resets[:] = np.arange(5) == 3
    first, second = (slice(3, 5), slice(3)) if reverse else (slice(3), slice(3, 5))
    problem.weights.outputs[:, first] = 0  # A loss of the sequence that runs second, and of its state.
    _, gradients = run(name, problem, way)
    assert not gradients.inputs[:, first].any()
    assert gradients.inputs[:, second].any()
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.state))


@each_run
def test_contract_05_a_reset_at_the_first_step_drops_the_given_state(name: str, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=8, lengths=[5, 5, 1, 0])
    problem.resets[:] = np.arange(5) == 0
    result, gradients = run(name, problem, way)
    fresh = problem._replace(
        resets=np.zeros_like(problem.resets),
        state=_rows(problem.lengths > 0, jax.tree.map(np.zeros_like, problem.state), problem.state),
    )
    assert_equal(result, run(name, fresh, way)[0])
    assert all(not leaf[:3].any() for leaf in jax.tree.leaves(gradients.state))
    assert_equal(
        run(name, problem._replace(reverse=True), way)[0],
        run(name, fresh._replace(reverse=True, state=problem.state), way)[0],
    )


def _rows(mask: np.ndarray, on_true: Any, on_false: Any) -> Any:
    return jax.tree.map(lambda a, b: np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b), on_true, on_false)


# 6. `reverse=True` with lengths reverses the valid part only; so does a bidirectional layer.


@each_run
@given(data=st.data())
def test_contract_06_reverse_turns_the_valid_part_around(name: str, way: str, data: st.DataObject) -> None:
    problem = draw_problem(data, name)
    problem = problem._replace(resets=np.zeros_like(problem.resets), reverse=True)
    result, gradients = run(name, problem, way)
    flipped = problem._replace(
        inputs=_flip(problem.inputs, problem.lengths),
        weights=problem.weights._replace(outputs=_flip(problem.weights.outputs, problem.lengths)),
        reverse=False,
    )
    expected, expected_gradients = run(name, flipped, way)
    assert_close(result, expected._replace(outputs=_flip(expected.outputs, problem.lengths)), 1e-13)
    turned = _flip(expected_gradients.inputs, problem.lengths)
    assert_close(gradients, expected_gradients._replace(inputs=turned), 1e-12)


def _flip(sequences: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Each row's valid part turned around, the padding left where it is."""
    flipped = sequences.copy()
    for row, length in enumerate(lengths):
        flipped[row, :length] = sequences[row, :length][::-1]
    return flipped


# 7. Any batch rank, none included; time may be 0 or 1.


@each_run
def test_contract_07_any_batch_rank(name: str, way: str) -> None:
    flat = random_problem(name, *SHAPES[0], seed=9)
    result, _ = run(name, flat, way)
    square, _ = run(name, _over_batch(flat, lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:])), way)
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(4, *leaf.shape[2:]), square), result, 1e-13)
    single, _ = run(name, _over_batch(flat, lambda leaf: np.asarray(leaf[2])), way)
    assert_close(single, jax.tree.map(lambda leaf: leaf[2], result), 1e-13)


def _over_batch(problem: Problem, function: Callable[[np.ndarray], np.ndarray]) -> Problem:
    """Everything in a problem that has batch axes, changed."""
    changed = jax.tree.map(function, problem._replace(params=None, reverse=None))
    return changed._replace(params=problem.params, reverse=problem.reverse)


@each_run
def test_contract_07_no_time_returns_the_state(name: str, way: str) -> None:
    problem = random_problem(name, (2,), 0, seed=10, reverse=True)
    result, gradients = run(name, problem, way)
    assert_equal(result.state, problem.state)
    assert result.outputs.shape == problem.weights.outputs.shape
    assert_equal(gradients.state, problem.weights.state)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.params))


@each_run
def test_contract_07_one_step_of_time_is_a_step(name: str, way: str) -> None:
    problem = random_problem(name, (1, 2), 1, seed=11, lengths=[[1, 1]], resets=[[[False]] * 2])
    state, output = _step(
        CELLS[name].make(jnp.float64), problem.params, problem.state, problem.inputs[..., 0, :]
    )
    for reverse in (False, True):
        result, _ = run(name, problem._replace(reverse=reverse), way)
        assert_close(result, Result(state, output[..., None, :]), 1e-13)


@each_run
def test_contract_07_an_empty_batch_has_empty_results(name: str, way: str) -> None:
    problem = random_problem(name, (0,), 2, seed=12)
    result, gradients = run(name, problem, way)
    assert result.outputs.shape == problem.weights.outputs.shape
    assert_equal(result.state, problem.state)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.params))


# 8. It works under jit, vmap, grad, jacfwd, hessian-vector products, remat and shard_map; no retrace.


@each_run
def test_contract_08_without_and_with_jit(name: str, way: str) -> None:
    """Outside of jit (where lengths are known), and in it (where they are not)."""
    problem = random_problem(name, *SHAPES[0], seed=13)
    assert_close(_values(name, problem, way), run(name, problem, way)[0], 1e-13)


@each_run
def test_contract_08_vmap(name: str, way: str) -> None:
    """Over everything, parameters and lengths included; each result as if computed alone."""
    alone = [random_problem(name, *SHAPES[0], seed=seed) for seed in (14, 15)]
    unroll = functools.partial(WAYS[way], CELLS[name].make(jnp.float64))

    @jax.jit
    def together(*arrays: Any) -> tuple[Result, Any]:
        *arguments, weights = arrays
        result, pullback = jax.vjp(jax.vmap(unroll), *arguments)
        return Result(*result), pullback(tuple(weights))[:3]

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(problem[:-1] for problem in alone))
    actual = together(*stacked)
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *(run(name, p, way) for p in alone))
    assert_close(actual[0], expected[0], 1e-13)
    assert_close(Gradients(*actual[1]), expected[1], 1e-12)


@each_run
def test_contract_08_jacfwd(name: str, way: str) -> None:
    """Forward mode against reverse mode: the Jacobian, weighted, is the gradient of the weighted sum."""
    problem = _single_row(name, seed=16)

    @jax.jit
    def jacobian(at: Gradients) -> Result:
        return jax.jacfwd(functools.partial(_forward, name, way, problem))(at)

    rows = jax.tree.leaves(jacobian(arguments(problem)), is_leaf=lambda x: isinstance(x, Gradients))
    weighted = [
        jax.tree.map(functools.partial(np.tensordot, weights, axes=weights.ndim), row)
        for weights, row in zip(jax.tree.leaves(problem.weights), rows, strict=True)
    ]
    total = jax.tree.map(lambda *leaves: sum(leaves), *weighted)
    assert_close(total, run(name, problem, way)[1], 1e-12)


@each_way
@pytest.mark.parametrize("name", ["nested"])
def test_contract_08_jacfwd_equals_jacrev(name: str, way: str) -> None:
    problem = _single_row(name, seed=16)
    forward = functools.partial(_forward, name, way, problem)
    jacobians = jax.jit(lambda at: (jax.jacfwd(forward)(at), jax.jacrev(forward)(at)))
    assert_close(*jacobians(arguments(problem)), 1e-12)


def _single_row(name: str, seed: int) -> Problem:
    problem = random_problem(name, *SHAPES[1], seed=seed, lengths=3, resets=np.arange(5) == 1)
    return problem._replace(inputs=fill_padding(problem, np.nan))


def _forward(name: str, way: str, problem: Problem, at: Gradients) -> Result:
    """A problem's result as a function of what it can be differentiated by."""
    cell, (*_, lengths, resets, _, reverse) = CELLS[name].make(jnp.float64), problem
    return Result(*WAYS[way](cell, at.params, at.inputs, at.state, lengths, resets, reverse))


# What `truncate_gradient` cuts is cut in both derivatives, which the oracle takes by differences in one.
@pytest.mark.parametrize(("name", "way"), [run for run in RUNS if run[0] != "truncated"])
def test_contract_08_hessian_vector_products(name: str, way: str) -> None:
    """Forward over reverse, against differences of the oracle's exact gradient in one direction."""
    problem = _single_row(name, seed=17)
    at, random = arguments(problem), np.random.default_rng(17)
    one, other = random_like(at, random), random_like(at, random)

    @jax.jit
    def product(at: Gradients, direction: Gradients) -> Gradients:
        def loss(at: Gradients) -> jax.Array:
            result = _forward(name, way, problem, at)
            products = jax.tree.map(lambda a, b: (a * b).sum(), problem.weights, result)
            return sum(jax.tree.leaves(products))

        return jax.jvp(jax.grad(loss), (at,), (direction,))[1]

    def slope(step: float) -> float:
        moved = jax.tree.map(lambda x, v: x + step * v, at, one)
        return reference.derivative(expect_loss(name, problem), moved, other)

    actual = reference.inner(product(at, one), other)
    # Differences of fourth order: what they leave out is of order step ** 4, and the rounding 1e-16 / step.
    step = 1e-3
    expected = (8 * (slope(step) - slope(-step)) - (slope(2 * step) - slope(-2 * step))) / (12 * step)
    assert_close(actual, expected, 1e-8)


@each_run
def test_contract_08_remat(name: str, way: str) -> None:
    problem = _single_row(name, seed=18)
    forward = jax.checkpoint(functools.partial(_forward, name, way, problem))
    gradients = jax.jit(lambda at: jax.vjp(forward, at)[1](problem.weights)[0])
    assert_close(gradients(arguments(problem)), run(name, problem, way)[1], 1e-12)


@each_run
def test_contract_08_shard_map(name: str, way: str) -> None:
    """The batch over two devices, parameters on both, the state left to the cell."""
    problem = random_problem(name, *SHAPES[0], seed=19)._replace(state=None)
    cell = CELLS[name].make(jnp.float64)
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    everywhere, split = PartitionSpec(), PartitionSpec("devices")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(everywhere, split, split, split), out_specs=split)
    def unroll(params: Any, inputs: Any, lengths: Any, resets: Any) -> Any:
        return WAYS[way](cell, params, inputs, None, lengths, resets)

    @jax.jit
    def sharded(params: Any, inputs: Any, lengths: Any, resets: Any, weights: Any) -> Any:
        def forward(params: Any, inputs: Any) -> Any:
            return unroll(params, inputs, lengths, resets)

        result, pullback = jax.vjp(forward, params, inputs)
        return Result(*result), Gradients(*pullback(tuple(weights)), None)

    params, inputs, _, lengths, resets, weights, _ = problem
    actual = sharded(params, inputs, lengths, resets, weights)
    assert_close(actual, run(name, problem, way), 1e-12)


@each_way
def test_contract_08_gradients_taken_within_shard_map(way: str) -> None:
    """As a training step takes them: parameters are on all devices, and so is the sum of their gradients."""
    problem = random_problem("lstm", *SHAPES[0], seed=23)
    cell = CELLS["lstm"].make(jnp.float64)
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    everywhere, split = PartitionSpec(), PartitionSpec("devices")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(everywhere, *[split] * 5), out_specs=everywhere)
    def gradient(params: Any, inputs: Any, state: Any, lengths: Any, resets: Any, weights: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            result = Result(*WAYS[way](cell, params, inputs, state, lengths, resets))
            return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), weights, result)))

        return jax.grad(loss)(params)

    actual = jax.jit(gradient)(*problem[:-1])
    assert_close(actual, run("lstm", problem, way)[1].params, 1e-12)


@dataclasses.dataclass(frozen=True, repr=False)
class CountingCell(Wrapper):
    """A cell that counts how often its step is traced."""

    traces: list[str] = dataclasses.field(default_factory=list, compare=False)

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        self.traces.append("step")
        return self.cell.step(params, state, inputs)


@each_run
def test_contract_08_equal_shapes_are_traced_once(name: str, way: str) -> None:
    """Whatever the lengths and resets, and for a cell made anew; with jit around and without."""
    cells = [CountingCell(CELLS[name].make(jnp.float64)) for _ in range(4)]
    problems = [random_problem(name, (3,), 3, seed=seed) for seed in range(4)]
    jitted = jax.jit(WAYS[way], static_argnames="reverse")
    for unroll in (WAYS[way], jitted):
        counts = []
        for cell, problem in zip(cells, problems, strict=True):
            unroll(cell, *problem[:-2], reverse=False)
            counts.append(sum(len(cell.traces) for cell in cells))
        assert counts[0] > 0
        assert counts == counts[:1] * 4


# 9. Types are stated and kept: parameters, compute, cell state and outputs each have their dtype.


MEMORIES = {"cell", "gates", "normalizer", "stabilizer", "steps"}
"""Parts of a state that are at least float32."""


def _dtypes(tree: Any) -> list[str]:
    return [str(leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("dtype", DTYPES)
@each_run
def test_contract_09_dtypes_are_kept(name: str, way: str, dtype: str) -> None:
    cell, wide = CELLS[name].make(dtype), "float64" if dtype == "float64" else "float32"
    assert cell.input_dtype == dtype
    assert set(_dtypes(jax.eval_shape(cell.init, jax.random.key(0)))) == {wide}
    initial = jax.eval_shape(functools.partial(cell.initial_state, (4,)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(initial):
        is_memory = path != () and getattr(path[-1], "name", "") in MEMORIES
        assert leaf.dtype == (wide if is_memory else dtype), jax.tree_util.keystr(path)
    problem = random_problem(name, *SHAPES[0], seed=20, dtype=jnp.dtype(dtype))
    result, gradients = shapes_of_run(name, problem, way, dtype)
    assert result.outputs.dtype == dtype
    assert _dtypes(result.state) == _dtypes(initial)
    assert _dtypes(gradients) == _dtypes((problem.params, problem.inputs, problem.state))


@each_run
@pytest.mark.parametrize("argument", ["params", "inputs", "state"])
def test_contract_09_a_mismatch_says_which(name: str, argument: str, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=21)
    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float32), getattr(problem, argument))
    with pytest.raises(TypeError, match=rf"^{argument}.* dtype.*") as error:
        _values(name, problem._replace(**{argument: narrow}), way)
    assert "float32" in str(error.value)
    assert "float64" in str(error.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lstmjax.lstm, lstmjax.elman, lstmjax.gru])
def test_contract_09_parameters_may_have_another_dtype(make: Any, dtype: str) -> None:
    cell = make(2, 3, param_dtype=dtype)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    assert set(_dtypes(params)) == {dtype}

    def total(params: Any) -> tuple[jax.Array, Any]:
        state, outputs = lstmjax.unroll(cell, params, np.ones((2, 3, 2), np.float32))
        return outputs.sum(), (state, outputs)

    gradients, result = jax.eval_shape(jax.grad(total, has_aux=True), params)
    assert set(_dtypes(result)) == {"float32"}
    assert set(_dtypes(gradients)) == {dtype}


# 10. Every way gives the same, within the tolerance of its dtype, masks included.


@pytest.mark.parametrize(
    ("name", "way", "dtype"),
    [
        *((*run, dtype) for run in RUNS for dtype in ("float32", "bfloat16")),
        *(("nested", way, "float16") for way in LSTM_WAYS),
    ],
)
@pytest.mark.usefixtures("optimized")
def test_contract_10_every_way_is_right_in_every_dtype(name: str, way: str, dtype: str) -> None:
    """Against exact arithmetic on the same numbers; compiled as users' programs are."""
    problem = random_problem(name, *SHAPES[0], seed=22, dtype=jnp.dtype(dtype))
    problem = problem._replace(inputs=fill_padding(problem, np.nan))
    result, gradients = run(name, problem, way, jnp.dtype(dtype))
    tolerance = DTYPES[dtype]
    assert_close(result, expect(name, problem), tolerance)
    at = arguments(problem)
    random = np.random.default_rng(22)
    for part in Gradients._fields:
        direction = jax.tree.map(np.zeros_like, at)._replace(**{part: random_like(getattr(at, part), random)})
        slope = reference.derivative(expect_loss(name, problem), at, direction)
        assert_close(reference.inner(in_double(gradients), direction), slope, tolerance)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("time", [6, 7], ids=["even", "uneven"])
@pytest.mark.parametrize("name", ["lstm", "nested", "min_lstm"])
def test_segments_change_no_value_and_no_gradient(name, time, reverse):
    cell = CELLS[name].make(jnp.float64)
    keys = jax.random.split(jax.random.key(0), 5)
    params = cell.init(keys[0])
    inputs = jax.random.normal(keys[1], (3, time, cell.features))
    state = jax.tree.map(lambda x: np.asarray(x) + 0.5, cell.initial_state((3,)))
    resets = np.random.default_rng(3).random((3, time)) < 0.3
    lengths = np.array([time, 3, 0])

    def results(remat):
        def loss(params, inputs, state):
            after, outputs = lstmjax.unroll(
                cell, params, inputs, state, lengths, resets, reverse, remat=remat
            )
            return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves((after, outputs)))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(params, inputs, state)

    compare = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(compare, results(2), results(None))


@pytest.mark.parametrize("make", [lstmjax.min_lstm, lstmjax.min_gru, lstmjax.lstm, lstmjax.gru])
@pytest.mark.parametrize("junk", [np.nan, np.inf])
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_passes_a_reset_on_the_default_backend(make, junk, reverse):
    """Junk before a reset, in the inputs or in the given state, stays before it: 0 times NaN is no 0."""
    cell = make(2, 3, dtype="float64")
    params = cell.init(jax.random.key(0))
    inputs = np.random.default_rng(1).standard_normal((1, 8, 2))
    after = slice(0, 4) if reverse else slice(4, 8)
    dirty, resets = np.full_like(inputs, junk), np.arange(8)[None] == 4
    dirty[:, after] = inputs[:, after]
    state = jax.tree.map(lambda leaf: np.full_like(leaf, junk), cell.initial_state((1,)))

    def outputs(params, inputs, **arguments):
        last, outputs = lstmjax.unroll(cell, params, inputs, reverse=reverse, **arguments)
        return outputs, last

    found, last = jax.tree.map(np.asarray, outputs(params, dirty, state=state, resets=resets))
    expected, expected_last = outputs(params, inputs[:, after])
    assert_close(found[:, after], expected)
    assert_close(last, expected_last)

    if not reverse:  # a state that is reset at once reaches no gradient, either
        at_once = resets | (np.arange(8) == 0)

        def loss(params, **arguments):
            return (outputs(params, inputs, resets=at_once, **arguments)[0] ** 2).sum()

        gradient = jax.jit(jax.grad(loss))
        assert_close(gradient(params, state=state), gradient(params))


@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_a_state_of_weak_type_gives_results_of_strong_type(backend):
    cell = lstmjax.lstm(2, 3, dtype="float64")
    leaf = jnp.broadcast_to(jnp.asarray(0.5), (4, 3))
    assert leaf.weak_type
    state = lstmjax.LSTMState(leaf, leaf)
    state, outputs = lstmjax.unroll(
        cell, cell.init(jax.random.key(0)), jnp.ones((4, 5, 2)), state=state, backend=backend
    )
    assert not any(leaf.weak_type for leaf in (*state, outputs))
