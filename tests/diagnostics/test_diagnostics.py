"""What is seen inside cells, against the NumPy reference and autodiff of a Python loop; and the pictures."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import assert_close
from matplotlib.figure import Figure

import lstmjax
from lstmjax import diagnostics, plots

pytestmark = pytest.mark.usefixtures("exact")

LENGTHS = np.array([4, 2])

with jax.enable_x64(True):
    LSTM = lstmjax.lstm(2, 3, dtype=jnp.float64)
    GRU = lstmjax.gru(3, 3, dtype=jnp.float64)
    DEEP = lstmjax.stack(LSTM, lstmjax.residual(GRU), lstmjax.elman(3, 2, dtype=jnp.float64))


def problem(cell, time=4):
    params = cell.init(jax.random.key(0))
    return params, jax.random.normal(jax.random.key(1), (2, time, cell.features), cell.input_dtype)


def test_the_trace_of_an_lstm_is_that_of_its_equations():
    params, inputs = problem(LSTM)
    seen = jax.tree.map(np.asarray, diagnostics.trace(LSTM, params, inputs))
    weights = jax.tree.map(np.asarray, params)
    for row in range(2):
        hidden, memory = np.zeros(3), np.zeros(3)
        for t in range(4):
            sums = (
                np.asarray(inputs[row, t]) @ weights.kernel + hidden @ weights.recurrent_kernel + weights.bias
            )
            i, f, g, o = np.split(sums, 4)
            i, f, o = map(reference.sigmoid, (i, f, o))
            memory = f * memory + i * np.tanh(g)
            hidden = o * np.tanh(memory)
            expected = diagnostics.LSTMTrace(i, f, o, np.tanh(g), memory, hidden)
            assert_close(jax.tree.map(lambda x, at=(row, t): x[at], seen), expected, 1e-12)


VARIANTS = [
    {"forget_gate": False},
    {"input_gate": False, "peepholes": True},
    {"output_gate": False},
    {"coupled": True, "peepholes": True},
    {"full_gate_recurrence": True},
    {"layer_norm": True},
    {"projection": 2},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_trace_of_a_variant_is_that_of_its_equations(options):
    cell = lstmjax.lstm(2, 3, dtype=jnp.float64, **options)
    params, inputs = problem(cell)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)  # peepholes that are not 0
    seen = jax.tree.map(np.asarray, diagnostics.trace(cell, params, inputs, lengths=LENGTHS))
    state, outputs = lstmjax.unroll(cell, params, inputs, lengths=LENGTHS)
    assert_close(seen.hidden, outputs, 1e-13)
    assert_close(seen.cell[np.arange(2), LENGTHS - 1], state.cell, 1e-13)
    before = np.concatenate([np.zeros((2, 1, 3)), seen.cell[:, :-1]], axis=1)
    valid = (np.arange(4) < LENGTHS[:, None])[..., None]
    remembered = seen.forget_gate * before + seen.input_gate * seen.candidate
    assert_close(np.where(valid, remembered, 0), seen.cell, 1e-13)
    for name in ("input_gate", "forget_gate", "output_gate"):
        gate = getattr(seen, name)[0]
        is_there = options.get(name, True)
        assert ((gate < 1) & (gate > 0)).all() if is_there else (gate == 1).all()
    if options.get("coupled"):
        assert_close(np.where(valid, 1 - seen.input_gate, 0), seen.forget_gate, 1e-13)


@pytest.mark.full
def test_gradient_flow_of_peepholes_goes_through_the_gate_that_sees_the_new_cell_state():
    cell = lstmjax.lstm(2, 3, peepholes=True, dtype=jnp.float64)
    params, inputs = problem(cell)
    params = params._replace(peepholes=np.linspace(-1, 1, 9))
    inputs, weights = np.asarray(inputs), np.random.default_rng(2).standard_normal((2, 4, 3))
    flow = diagnostics.gradient_flow(cell, params, inputs, lambda outputs: (weights * outputs).sum())
    flow, seen = jax.tree.map(np.asarray, (flow, diagnostics.trace(cell, params, inputs)))
    for t in range(4):

        def rest(hidden, memory, t=t):
            state, total = lstmjax.GeneralLSTMState(hidden, memory, None), (weights[:, t] * hidden).sum()
            for later in range(t + 1, 4):
                state, output = cell.step(params, state, inputs[:, later])
                total += (weights[:, later] * output).sum()
            return total

        def from_memory(memory, t=t, rest=rest):
            o, seen_memory = seen.output_gate[:, t], seen.cell[:, t]
            moved = jnp.log(o / (1 - o)) + params.peepholes[6:] * (memory - seen_memory)
            return rest(jax.nn.sigmoid(moved) * jnp.tanh(memory), memory)

        by_hidden = jax.jit(jax.grad(rest))(seen.hidden[:, t], seen.cell[:, t])
        by_memory = jax.jit(jax.grad(from_memory))(seen.cell[:, t])
        expected = diagnostics.Flow(*(np.linalg.norm(g, axis=-1) for g in (by_hidden, by_memory)))
        assert_close(jax.tree.map(lambda x, t=t: x[:, t], flow), expected, 1e-12)


def test_the_trace_of_a_gru_gives_its_states():
    cell = lstmjax.gru(2, 3, dtype=jnp.float64)
    params, inputs = problem(cell)
    seen = jax.tree.map(np.asarray, diagnostics.trace(cell, params, inputs))
    assert_close(seen.hidden, lstmjax.unroll(cell, params, inputs)[1], 1e-13)
    before = np.concatenate([np.zeros((2, 1, 3)), seen.hidden[:, :-1]], axis=1)
    mixed = (1 - seen.update_gate) * seen.candidate + seen.update_gate * before
    assert_close(seen.hidden, mixed, 1e-13)
    assert ((seen.reset_gate > 0) & (seen.reset_gate < 1)).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_the_trace_of_a_stack_follows_lengths_resets_and_direction(reverse):
    params, inputs = problem(DEEP)
    state = jax.tree.map(lambda x: np.asarray(x) + 0.2, DEEP.initial_state((2,)))
    masks = (state, LENGTHS, np.array([[0, 0, 1, 0], [0, 1, 0, 0]], bool), reverse)
    below, middle, above = jax.tree.map(np.asarray, diagnostics.trace(DEEP, params, inputs, *masks))
    after, outputs = lstmjax.unroll(DEEP, params, inputs, *masks)
    assert_close(above.hidden, outputs, 1e-13)
    last = [0, 0] if reverse else [3, 1]
    assert_close(below.cell[np.arange(2), last], after[0].cell, 1e-13)
    assert_close(middle.hidden[np.arange(2), last], after[1], 1e-13)
    assert not below.forget_gate[1, 2:].any()


def test_dtypes_of_a_trace_are_those_of_the_cell():
    cell = lstmjax.lstm(2, 3, dtype=jnp.bfloat16)
    params, inputs = problem(cell)
    seen = diagnostics.trace(cell, params, inputs)
    assert (seen.hidden.dtype, seen.cell.dtype, seen.input_gate.dtype) == ("bfloat16", "float32", "float32")
    np.testing.assert_array_equal(seen.hidden, lstmjax.unroll(cell, params, inputs, backend="scan")[1])


def test_a_trace_shows_what_a_cell_does_with_its_noise():
    cell = lstmjax.dropout(LSTM, inputs=0.5, hidden=0.5)
    params, inputs = problem(cell)
    noisy = cell.sample(jax.random.key(3), params, (2,))
    seen = diagnostics.trace(cell, noisy, inputs)
    assert_close(seen.hidden, lstmjax.unroll(cell, noisy, inputs)[1], 1e-13)


def test_gradient_flow_is_the_gradient_to_each_state():
    """The rest of the sequence as a function of one state, for each step: the definition."""
    params, inputs = problem(LSTM)
    inputs, weights = np.asarray(inputs), np.random.default_rng(2).standard_normal((2, 4, 3))
    flow = diagnostics.gradient_flow(LSTM, params, inputs, lambda outputs: (weights * outputs).sum())
    flow, seen = jax.tree.map(np.asarray, (flow, diagnostics.trace(LSTM, params, inputs)))
    for t in range(4):

        def rest(hidden, memory, t=t):
            state, total = lstmjax.LSTMState(hidden, memory), (weights[:, t] * hidden).sum()
            for later in range(t + 1, 4):
                state, output = LSTM.step(params, state, inputs[:, later])
                total += (weights[:, later] * output).sum()
            return total

        def from_memory(memory, t=t, rest=rest):
            return rest(seen.output_gate[:, t] * jnp.tanh(memory), memory)

        by_hidden = jax.jit(jax.grad(rest))(seen.hidden[:, t], seen.cell[:, t])
        by_memory = jax.jit(jax.grad(from_memory))(seen.cell[:, t])
        expected = diagnostics.Flow(*(np.linalg.norm(g, axis=-1) for g in (by_hidden, by_memory)))
        assert_close(jax.tree.map(lambda x, t=t: x[:, t], flow), expected, 1e-12)


def test_gradient_flow_of_stacks_and_masks():
    params, inputs = problem(DEEP)
    flows = diagnostics.gradient_flow(DEEP, params, inputs, lambda outputs: outputs.sum(), lengths=LENGTHS)
    assert [flow.cell is None for flow in flows] == [False, True, True]
    for flow in flows:
        valid = np.arange(4) < LENGTHS[:, None]
        assert (np.asarray(flow.hidden)[valid] > 0).all()
        assert not np.asarray(flow.hidden)[~valid].any()


def test_gradient_flow_shows_the_gradient_that_is_used():
    """With the truncated gradient, an error at the end reaches earlier hidden states in no other way."""
    params, inputs = problem(LSTM)
    cell = lstmjax.truncate_gradient(LSTM)
    flow = diagnostics.gradient_flow(cell, params, inputs, lambda outputs: outputs[:, -1].sum())
    assert not flow.hidden[:, :-1].any()
    assert flow.cell.all()


def test_saturation_counts_valid_steps():
    gate = jnp.array([[[0.05, 0.5], [0.95, 0.99], [0.0, 0.0]], [[0.2, 0.01], [0.99, 0.0], [1.0, 1.0]]])
    shares = diagnostics.saturation(diagnostics.GRUTrace(gate, gate, gate, gate), np.array([2, 1]))
    assert set(shares) == {"reset_gate", "update_gate"}
    np.testing.assert_allclose(shares["reset_gate"].left, [1 / 3, 1 / 3])
    np.testing.assert_allclose(shares["reset_gate"].right, [1 / 3, 1 / 3])
    with pytest.raises(TypeError, match="got dict"):
        diagnostics.saturation({})


def test_unknown_cells_are_named_and_can_be_made_known(monkeypatch):
    cell = lstmjax.zoneout(LSTM, 0.5)
    params, inputs = problem(cell)
    with pytest.raises(TypeError, match=r"into Zoneout.*known are Elman, GRU, GeneralLSTM, LSTM.*RECORDERS"):
        diagnostics.trace(cell, params, inputs)

    def record(cell, params, state, inputs, nudge):
        after, outputs = cell.step(params, state, inputs)
        return after, outputs, diagnostics.ElmanTrace(outputs)

    monkeypatch.setitem(diagnostics.RECORDERS, lstmjax.Zoneout, record)
    seen = diagnostics.trace(cell, params, inputs)
    assert_close(seen.hidden, lstmjax.unroll(cell, params, inputs)[1], 1e-13)


def test_pictures_show_what_was_found(tmp_path):
    params, inputs = problem(LSTM)
    seen = diagnostics.trace(LSTM, params, inputs)
    flow = diagnostics.gradient_flow(LSTM, params, inputs, lambda outputs: outputs.sum())
    shares = diagnostics.saturation(seen)
    of_row = plots.plot_trace(jax.tree.map(lambda x: np.asarray(x)[0], seen))
    images = [axes.images[0].get_array() for axes in of_row.axes if axes.images]
    assert len(images) >= 6
    np.testing.assert_allclose(images[0], np.asarray(seen.input_gate[0]).T, rtol=1e-6)
    lines = plots.plot_gradient_flow(flow)
    np.testing.assert_allclose(lines.axes[0].lines[1].get_ydata(), np.asarray(flow.cell).mean(axis=0))
    points = plots.plot_saturation(shares)
    assert len(points.axes) == 3
    expected = np.stack([shares["input_gate"].right, shares["input_gate"].left], axis=1)
    np.testing.assert_allclose(points.axes[0].collections[0].get_offsets(), expected)
    for figure in (of_row, lines, points):
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "picture.png")


def test_pictures_say_what_they_need():
    params, inputs = problem(DEEP)
    seen = diagnostics.trace(DEEP, params, inputs)
    with pytest.raises(TypeError, match="of a stack of 3 cells"):
        plots.plot_trace(seen)
    with pytest.raises(ValueError, match=r"input_gate must be \[time, hidden\].*\(2, 4, 3\)"):
        plots.plot_trace(seen[0])
    with pytest.raises(ValueError, match="no gates"):
        plots.plot_saturation(diagnostics.saturation(seen)[2])


def test_matplotlib_is_not_imported_until_a_picture_is_made():
    code = "import sys, lstmjax; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
