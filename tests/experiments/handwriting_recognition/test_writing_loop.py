"""The window that moves with the ink, the words of the closed loop, and the page of both."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datasets.ink import of_strokes
from experiments.handwriting_recognition.writing import closed_loop, page, path, sampling
from experiments.handwriting_recognition.writing.model import Architecture, InkWindow, encode, make_model
from lstmjax.training.record import Record


def test_the_window_is_that_of_the_paper_at_the_pace_of_the_ink():
    window, random = InkWindow(4, 3, 2), np.random.default_rng(0)
    params = window.init(jax.random.key(0))
    values, query = random.standard_normal((5, 3)), 0.5 * random.standard_normal(4)
    memory = window.prepare(params, jnp.float32(values), jnp.array(4))
    state = (jnp.array([0.5, 1.5]), jnp.array([0.25]))
    glimpse, (kappa, _) = window.attend(params, memory, jnp.float32(query), state)
    alpha, beta, movement = np.split(np.exp(query @ np.asarray(params.kernel) + params.bias), 3)
    np.testing.assert_allclose(kappa, [0.5, 1.5] + 0.25 * movement, rtol=1e-5)
    places = np.arange(1, 6)
    weights = sum(
        a * np.exp(-b * (k + 0.5 - places) ** 2) for a, b, k in zip(alpha, beta, kappa, strict=True)
    )
    weights[4] = 0
    np.testing.assert_allclose(glimpse.weights, weights, rtol=1e-4)
    np.testing.assert_allclose(glimpse.context, weights @ values, rtol=1e-4)


def test_untrained_windows_are_at_the_end_of_a_text_when_its_ink_is():
    """With a kernel of zeros, the window has moved by the ink: a letter for each, and the spaces."""
    model = make_model(Architecture(hidden=4, components=2, windows=1))
    params = jax.jit(model.init)(jax.random.key(0))
    params["window"]["weights"]["kernel"] *= 0
    strokes = [np.array([[0.0, 0.0], [0.0, 1.0], [0.5, 1.0]]), np.array([[2.0, 2.0], [2.5, 2.0]])]
    word = path.Word("ab", path.path(strokes), "me")
    assert path.unit(strokes, word.text) == 1
    points = np.concatenate([word.path, word.path])
    text = jnp.asarray(encode("ab ab"))[None]

    @jax.jit
    def kappas(params):
        module = model.bind(params)
        memory = module.prepare(text, jnp.array([5]))

        def step(state, point):
            state, _, _ = module.step(memory, state, point[None])
            return state, state.looking.kappa[0, 0]

        return jax.lax.scan(step, module.start(memory), jnp.asarray(points))[1]

    np.testing.assert_allclose(kappas(params), [0, 1, 1.5, 1.5, 2, 3, 4, 4.5, 4.5, 5], atol=1e-4)


def test_pairs_of_the_loop_are_of_one_writer_and_of_different_words():
    dot = [np.zeros((1, 2))]
    inks = [of_strokes(dot, label=f"w{n % 7}", writer="uvw"[n % 3]) for n in range(60)]
    chosen = closed_loop.choose(inks, 12, seed=1)
    assert len(chosen) == 12
    for style, ink in chosen:
        assert style.writer == ink.writer
        assert style is not ink
    assert closed_loop.choose(inks, 12, seed=1) == chosen
    assert closed_loop.choose(inks, 12, seed=2) != chosen


def test_words_of_the_loop_come_back_in_their_order(monkeypatch):
    batches = []

    def write(model, params, texts, key, bias, style=()):
        assert [word.text for word in style] == [text.upper() for text in texts]
        batches.append(len(texts))
        return [sampling.Sample(path.Word(text, np.zeros((1, 4)), ""), True, np.zeros(1)) for text in texts]

    monkeypatch.setattr(sampling, "write", write)
    monkeypatch.setattr(closed_loop, "BATCH", 4)
    texts = ["ccc", "a", "bb", "dddd", "eeeee", "f"]
    style = [path.Word(text.upper(), np.zeros((1, 4)), "") for text in texts]
    saved = type("Saved", (), {"model": None, "params": None})
    samples = closed_loop.write_all(saved, texts, 0.5, seed=1, style=style)
    assert [sample.word.text for sample in samples] == texts
    assert batches == [4, 4]


def test_the_page_has_what_the_records_have():
    metrics = {
        "test_nll": -80.0,
        "test_nll_per_point": -2.0,
        "valid_nll_per_point": -2.1,
        "test_points": 40.0,
    }
    metrics |= {"parameters": 1000.0, "test_primed_nll": -90.0, "test_second_nll": -70.0}
    record = Record("handwriting_recognition", page.LABEL, "", {}, 1, metrics, "cpu", 60.0, "0", {})
    text = "\n".join(page.section([record]))
    assert "| **words-synthesis** | -80.0 | -2.000 |" in text
    assert "closed loop" not in text
    looped = {"closed_loop_cer_real": 0.1, "closed_loop_cer_primed_0.5": 0.14, "closed_loop_words": 9.0}
    looped |= {"train_step_deviation_x": 0.1, "train_step_deviation_y": 0.1}
    record.metrics.update(looped)
    text = "\n".join(page.section([record]))
    assert "| written, in the hand of the writer | 0.5 | 14.0 | 1.40 |" in text
    standard = -2.0 - 2 * np.log(0.1) * 39 / 40
    assert f"| {standard:.3f} |" in text
    assert page.section([]) == []
