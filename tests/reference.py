"""The oracle: cells and sequences in NumPy, written to be obviously right, and sharing no code with lstmjax.

A step takes one row: no batch, no time. `unroll` loops over rows; it has no masks, but cuts each row to its
length and into the sequences that resets separate, and runs each of them on its own. Everything here is
analytic and takes complex numbers, so the complex step method gives derivatives that are exact to rounding:
``f(x + ihv).imag / h`` for a tiny ``h`` (Squire and Trapp 1998, SIAM Review 40(1)).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[Any, Any, np.ndarray], tuple[Any, np.ndarray]]
"""``(params, state, x) -> (state, y)`` for one row."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    size = len(state.hidden)

    def gate(number: int) -> np.ndarray:
        columns = slice(number * size, (number + 1) * size)
        kernel, recurrent_kernel = params.kernel[:, columns], params.recurrent_kernel[:, columns]
        return x @ kernel + state.hidden @ recurrent_kernel + params.bias[columns]

    input_gate = sigmoid(gate(0))
    forget_gate = sigmoid(gate(1))
    candidate = np.tanh(gate(2))
    output_gate = sigmoid(gate(3))
    cell = forget_gate * state.cell + input_gate * candidate
    hidden = output_gate * np.tanh(cell)
    return state._replace(hidden=hidden, cell=cell), hidden


def elman(params: Any, state: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(x @ params.kernel + state @ params.recurrent_kernel + params.bias)
    return hidden, hidden


def gru(params: Any, state: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = len(state)
    reset, update, candidate = (slice(k * size, (k + 1) * size) for k in range(3))
    kernel, recurrent_kernel, bias = params.kernel, params.recurrent_kernel, params.bias
    r = sigmoid(x @ kernel[:, reset] + state @ recurrent_kernel[:, reset] + bias[reset])
    z = sigmoid(x @ kernel[:, update] + state @ recurrent_kernel[:, update] + bias[update])
    from_state = state @ recurrent_kernel[:, candidate] + params.candidate_bias
    n = np.tanh(x @ kernel[:, candidate] + bias[candidate] + r * from_state)
    hidden = (1 - z) * n + z * state
    return hidden, hidden


def stack(*steps: Step) -> Step:
    def stacked(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        states = []
        for step, step_params, step_state in zip(steps, params, state, strict=True):
            new_state, x = step(step_params, step_state, x)
            states.append(new_state)
        return tuple(states), x

    return stacked


def residual(step: Step) -> Step:
    def added(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        state, y = step(params, state, x)
        return state, x + y

    return added


def unroll(
    step: Step,
    params: Any,
    inputs: np.ndarray,
    initial: Any,
    state: Any = None,
    lengths: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[Any, np.ndarray]:
    """What `lstmjax.unroll` promises; ``initial`` is the initial state of one row."""
    *batch_shape, time, features = inputs.shape
    dtype = np.result_type(*leaves(params), inputs, *leaves(state))
    example = step(params, initial, np.zeros(features))[1]
    outputs = np.zeros((*batch_shape, time, len(example)), dtype)
    final = map_tree(lambda leaf: np.zeros((*batch_shape, *leaf.shape), dtype), initial)
    for row in np.ndindex(*batch_shape):
        length = time if lengths is None else lengths[row]
        row_resets = [False] * length if resets is None else list(resets[row][:length])
        row_inputs = inputs[row][:length]
        row_state = initial if state is None else map_tree(lambda leaf, row=row: leaf[row], state)
        sequences = cut(row_resets)
        if reverse:
            sequences.reverse()
        for number, (start, stop) in enumerate(sequences):
            if number > 0 or (row_resets[start] and not reverse):
                row_state = initial
            for t in reversed(range(start, stop)) if reverse else range(start, stop):
                row_state, outputs[row][t] = step(params, row_state, row_inputs[t])
        for target, value in zip(leaves(final), leaves(row_state), strict=True):
            target[row] = value
    return final, outputs


def cut(resets: list[bool]) -> list[tuple[int, int]]:
    """Start and stop of each sequence in a row: a new one begins at step 0 and at each reset."""
    starts = [t for t, reset in enumerate(resets) if reset or t == 0]
    return list(zip(starts, [*starts[1:], len(resets)], strict=False))


def derivative(function: Callable[[Any], Any], at: Any, direction: Any) -> float:
    """The derivative of ``function(tree) -> number`` at a tree in the direction of another."""
    tiny = 1e-30
    return function(map_tree(lambda x, v: x + 1j * tiny * v, at, direction)).imag / tiny


def gradient(function: Callable[[Any], Any], at: Any) -> Any:
    """The derivative of ``function(tree) -> number`` with respect to every number in the tree."""
    result = map_tree(np.zeros_like, at)
    direction = map_tree(np.zeros_like, at)
    for result_leaf, direction_leaf in zip(leaves(result), leaves(direction), strict=True):
        for index in np.ndindex(*result_leaf.shape):
            direction_leaf[index] = 1
            result_leaf[index] = derivative(function, at, direction)
            direction_leaf[index] = 0
    return result


def inner(a: Any, b: Any) -> Any:
    """The sum of the products of all numbers in two trees of the same structure."""
    return sum(np.sum(x * y) for x, y in zip(leaves(a), leaves(b), strict=True))


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays in nested tuples, in order."""
    if tree is None:
        return []
    if isinstance(tree, tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def map_tree(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Nested tuples with ``function`` applied to the arrays at the same place in each tree."""
    if tree is None:
        return None
    if isinstance(tree, tuple):
        branches = [map_tree(function, *branch) for branch in zip(tree, *others, strict=True)]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return function(tree, *others)
