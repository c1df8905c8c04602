"""The sequence contract (docs/design.md), point by point, for every cell and every way to run it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import (
    CELLS,
    SHAPES,
    WAYS,
    Gradients,
    Problem,
    Result,
    arguments,
    assert_close,
    assert_equal,
    expect,
    expect_loss,
    fill_padding,
    padding,
    problems,
    random_like,
    random_problem,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

each_cell = pytest.mark.parametrize("name", CELLS)
each_way = pytest.mark.parametrize("way", WAYS)
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])

DTYPES = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2}
"""Dtypes of the computation, and how far a result may be from the same in exact arithmetic."""


# 1. `unroll` equals a Python loop over `step`, and equals the NumPy reference, in values and gradients.


@each_way
@each_cell
@settings(max_examples=40)
@given(data=st.data())
def test_contract_01_equals_the_reference(name: str, way: str, data: st.DataObject) -> None:
    problem = data.draw(problems(name, SHAPES))
    result, gradients = run(name, problem, way)
    assert_close(result, expect(name, problem))
    at, loss = arguments(problem), expect_loss(name, problem)
    random = np.random.default_rng(0)
    for part in Gradients._fields:
        direction = jax.tree.map(np.zeros_like, at)._replace(**{part: random_like(getattr(at, part), random)})
        slope = reference.derivative(loss, at, direction)
        assert_close(reference.inner(gradients, direction), slope)


@each_way
@each_direction
@each_cell
def test_contract_01_every_entry_of_every_gradient(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=1, reverse=reverse)
    _, gradients = run(name, problem, way)
    expected = reference.gradient(expect_loss(name, problem), arguments(problem))
    assert_close(gradients, expected)


@functools.partial(jax.jit, static_argnums=0)
def _step(cell: lstmjax.Cell, params: Any, state: Any, inputs: Any) -> Any:
    return cell.step(params, state, inputs)


@each_way
@each_direction
@each_cell
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


@each_way
@each_direction
@each_cell
def test_contract_01_defaults_are_zero_state_full_length_and_no_resets(
    name: str, reverse: bool, way: str
) -> None:
    problem = random_problem(name, *SHAPES[0], seed=3, reverse=reverse)
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
    lengths, time = np.array([0, 3, 100], dtype), 300  # Not all of 300 steps fit into 8 bits.
    cell = lstmjax.elman(1, 1, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    _, outputs = lstmjax.unroll(cell, params, np.ones((3, time, 1)), lengths=lengths)
    np.testing.assert_array_equal(np.sum(outputs[..., 0] != 0, axis=-1), lengths)


# 2. Two halves with the carried state equal the whole.


@each_way
@each_cell
@given(data=st.data())
def test_contract_02_two_halves_equal_the_whole(name: str, way: str, data: st.DataObject) -> None:
    problem = data.draw(problems(name))
    middle = data.draw(st.sampled_from([0, 2, problem.inputs.shape[-2]]))
    if problem.reverse and middle < problem.inputs.shape[-2]:
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


@each_way
@each_cell
@settings(max_examples=30)
@given(data=st.data())
def test_contract_03_padding_never_matters(name: str, way: str, data: st.DataObject) -> None:
    problem = data.draw(problems(name))
    clean = problem._replace(inputs=fill_padding(problem, 0.0), resets=problem.resets & ~padding(problem))
    result, gradients = run(name, problem, way)
    assert_equal((result, gradients), run(name, clean, way))
    assert not result.outputs[padding(problem)].any()
    assert not gradients.inputs[padding(problem)].any()


# 4. A row of length 0 returns its initial state and gives zero gradient.


@each_way
@each_cell
@given(data=st.data())
def test_contract_04_a_row_of_length_zero_does_nothing(name: str, way: str, data: st.DataObject) -> None:
    problem = data.draw(problems(name))
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


@each_way
@each_direction
@each_cell
def test_contract_04_empty_rows_add_nothing_to_the_gradient(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=5, lengths=[4, 0, 5, 0], reverse=reverse)
    other = random_problem(name, *SHAPES[0], seed=6, lengths=[4, 0, 5, 0], reverse=reverse)
    changed = problem._replace(
        inputs=np.where(problem.lengths[:, None, None] == 0, other.inputs, problem.inputs)
    )
    _, gradients = run(name, problem, way)
    assert_equal(run(name, changed, way)[1].params, gradients.params)


# 5. A reset at t equals starting a new sequence at t.


@each_way
@each_cell
@given(data=st.data())
def test_contract_05_a_reset_starts_a_new_sequence(name: str, way: str, data: st.DataObject) -> None:
    """One reset in the middle, against the two sequences on their own, each moved to the front."""
    problem = data.draw(problems(name))
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


@each_way
@each_direction
@each_cell
def test_contract_05_no_gradient_crosses_a_reset(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, *SHAPES[0], seed=7, lengths=[5] * 4, reverse=reverse)
    problem.resets[:] = np.arange(5) == 3
    first, second = (slice(3, 5), slice(3)) if reverse else (slice(3), slice(3, 5))
    problem.weights.outputs[:, first] = 0  # A loss of the sequence that runs second, and of its state.
    _, gradients = run(name, problem, way)
    assert not gradients.inputs[:, first].any()
    assert gradients.inputs[:, second].any()
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.state))


@each_way
@each_cell
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
    return jax.tree.map(lambda a, b: np.where(mask[:, None], a, b), on_true, on_false)


# 6. `reverse=True` with lengths reverses the valid part only; so does a bidirectional layer.


@each_way
@each_cell
@given(data=st.data())
def test_contract_06_reverse_turns_the_valid_part_around(name: str, way: str, data: st.DataObject) -> None:
    problem = data.draw(problems(name))
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


@each_way
@each_cell
def test_contract_07_any_batch_rank(name: str, way: str) -> None:
    flat = random_problem(name, *SHAPES[0], seed=9)
    result, _ = run(name, flat, way)
    *arrays, reverse = flat
    square = Problem(
        flat.params,
        *jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), tuple(arrays[1:])),
        reverse,
    )
    folded, _ = run(name, square, way)
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(4, *leaf.shape[2:]), folded), result, 1e-13)
    single = flat._replace(
        **{
            field: jax.tree.map(lambda leaf: leaf[2], getattr(flat, field))
            for field in ("inputs", "state", "lengths", "resets")
        },
        weights=None,
    )
    assert_close(_values(name, single, way), jax.tree.map(lambda leaf: leaf[2], result), 1e-13)


@each_way
@each_direction
@each_cell
@pytest.mark.parametrize("batch_shape", [(2,)], ids=str)
def test_contract_07_no_time_returns_the_state(
    name: str, batch_shape: tuple[int, ...], reverse: bool, way: str
) -> None:
    problem = random_problem(name, batch_shape, 0, seed=10, reverse=reverse)
    result, gradients = run(name, problem, way)
    assert_equal(result.state, problem.state)
    assert result.outputs.shape == problem.weights.outputs.shape
    assert_equal(gradients.state, problem.weights.state)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.params))


@each_way
@each_cell
def test_contract_07_one_step_of_time_is_a_step(name: str, way: str) -> None:
    problem = random_problem(name, (1, 2), 1, seed=11, lengths=[[1, 1]], resets=[[[False]] * 2])
    state, output = _step(
        CELLS[name].make(jnp.float64), problem.params, problem.state, problem.inputs[..., 0, :]
    )
    for reverse in (False, True):
        result, _ = run(name, problem._replace(reverse=reverse), way)
        assert_close(result, Result(state, output[..., None, :]), 1e-13)


@each_way
@each_direction
@each_cell
def test_contract_07_an_empty_batch_has_empty_results(name: str, reverse: bool, way: str) -> None:
    problem = random_problem(name, (0,), 2, seed=12, reverse=reverse)
    result, gradients = run(name, problem, way)
    assert result.outputs.shape == problem.weights.outputs.shape
    assert_equal(result.state, problem.state)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients.params))
