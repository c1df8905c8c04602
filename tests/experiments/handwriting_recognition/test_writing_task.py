"""The network that writes: its losses, and words drawn from it."""

import functools
import json

import jax
import numpy as np
import pytest

from experiments.datasets.files import DataError
from experiments.handwriting_recognition.writing import path, sampling, styles, task
from experiments.handwriting_recognition.writing.model import Architecture, decode, encode, make_model
from experiments.handwriting_recognition.writing.path import Word
from lstmjax.losses import mixture_density
from lstmjax.training.batching import Padded, PairBatches, Pairs, pad

_one_loss = jax.jit(mixture_density.negative_log_likelihood)

ARCHITECTURE = Architecture(hidden=8, components=2, windows=3)


@pytest.fixture(scope="module", name="model")
def _model():
    model = make_model(ARCHITECTURE)
    params, random = jax.jit(model.init)(jax.random.key(0)), np.random.default_rng(1)
    noisy = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.2 * random.standard_normal(leaf.shape), params)
    return model, jax.tree.map(np.float32, noisy)


def a_word(text, points, seed=0, writer="me"):
    random = np.random.default_rng(seed)
    steps = 0.2 * random.standard_normal((points, 2))
    own = path.path(np.split(np.cumsum(steps, axis=0), [points // 2]))
    return Word(text, own, writer)


WORDS = [a_word("a", 3), a_word("word", 9, 1), a_word("two", 6, 2), a_word("xyz", 7, 3, writer="you")]


def a_batch(items, points=24, letters=12):
    """With a row too many, which is empty, and junk in the padding of paths."""
    source = pad([item.path for item in items], points, len(items) + 1)
    there = np.arange(points)[:, None] < source.lengths[:, None, None]
    target = pad([encode(item.text) for item in items], letters, len(items) + 1)
    junk = np.where(there, source.values, np.float32(7))
    return Pairs(Padded(junk, source.lengths), target, np.array([*range(len(items)), -1]))


@functools.cache
def _losses(model):
    return jax.jit(lambda params, batch: task.losses(model.bind(params), batch))


@functools.cache
def _functions(model):
    def begin(params, text, length):
        module = model.bind(params)
        memory = module.prepare(text, length)
        return memory, module.start(memory)

    return jax.jit(begin), jax.jit(lambda params, *rest: model.bind(params).step(*rest)[:2])


def by_steps(model, params, item, letters=12):
    """Step and stop losses of one item by itself, point by point."""
    begin, advance = _functions(model)
    text = pad([encode(item.text)], letters)
    memory, state = begin(params, *text)
    step, stop = [], []
    for number, point in enumerate(item.path):
        state, written = advance(params, memory, state, point[None])
        following = item.path[number + 1] if number + 1 < len(item.path) else None
        ends = following is None or following[3] == 1
        probability = 1 / (1 + np.exp(-float(written.stop[0])))
        stop.append(-np.log(probability if ends else 1 - probability) if point[2] else 0.0)
        if ends:
            step.append(0.0)
        else:
            step.append(float(_one_loss(written.outputs[0], following[:3])))
    return np.array(step), np.array(stop)


def test_losses_equal_those_of_steps_whatever_the_padding(model):
    items = [*WORDS, task.joined(WORDS[1], WORDS[2])]
    found = _losses(model[0])(model[1], a_batch(items))
    for row, item in enumerate(items):
        step, stop = by_steps(*model, item)
        np.testing.assert_allclose(found.step[row, : len(step)], step, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.stop[row, : len(step)], stop, rtol=1e-4, atol=1e-5)
        assert (found.step[row, len(step) :] == 0).all()
        assert (found.stop[row, len(step) :] == 0).all()
    assert (found.step[-1] == 0).all()
    first = len(WORDS[1].path)
    scored = np.asarray(found.scored)
    assert (scored[-2, :first] == 0).all()
    assert found.last[-2].sum() == len(WORDS[2].path)
    assert scored[-2].sum() == pytest.approx(float((found.step + found.stop)[-2, first:].sum()), rel=1e-5)


def test_figures_are_means_of_words_and_of_points(model):
    batch = a_batch(WORDS)
    figures = jax.jit(lambda params, batch: task.figures(model[0].bind(params), batch))(model[1], batch)
    totals = [sum(map(np.sum, by_steps(*model, word))) for word in WORDS]
    points = sum(len(word.path) for word in WORDS)
    assert float(figures["nll"].compute()) == pytest.approx(np.mean(totals), rel=1e-4)
    assert float(figures["nll_per_point"].compute()) == pytest.approx(np.sum(totals) / points, rel=1e-4)
    assert float(figures["points"].compute()) == points / len(WORDS)


def test_every_word_is_trained_on_once_and_pairs_are_of_one_writer():
    random = np.random.default_rng(0)
    words = [a_word(f"w{'abc'[n % 3]}", 4, n, writer="uvw"[random.integers(3)]) for n in range(90)]
    words += [a_word("long", task.MOST_POINTS + 1)]
    items = task.training_items(words)
    assert sum(len(item.path) for item in items) == 4 * 90
    starts = [int(item.path[:, 3].sum()) for item in items]
    assert set(starts) == {1, 2}
    for item, count in zip(items, starts, strict=True):
        texts = item.text.split()
        assert len(texts) == count == len(set(texts))
    by_path = {word.path.tobytes(): word.writer for word in words}
    for item in items:
        for part in np.split(item.path, np.flatnonzero(item.path[1:, 3]) + 1):
            assert by_path[part.tobytes()] == item.writer


@functools.cache
def written(model, texts, bias=0.0, style=(), seed=0):
    hands = [WORDS[each] for each in style]
    return sampling.write(*MODELS[model], list(texts), jax.random.key(seed), bias, hands)


MODELS = {}
THREE = ("hello", "a", "Word")


@pytest.fixture(autouse=True)
def _known(model):
    MODELS["small"] = model


def test_words_are_paths_that_end_or_are_cut_off():
    samples = written("small", THREE)
    for sample, text in zip(samples, THREE, strict=True):
        own, most = sample.word.path, sampling.MOST_POINTS_PER_LETTER * (len(text) + 3)
        assert sample.word.text == text
        assert own[0].tolist()[:2] == [0, 0]
        assert own[:, 3].tolist() == [1] + [0] * (len(own) - 1)
        assert own[-1, 2] == 1
        assert set(own[:, 2]) <= {0, 1}
        assert len(own) <= most
        assert sample.ended or len(own) == most
        assert sample.letters.max() < len(text)
        assert np.isfinite(path.ink(sample.word).points).all()


def test_a_word_does_not_depend_on_the_words_beside_it():
    beside, again = written("small", THREE), written("small", ("hello", "is", "w"))
    assert len(again[0].word.path) == len(beside[0].word.path)
    np.testing.assert_allclose(again[0].word.path, beside[0].word.path, atol=1e-4)


@functools.cache
def _outputs(model):
    def outputs(params, batch):
        module = model.bind(params)
        return module(module.prepare(*batch.target), *batch.source).outputs

    return jax.jit(outputs)


def test_a_style_is_read_as_the_losses_read_it(model):
    """With the largest bias nothing is random: the next point is the likeliest component's mean."""
    (first, other) = written("small", ("two", "two"), bias=30.0, style=(1, 3))
    for sample, style in ((first, WORDS[1]), (other, WORDS[3])):
        begun = Word("two", sample.word.path[:2], "me")
        item = task.joined(style, begun)
        outputs = _outputs(model[0])(model[1], a_batch([item]))
        read = mixture_density.mixture(outputs[0, len(style.path)])
        likeliest = read.means[read.weights.argmax()]
        np.testing.assert_allclose(sample.word.path[1, :2], likeliest, atol=1e-4)
        assert sample.word.writer == style.writer
    assert np.abs(first.word.path[1] - other.word.path[1]).max() > 1e-4


def test_other_seeds_write_other_words():
    first, second = (written("small", THREE, seed=seed)[0].word.path for seed in (0, 1))
    assert first.shape != second.shape or (first != second).any()


def test_texts_that_cannot_be_written_are_refused(model):
    with pytest.raises(DataError, match="has '24é': the network can write the letters"):
        encode("é2e4")
    with pytest.raises(DataError, match="is empty"):
        encode("")
    assert decode(encode("Hello you")) == "Hello you"


def test_styles_are_of_several_writers_and_are_kept(model, tmp_path):
    words = [a_word("letter", 9, seed, writer=f"w{seed % 20:02}") for seed in range(40)]
    batches = PairBatches([word.path for word in words], [encode(word.text) for word in words], 100, 1)
    chosen = styles.choose(*model, batches, words)
    assert [word.writer for word in chosen] == ["w00", "w03", "w05", "w08", "w11", "w14", "w16", "w19"]
    for word in chosen:
        own = [each for each in words if each.writer == word.writer]
        losses = [sum(map(np.sum, by_steps(*model, each))) for each in own]
        assert own[int(np.argmin(losses))] is word
    styles.save(tmp_path, chosen)
    again = styles.load(tmp_path)
    for before, after in zip(chosen, again, strict=True):
        assert (after.text, after.writer) == (before.text, before.writer)
        np.testing.assert_allclose(after.path, before.path, atol=1e-4)
    (tmp_path / styles.FILE).write_text(json.dumps([{"text": "a"}]))
    with pytest.raises(DataError, match="style 0 cannot be read"):
        styles.load(tmp_path)
