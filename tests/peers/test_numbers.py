"""Numbers that the tests of other projects expect, or that their code gives: oracles that are not ours.

Keras: ``keras/src/layers/rnn/*_test.py``; kernels are 0.01 throughout, recurrent kernels 0.02, biases 0.03.
ONNX: ``onnx/backend/test/case/node/lstm.py``, run by ONNX Runtime 1.32. PyTorch: 2.13, packed sequences.
NX-AI: the vanilla step of the sLSTM; the recurrent step of the mLSTM, without its epsilon; in float64.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax.sequence.bidirectional import Directions


def _count(*shape: int, factor: float = 1.0) -> np.ndarray:
    return (factor * np.arange(np.prod(shape)).reshape(shape)).astype(np.float32)


def _wave(shape: tuple[int, ...], phase: float, size: float = 1.0) -> np.ndarray:
    return (size * np.sin(np.arange(np.prod(shape)) + phase).reshape(shape)).astype(np.float32)


def _equal_units(rows: Any, units: int) -> np.ndarray:
    """Numbers of rows whose units are all alike, with an axis of units."""
    return np.repeat(np.asarray(rows)[..., None], units, axis=-1)


def _constant(part: Any, forget: float = 1.0) -> Any:
    """Parameters as those tests of Keras have them; ``forget`` is the bias of the forget gate."""
    if isinstance(part, lstmjax.Bidirectional):
        return Directions(_constant(part.forward, forget), _constant(part.backward, forget))
    params = jax.eval_shape(part.init, jax.random.key(0))

    def fill(name: str, leaf: Any) -> Any:
        value = {"kernel": 0.01, "recurrent_kernel": 0.02}.get(name, 0.03)
        return None if leaf is None else jnp.full(leaf.shape, value)

    params = type(params)(*(fill(name, leaf) for name, leaf in params._asdict().items()))
    if params.bias is not None and isinstance(part, lstmjax.LSTM):
        params = params._replace(bias=params.bias.at[part.hidden : 2 * part.hidden].set(forget))
    if isinstance(part, lstmjax.GRU) and params.candidate_bias is not None:  # two biases of reset and update
        params = params._replace(bias=params.bias.at[: 2 * part.hidden].set(0.06))
    return params


LSTM, GRU, ELMAN = lstmjax.lstm, lstmjax.gru, lstmjax.elman
LONG, SHORT, NARROW = _count(3, 6, 4), _count(2, 3, 4), _count(2, 4, 3)
SQUARE = _count(2, 2)


class Keras(NamedTuple):
    """A layer of Keras whose last output is known."""

    cell: Any
    inputs: np.ndarray
    last: np.ndarray
    options: dict[str, Any] = {}  # noqa: RUF012
    forget: float = 1.0


def _packed(inputs: np.ndarray, mask: list[list[int]]) -> np.ndarray:
    """The steps of a mask moved to the beginning of each row, NaN after them."""
    packed = np.full_like(inputs, np.nan)
    for row, valid in enumerate(np.array(mask, bool)):
        packed[row, : valid.sum()] = inputs[row, valid]
    return packed


KERAS: dict[str, Keras] = {
    "LSTM": Keras(LSTM(4, 3), LONG, _equal_units([0.6288687, 0.86899155, 0.9460773], 3)),
    "LSTM without biases": Keras(
        LSTM(4, 3, bias=False), LONG, _equal_units([0.54986924, 0.86226785, 0.9443936], 3)
    ),
    "LSTM backwards": Keras(
        LSTM(4, 3), LONG, _equal_units([0.35622165, 0.74789524, 0.8872726], 3), {"reverse": True}
    ),
    "LSTM without unit_forget_bias": Keras(
        LSTM(4, 3), LONG, _equal_units([0.57019705, 0.8661914, 0.9459622], 3), forget=0.03
    ),
    "LSTM from a state": Keras(
        LSTM(3, 2),
        NARROW,
        np.array([[0.20574439, 0.3558822], [0.64930826, 0.66276]]),
        {"state": lstmjax.LSTMState(SQUARE, SQUARE)},
    ),
    "LSTM backwards from a state": Keras(
        LSTM(3, 2),
        NARROW,
        np.array([[0.13281618, 0.2790356], [0.5839337, 0.5992567]]),
        {"state": lstmjax.LSTMState(SQUARE, SQUARE), "reverse": True},
    ),
    "masked LSTM": Keras(
        LSTM(3, 2),
        _packed(NARROW, [[1, 1, 1, 0], [1, 1, 0, 0]]),
        _equal_units([0.11755939, 0.28556206], 2),
        {"lengths": np.array([3, 2])},
    ),
    "LSTM backwards, masked on the left": Keras(
        LSTM(3, 2),
        _packed(NARROW, [[0, 1, 1, 1], [0, 0, 1, 1]]),
        _equal_units([0.15341201, 0.3844719], 2),
        {"lengths": np.array([3, 2]), "reverse": True},
    ),
    "GRU": Keras(GRU(4, 3), LONG, _equal_units([0.5217289, 0.6371659, 0.39384964], 3)),
    "GRU backwards": Keras(
        GRU(4, 3), LONG, _equal_units([0.24406259, 0.611516, 0.3928808], 3), {"reverse": True}
    ),
    "GRU with the reset gate before the product": Keras(
        GRU(4, 3, reset_after=False), LONG, _equal_units([0.51447755, 0.6426879, 0.40208298], 3)
    ),
    "GRU without biases": Keras(
        GRU(4, 3, bias=False), LONG, _equal_units([0.49988455, 0.64701194, 0.4103359], 3)
    ),
    "GRU from a state": Keras(
        GRU(3, 2), NARROW, np.array([[0.23774096, 0.33508456], [0.83659905, 1.0227708]]), {"state": SQUARE}
    ),
    "SimpleRNN": Keras(ELMAN(4, 4), SHORT, _equal_units([0.405432, 0.73605347], 4)),
    "SimpleRNN backwards": Keras(
        ELMAN(4, 4), SHORT, _equal_units([0.11144729, 0.5528889], 4), {"reverse": True}
    ),
    "SimpleRNN from a state": Keras(
        ELMAN(3, 4), NARROW, _equal_units([0.33621645, 0.6262637], 4), {"state": _count(2, 4)}
    ),
    "SimpleRNN with steps left out": Keras(
        ELMAN(3, 4),
        _packed(NARROW, [[1, 1, 0, 1], [1, 0, 0, 1]]),
        _equal_units([0.32951632, 0.61799484], 4),
        {"lengths": np.array([3, 2])},
    ),
    "Bidirectional SimpleRNN": Keras(
        lstmjax.bidirectional(ELMAN(4, 2), ELMAN(4, 2)),
        SHORT,
        np.repeat([[0.39687276, 0.10004295], [0.7237238, 0.53391594]], 2, axis=-1),
    ),
    "Bidirectional LSTM": Keras(
        lstmjax.bidirectional(LSTM(3, 2), LSTM(3, 2)),
        NARROW,
        np.repeat([[0.1990008, 0.12659755], [0.52335435, 0.44717982]], 2, axis=-1),
    ),
    "Bidirectional LSTM from a state": Keras(
        lstmjax.bidirectional(LSTM(3, 2), LSTM(3, 2)),
        NARROW,
        np.array([[0.20794602, 0.4577124, 0.14046375, 0.48191673],
                  [0.6682636, 0.6711909, 0.60943645, 0.60950446]]),
        {"state": Directions(lstmjax.LSTMState(SQUARE, 2 * SQUARE),
                             lstmjax.LSTMState(3 * SQUARE, 4 * SQUARE))},
    ),
    "Bidirectional GRU with steps left out": Keras(
        lstmjax.bidirectional(GRU(3, 2), GRU(3, 2)),
        _packed(NARROW, [[1, 1, 0, 1], [1, 0, 0, 1]]),
        np.repeat([[0.19393763, 0.11669192], [0.30818558, 0.28380975]], 2, axis=-1),
        {"lengths": np.array([3, 2])},
    ),
}  # fmt: skip


def _hidden(state: Any) -> Any:
    if isinstance(state, Directions):
        return np.concatenate([_hidden(state.forward), _hidden(state.backward)], axis=-1)
    return getattr(state, "hidden", state)


@pytest.mark.parametrize("case", KERAS.values(), ids=KERAS)
def test_keras(case: Keras) -> None:
    state, _ = lstmjax.unroll(case.cell, _constant(case.cell, case.forget), case.inputs, **case.options)
    np.testing.assert_allclose(_hidden(state), case.last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (LSTM(4, 4), [0.3124785, 0.6863672]),
        (GRU(4, 4), [0.29542392, 0.5885018]),
        (ELMAN(4, 4), [0.40559256, 0.7361247]),
    ],
    ids=["LSTM", "GRU", "SimpleRNN"],
)
def test_a_stateful_layer_of_keras_called_twice(cell: Any, expected: list[float]) -> None:
    params = _constant(cell)
    state, _ = lstmjax.unroll(cell, params, SHORT)
    state, _ = lstmjax.unroll(cell, params, SHORT, state)
    np.testing.assert_allclose(_hidden(state), _equal_units(expected, 4), rtol=1e-5)


def test_all_outputs_and_the_cell_state_of_keras() -> None:
    cell = LSTM(3, 2)
    outputs = lstmjax.unroll(cell, _constant(cell), NARROW, lengths=np.array([3, 2]))[1]
    expected = [[0.01588910, 0.05552048, 0.11755939, 0.0], [0.14185596, 0.28556206, 0.0, 0.0]]
    np.testing.assert_allclose(outputs, _equal_units(expected, 2), rtol=1e-5)
    both = lstmjax.bidirectional(cell, cell)
    state, _ = lstmjax.unroll(both, _constant(both), NARROW)
    np.testing.assert_allclose(state.forward.cell, _equal_units([0.35567185, 1.0492687], 2), rtol=1e-5)
    np.testing.assert_allclose(state.backward.cell, _equal_units([0.2501858, 0.941473], 2), rtol=1e-5)
    both = lstmjax.bidirectional(GRU(4, 2), GRU(4, 2))
    outputs = lstmjax.unroll(both, _constant(both), SHORT)[1]
    merged = [[0.20937867, 0.34462988, 0.40290534], [0.59829646, 0.6734641, 0.6479671]]
    np.testing.assert_allclose(outputs[..., :2] + outputs[..., 2:], _equal_units(merged, 2), rtol=1e-5)


@dataclasses.dataclass(frozen=True, repr=False)
class Sums(lstmjax.Cell):
    """Keras's cell of kernels of ones, without an activation."""

    features: int = 1
    output_size: int = 1
    input_dtype: Any = "float32"

    def init(self, key: Any) -> Any:
        return ()

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*batch_shape, self.output_size))

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        total = inputs.sum(axis=-1, keepdims=True) + state.sum(axis=-1, keepdims=True)
        state = jnp.broadcast_to(total, state.shape)
        return state, state


def test_a_stack_of_cells_of_ones_in_keras() -> None:
    cell = lstmjax.stack(Sums(4, 3), Sums(3, 2))
    state, outputs = lstmjax.unroll(cell, ((), ()), SHORT)
    np.testing.assert_array_equal(outputs[..., 0], [[18, 156, 786], [162, 1020, 4386]])
    np.testing.assert_array_equal(state[0][:, 0], [158, 782])
    np.testing.assert_array_equal(state[1][:, 0], [786, 4386])


@pytest.mark.parametrize(
    ("cell", "inputs", "bias", "expected"),
    [
        (LSTM(2, 3, bias=False), 1 + _count(3, 1, 2), None, [0.0952412, 0.2560644, 0.4032378]),
        (LSTM(3, 4), 1 + _count(3, 1, 3), 0.1, [0.2560644, 0.5367278, 0.6672133]),
        (LSTM(4, 3, peepholes=True), 1 + _count(2, 1, 4), 0.0, [0.3750691, 0.680131]),
    ],
    ids=["defaults", "with_initial_bias", "with_peepholes"],
)
def test_onnx(cell: Any, inputs: np.ndarray, bias: float | None, expected: list[float]) -> None:
    params = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.1), jax.eval_shape(cell.init, jax.random.key(0))
    )
    if bias is not None:
        params = params._replace(bias=jnp.full_like(params.bias, bias))
    state, _ = lstmjax.unroll(cell, params, inputs)
    np.testing.assert_allclose(state.hidden, _equal_units(expected, cell.hidden), rtol=1e-6)


TORCH = {
    "one layer": (
        {},
        [[-0.3233416, -0.5805005, 0, 0],
         [-0.2679796, -0.4254987, -0.5735645, -0.494397],
         [-0.1158154, 0, 0, 0]],
    ),
    "two bidirectional layers": (
        {"layers": 2, "suffixes": ("", "_reverse")},
        [[-0.4832149, -0.2299764, 0, 0],
         [-0.588757, -0.4903663, -0.4053669, -0.21454],
         [-0.2714425, 0, 0, 0]],
    ),
    "a projection": (
        {"projection": 2},
        [[-0.008115, 0.0186736, 0, 0],
         [-0.0054007, 0.0123503, -0.0086331, 0.0242323],
         [-0.0102063, 0, 0, 0]],
    ),
}  # fmt: skip
"""Sizes of a torch.nn.LSTM(3, 4), and the sums over units of its outputs, packed and unpacked again."""


@pytest.mark.parametrize(("sizes", "expected"), TORCH.values(), ids=TORCH)
def test_packed_sequences_of_pytorch(sizes: dict[str, Any], expected: Any) -> None:
    suffixes, projection, weights = sizes.get("suffixes", ("",)), sizes.get("projection"), {}
    for layer in range(sizes.get("layers", 1)):
        for suffix in suffixes:
            features = 4 * len(suffixes) if layer else 3
            shapes = {"weight_ih": (16, features), "weight_hh": (16, projection or 4), "bias_ih": (16,)}
            shapes |= {"bias_hh": (16,)} | ({"weight_hr": (projection, 4)} if projection else {})
            for name, shape in shapes.items():
                weights[f"{name}_l{layer}{suffix}"] = _wave(shape, len(weights), 0.5)
    cell, params = lstmjax.convert.from_torch(weights)
    inputs, lengths = _wave((3, 4, 3), 0.5), np.array([2, 4, 1])
    _, outputs = lstmjax.unroll(cell, params, inputs, lengths=lengths)
    np.testing.assert_allclose(outputs.sum(axis=-1), expected, rtol=1e-5, atol=2e-6)
    longer = np.concatenate([inputs, np.full((3, 2, 3), np.nan, np.float32)], axis=1)  # total_length=6
    order = np.array([1, 0, 2])  # enforce_sorted
    _, padded = lstmjax.unroll(cell, params, longer[order], lengths=lengths[order])
    np.testing.assert_allclose(padded[:, :4], outputs[order], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(padded[:, 4:], 0)


def test_the_vanilla_slstm_of_nx_ai() -> None:
    cell = lstmjax.slstm(3, 2)
    params = lstmjax.SLSTMParams(_wave((3, 8), 0, 0.7), _wave((1, 2, 8), 1, 0.5), _wave((8,), 2))
    state, outputs = lstmjax.unroll(cell, params, _wave((2, 4, 3), 0.3, 3))
    expected = [
        [[-0.3624639, 0.6761508], [-0.1243366, -0.1127589], [0.3944025, 0.2982723], [0.0927651, -0.6957646]],
        [[0.7916889, 0.3115607], [0.1478218, -0.8849779], [0.7783562, -0.1920384], [-0.0450475, -0.9425515]],
    ]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.cell, [[0.2884125, -0.918349], [-0.1594461, -1.0198821]], rtol=1e-5)
    np.testing.assert_allclose(state.normalizer, [[1.2206208, 1.0552316], [1.9410632, 1.0309991]], rtol=1e-5)
    np.testing.assert_allclose(state.stabilizer, [[1.8936696, 1.7209333], [1.1496485, 3.360617]], rtol=1e-5)


def test_the_recurrent_mlstm_of_nx_ai() -> None:
    """Theirs has no output gate: ours is open. Its epsilon, which is added to the divisor, is left out."""
    cell = lstmjax.mlstm(3, 4, heads=2)
    kernel, open_gate = _wave((3, 16), 0), np.repeat(np.float32([0, 0, 0, 100]), 4)
    kernel[:, 12:] = 0
    gates = np.float32([0.3, -0.2, 2.0, 1.0])
    params = lstmjax.MLSTMParams(kernel, open_gate, _wave((3, 4), 1), gates)
    state, outputs = lstmjax.unroll(cell, params, _wave((2, 4, 3), 0.3))
    last = [
        [-7.6984037e-03, -2.3591214e-02, -4.4949150e-02, 1.2141547e-02],
        [-3.1960491e-02, -8.0526892e-02, -2.1589124e-01, 8.4708261e-02],
    ]
    np.testing.assert_allclose(outputs[:, -1], last, rtol=1e-4, atol=1e-6)
    first = [1.3411397e-04, 6.7705744e-04, 8.7902837e-04, -4.6160309e-05]
    np.testing.assert_allclose(outputs[0, 0], first, rtol=1e-4, atol=1e-7)
    sums = [
        [[0.2320204, -0.2231308], [-0.4580762, -0.2803731]],
        [[0.3104791, -0.3784762], [-1.1524308, -0.6424229]],
    ]
    scale = np.exp(state.stabilizer)[..., None]
    np.testing.assert_allclose(state.normalizer * scale, sums, rtol=1e-5)
