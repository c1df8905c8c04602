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
        total = x @ kernel + state.hidden @ recurrent_kernel
        return total if params.bias is None else total + params.bias[columns]

    input_gate = sigmoid(gate(0))
    forget_gate = sigmoid(gate(1))
    candidate = np.tanh(gate(2))
    output_gate = sigmoid(gate(3))
    cell = forget_gate * state.cell + input_gate * candidate
    hidden = output_gate * np.tanh(cell)
    return state._replace(hidden=hidden, cell=cell), hidden


def lstm_variant(
    gates: str = "ifo",
    coupled: bool = False,
    candidate: Callable[..., Any] = np.tanh,
    output: Callable[..., Any] = np.tanh,
    squash: Callable[..., Any] = sigmoid,
) -> Step:
    """An LSTM with these gates of its own; whatever parameters are not None play their part."""
    columns = [name for name in "ifgo" if name in gates or name == "g"]

    def step(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        size = len(state.cell)

        def part(array: np.ndarray, names: Any, name: str) -> np.ndarray:
            number = list(names).index(name)
            return array[..., number * size : (number + 1) * size]

        from_input, from_hidden = x @ params.kernel, state.hidden @ params.recurrent_kernel
        if params.norms is not None:
            norms = params.norms
            from_input = layer_norm(from_input, norms.input_gain, norms.input_bias)
            from_hidden = layer_norm(from_hidden, norms.recurrent_gain, norms.recurrent_bias)

        def gate(name: str, cell: np.ndarray) -> np.ndarray:
            if name not in gates:
                return np.ones(size)
            total = part(from_input + from_hidden + params.bias, columns, name)
            if params.peepholes is not None:
                total = total + part(params.peepholes, gates, name) * cell
            if params.gate_kernel is not None:
                total = total + state.gates @ part(params.gate_kernel, gates, name)
            return squash(total)

        input_gate = gate("i", state.cell)
        forget_gate = 1 - input_gate if coupled else gate("f", state.cell)
        new = candidate(part(from_input + from_hidden + params.bias, columns, "g"))
        cell = forget_gate * state.cell + input_gate * new
        output_gate = gate("o", cell)
        shown = cell
        if params.norms is not None:
            shown = layer_norm(cell, params.norms.cell_gain, params.norms.cell_bias)
        hidden = output_gate * output(shown)
        if params.projection is not None:
            hidden = hidden @ params.projection
        seen = None
        if state.gates is not None:
            opened = {"i": input_gate, "f": forget_gate, "o": output_gate}
            seen = np.concatenate([opened[name] for name in gates])
        return state._replace(hidden=hidden, cell=cell, gates=seen), hidden

    return step


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return gain * (x - mean) / np.sqrt(variance + 1e-5) + bias


def multiplicative_lstm(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    factor = (x @ params.factor_kernel) * (state.hidden @ params.factor_recurrent_kernel)
    return lstm(params, state._replace(hidden=factor), x)


def conv_lstm(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    height, width, size = state.cell.shape
    image = x.reshape(height, width, -1)
    total = convolve(image, params.kernel) + convolve(state.hidden, params.recurrent_kernel) + params.bias
    i, f, g, o = (total[..., number * size : (number + 1) * size] for number in range(4))
    see_i, see_f, see_o = np.zeros((3, height, width, size)) if params.peepholes is None else params.peepholes
    cell = sigmoid(f + see_f * state.cell) * state.cell + sigmoid(i + see_i * state.cell) * np.tanh(g)
    hidden = sigmoid(o + see_o * cell) * np.tanh(cell)
    return state._replace(hidden=hidden, cell=cell), hidden.reshape(-1)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every pixel sees those around it, the middle of the kernel upon itself, and zeros beyond the edge."""
    height, width, _ = image.shape
    size, _, _, channels = kernel.shape
    result = np.zeros((height, width, channels), np.result_type(image, kernel))
    for row, column in np.ndindex(height, width):
        for down, right in np.ndindex(size, size):
            seen = row + down - (size - 1) // 2, column + right - (size - 1) // 2
            if 0 <= seen[0] < height and 0 <= seen[1] < width:
                result[row, column] += image[seen] @ kernel[down, right]
    return result


def elman(params: Any, state: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(x @ params.kernel + state @ params.recurrent_kernel + params.bias)
    return hidden, hidden


def gru(params: Any, state: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = len(state)
    reset, update, candidate = (slice(k * size, (k + 1) * size) for k in range(3))
    kernel, recurrent_kernel, bias = params.kernel, params.recurrent_kernel, params.bias
    r = sigmoid(x @ kernel[:, reset] + state @ recurrent_kernel[:, reset] + bias[reset])
    z = sigmoid(x @ kernel[:, update] + state @ recurrent_kernel[:, update] + bias[update])
    if params.candidate_bias is None:
        from_state = (r * state) @ recurrent_kernel[:, candidate]
    else:
        from_state = r * (state @ recurrent_kernel[:, candidate] + params.candidate_bias)
    n = np.tanh(x @ kernel[:, candidate] + bias[candidate] + from_state)
    hidden = (1 - z) * n + z * state
    return hidden, hidden


def min_gru(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    z, n = np.split(x @ params.kernel + params.bias, 2)
    hidden = (1 - sigmoid(z)) * state.cell + sigmoid(z) * n
    return state._replace(cell=hidden), hidden


def min_lstm(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    f, i, n = np.split(x @ params.kernel + params.bias, 3)
    both = sigmoid(f) + sigmoid(i)
    hidden = sigmoid(f) / both * state.cell + sigmoid(i) / both * n
    return state._replace(cell=hidden), hidden


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.log(sigmoid(x))


def slstm(forget: Callable[..., Any] = log_sigmoid) -> Step:
    """``forget`` gives the logarithm of the forget gate."""

    def step(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        heads, size, _ = params.recurrent_kernel.shape
        number = heads * size
        from_hidden = np.zeros((4, heads, size), np.result_type(state.hidden, params.recurrent_kernel))
        for gate, head in np.ndindex(4, heads):
            own = state.hidden[head * size : (head + 1) * size]
            columns = slice(gate * size, (gate + 1) * size)
            from_hidden[gate, head] = own @ params.recurrent_kernel[head][:, columns]
        total = (x @ params.kernel + params.bias).reshape(4, number) + from_hidden.reshape(4, number)
        i, f, z, o = total
        cell, normalizer, stabilizer = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
        for unit in range(number):
            before = forget(f[unit]) + state.stabilizer[unit]
            stabilizer[unit] = before if before.real > i[unit].real else i[unit]
            keep = np.exp(before - stabilizer[unit])
            if state.normalizer[unit] == 0:
                stabilizer[unit], keep = i[unit], 0
            write = np.exp(i[unit] - stabilizer[unit])
            cell[unit] = keep * state.cell[unit] + write * np.tanh(z[unit])
            normalizer[unit] = keep * state.normalizer[unit] + write
        hidden = sigmoid(o) * cell / normalizer
        state = state._replace(hidden=hidden, cell=cell, normalizer=normalizer, stabilizer=stabilizer)
        return state, hidden

    return step


def mlstm(forget: Callable[..., Any] = log_sigmoid) -> Step:
    """``forget`` gives the logarithm of the forget gate."""

    def step(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        heads, size = state.normalizer.shape
        kernels, biases = np.split(params.kernel, 4, axis=1), np.split(params.bias, 4)
        q, k, v, o = (
            (x @ kernel * scale + bias).reshape(heads, size)
            for kernel, bias, scale in zip(kernels, biases, (1, 1 / np.sqrt(size), 1, 1), strict=True)
        )
        i, f = (x @ params.gate_kernel + params.gate_bias).reshape(2, heads)
        results = []
        for head in range(heads):
            before = forget(f[head]) + state.stabilizer[head]
            m = before if before.real > i[head].real else i[head]
            keep = np.exp(before - m)
            if not state.cell[head].any() and not state.normalizer[head].any():
                m, keep = i[head], 0
            write = np.exp(i[head] - m)
            cell = keep * state.cell[head] + write * np.outer(v[head], k[head])
            normalizer = keep * state.normalizer[head] + write * k[head]
            found = normalizer @ q[head]
            found = found if found.real > 0 else -found
            found = found if found.real > np.exp(-m).real else np.exp(-m)
            results.append((cell, normalizer, m, sigmoid(o[head]) * (cell @ q[head]) / found))
        cells, normalizers, stabilizers, hidden = (np.stack(parts) for parts in zip(*results, strict=True))
        state = state._replace(cell=cells, normalizer=normalizers, stabilizer=stabilizers)
        return state, hidden.reshape(-1)

    return step


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


def highway(step: Step) -> Step:
    def mixed(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        state, y = step(params.cell, state, x)
        gate = sigmoid(x @ params.kernel + params.bias)
        return state, gate * y + (1 - gate) * x

    return mixed


def dropout(step: Step, masks: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Step:
    """Factors for inputs, for the hidden state as the gates see it, and for outputs."""

    def dropped(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        of_inputs, of_hidden, of_outputs = masks()
        state, y = step(params, state._replace(hidden=of_hidden * state.hidden), of_inputs * x)
        return state, of_outputs * y

    return dropped


def zoneout(step: Step, masks: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Step:
    """Booleans for hidden and cell state of an LSTM, true where a unit keeps its value."""

    def zoned(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        keep_hidden, keep_cell = masks(int(state.steps[0].real))
        old, (new, _) = state.inner, step(params, state.inner, x)
        hidden = np.where(keep_hidden, old.hidden, new.hidden)
        cell = np.where(keep_cell, old.cell, new.cell)
        return state._replace(inner=new._replace(hidden=hidden, cell=cell), steps=state.steps + 1), hidden

    return zoned


def lstm_with_recurrent_dropout(masks: Callable[[int], np.ndarray]) -> Step:
    """An LSTM whose candidate is multiplied by a factor that depends on the number of the step."""

    def dropped(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        i, f, g, o = np.split(
            x @ params.kernel + state.inner.hidden @ params.recurrent_kernel + params.bias, 4
        )
        candidate = masks(int(state.steps[0].real)) * np.tanh(g)
        cell = sigmoid(f) * state.inner.cell + sigmoid(i) * candidate
        hidden = sigmoid(o) * np.tanh(cell)
        return state._replace(
            inner=state.inner._replace(hidden=hidden, cell=cell), steps=state.steps + 1
        ), hidden

    return dropped


def gru_with_recurrent_dropout(masks: Callable[[int], np.ndarray]) -> Step:
    """A GRU whose candidate is multiplied by a factor that depends on the number of the step."""

    def dropped(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        r_x, z_x, n_x = np.split(x @ params.kernel + params.bias, 3)
        r_h, z_h, n_h = np.split(state.inner @ params.recurrent_kernel, 3)
        z = sigmoid(z_x + z_h)
        candidate = np.tanh(n_x + sigmoid(r_x + r_h) * (n_h + params.candidate_bias))
        hidden = (1 - z) * masks(int(state.steps[0].real)) * candidate + z * state.inner
        return state._replace(inner=hidden, steps=state.steps + 1), hidden

    return dropped


def truncated(step: Step) -> Step:
    """A constant has no imaginary part: what the gates see of the hidden state has no derivative."""

    def stepped(params: Any, state: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        return step(params, state._replace(hidden=state.hidden.real), x)

    return stepped


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
