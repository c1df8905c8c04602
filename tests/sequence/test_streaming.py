"""Sample by sample: compiled once, and the same as the sequence; and the example that serves characters."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from experiments.language_modeling import character_server
from lstmjax.sequence import streaming

TEXT = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8")


def test_a_stream_is_compiled_once_and_gives_what_the_sequence_gives():
    cell = lstmjax.stack(lstmjax.lstm(5, 7), lstmjax.zoneout(lstmjax.gru(7, 3), 0.5))
    params = cell.init(jax.random.key(0))
    params = cell.sample(jax.random.key(1), params, (2,))
    inputs = jax.random.normal(jax.random.key(2), (2, 200, 5))
    state, expected = lstmjax.unroll(cell, params, inputs)
    stream = lstmjax.Stream(cell, params, batch_shape=(2,))
    compiled = streaming.step._cache_size()
    outputs = [stream(sample) for sample in np.moveaxis(inputs, 1, 0)]
    assert streaming.step._cache_size() == compiled + 1
    np.testing.assert_allclose(np.stack(outputs, axis=1), expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stream.state, state)


def test_streams_share_what_is_compiled_and_not_their_states():
    cells = [lstmjax.elman(3, 4) for _ in range(2)]
    params = cells[0].init(jax.random.key(0))
    one, other = (lstmjax.Stream(cell, params) for cell in cells)
    first = one(jnp.ones(3))
    compiled = streaming.step._cache_size()
    second = one(jnp.ones(3))
    np.testing.assert_array_equal(other(jnp.ones(3)), first)
    assert not np.allclose(second, first)
    one.reset()
    np.testing.assert_array_equal(one(jnp.ones(3)), first)
    goes_on = lstmjax.Stream(cells[1], params, state=other.state)
    np.testing.assert_array_equal(goes_on(jnp.ones(3)), second)
    assert streaming.step._cache_size() == compiled


def test_a_stream_refuses_what_does_not_fit(unchecked):
    cell = lstmjax.lstm(3, 4)
    stream = lstmjax.Stream(cell, cell.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="3 features"):
        stream(jnp.ones(5))
    with pytest.raises(ValueError, match=r"state\.hidden"):
        stream(jnp.ones((2, 3)))


@pytest.fixture(scope="module")
def model():
    return character_server.train(TEXT, hidden=32, steps=250)


def test_the_server_answers_each_character_before_it_reads_the_next(model):
    class Source(io.StringIO):
        def read(self, size=-1):
            asked.append(len(sink.getvalue().splitlines()))
            return super().read(size)

    asked, sink = [], io.StringIO()
    character_server.serve(model, Source("the License"), sink)
    assert asked == list(range(12))
    assert all(line.split()[-1].startswith(("0.", "1.")) for line in sink.getvalue().splitlines())


def test_the_server_gives_the_probabilities_of_the_whole_sequence(model):
    text = TEXT[1000:1300]
    predict = character_server.predictor(model)
    one_by_one = np.stack([predict(character) for character in text])
    inputs = character_server.one_hot(model.alphabet, text)
    _, outputs = lstmjax.unroll(model.cell, model.params.cell, inputs)
    expected = jax.nn.softmax(outputs @ model.params.kernel)
    np.testing.assert_allclose(one_by_one, expected, atol=1e-4)
    right = one_by_one[:-1].argmax(axis=-1) == [model.alphabet.index(character) for character in text[1:]]
    most_frequent = max(text.count(character) for character in model.alphabet) / len(text)
    assert right.mean() > most_frequent + 0.1
    assert predict("\N{SNOWMAN}").sum() == pytest.approx(1, abs=1e-4)
