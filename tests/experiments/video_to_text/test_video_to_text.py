"""Video to text: models against plain loops, figures, a user's folder, a whole run and its command."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments.common import models
from experiments.datasets import DataError
from experiments.video_to_text import describing, eye, folders, material, page, task
from experiments.video_to_text.config import Config, preset
from experiments.video_to_text.data import END
from experiments.video_to_text.describing import Described
from experiments.video_to_text.model import Architecture, make_model
from experiments.video_to_text.rendering import SIDE
from lstmjax import training
from lstmjax.training.batching import Padded, Pairs, pad
from lstmjax.training.record import Record, Run

WORDS, INPUTS, FEATURES, HIDDEN = 7, 3, 4, 5
KINDS = {"pools": (True, False), "attends": (False, True), "plain": (False, False)}
"""Whether a model pools, and whether it attends."""


@functools.cache
def made(kind, inputs=INPUTS):
    """A small model and its parameters."""
    pools, attends = KINDS[kind]
    model = make_model(Architecture(WORDS, inputs, 2, FEATURES, HIDDEN, 0.0, pools, attends))
    return model, jax.jit(model.init)(jax.random.key(1))


def drawn(length, seed=0):
    return np.random.default_rng((seed, length)).normal(size=(length, INPUTS)).astype(np.float32)


SENTENCE = np.array([3, 5, 2, END], np.int32)


@functools.partial(jax.jit, static_argnames="model")
def taught(model, params, video, words):
    module = model.bind(params)
    return module.teach(module.watch(*video), words)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_loop(kind, params, frames, sentence):
    """Logits of each word, one frame and one word after the other, in NumPy."""
    pools, attends = KINDS[kind]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def step(weights, state, inputs):
        hidden, cell = state
        gates = inputs @ weights["kernel"] + hidden @ weights["recurrent_kernel"] + weights["bias"]
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(cell), cell

    seen = frames @ params["frame"]["last"]["kernel"] + params["frame"]["last"]["bias"]
    reader, writer = params["reader"]["weights"], params["writer"]["weights"]
    first = second = (np.zeros(HIDDEN), np.zeros(HIDDEN))
    outputs = []
    null, frame = np.zeros(FEATURES + HIDDEN * attends), np.zeros(FEATURES)
    if pools:
        frame = seen.mean(axis=0)
    for each in () if pools else seen:
        first = step(reader, first, each)
        second = step(writer, second, np.concatenate([first[0], null]))
        outputs.append(first[0])
    logits, before = [], END
    for word in sentence:
        first = step(reader, first, frame)
        inputs = [first[0], params["embedding"]["embedding"][before]]
        if attends:
            look = params["attention"]["weights"]
            scores = [
                np.tanh(second[0] @ look["query_kernel"] + each @ look["memory_kernel"])
                @ look["score_kernel"]
                for each in outputs
            ]
            weights = np.exp(scores) / np.exp(scores).sum()
            inputs.append(weights @ np.array(outputs))
        second = step(writer, second, np.concatenate(inputs))
        logits.append(second[0] @ params["readout"]["kernel"] + params["readout"]["bias"])
        before = word
    return np.array(logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_the_loop_it_is_written_as_and_padding_changes_nothing(kind):
    model, params = made(kind)
    videos = [drawn(6), drawn(1), drawn(4)]
    video = pad(videos, time=8, rows=4)
    video.values[0, 6:] = 9.0
    logits, _ = taught(model, params, video, np.tile(SENTENCE, (4, 1)))
    for row, frames in zip(logits, videos, strict=False):
        np.testing.assert_allclose(row, by_loop(kind, params, frames, SENTENCE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_mean_of_frames_does_not_know_their_order(kind):
    model, params = made(kind)
    forward, _ = taught(model, params, pad([drawn(5)]), SENTENCE[None])
    backward, _ = taught(model, params, pad([drawn(5)[::-1]]), SENTENCE[None])
    assert np.allclose(forward, backward, atol=1e-6) == (kind == "pools")


@pytest.mark.parametrize("kind", ["pools", "attends"])
def test_gradients_are_those_of_differences(kind):
    model, params = made(kind)
    batch = Pairs(pad([drawn(3)], time=4), Padded(SENTENCE[None], np.array([4])), np.array([0]))

    @jax.jit
    def loss(params):
        return task.figures(model, {}, params, batch)["nll"].compute()

    gradients = jax.jit(jax.grad(loss))(params)
    direction = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32), params
    )
    slope = sum(jnp.vdot(*each) for each in zip(*map(jax.tree.leaves, (gradients, direction)), strict=True))

    def along(way):
        return loss(jax.tree.map(lambda leaf, step: leaf + way * step, params, direction))

    after, before = along(3e-3), along(-3e-3)
    assert float(slope) == pytest.approx(float(after - before) / 6e-3, rel=2e-2)


def convolved(values, layer, stride):
    """A convolution without padding and the positive part, place by place."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    size = len(kernel)
    places = range(0, len(values) - size + 1, stride)
    rows = [
        [np.einsum("yxi,yxio->o", values[y : y + size, x : x + size], kernel) + bias for x in places]
        for y in places
    ]
    return np.maximum(rows, 0)


def test_the_vector_of_a_picture_is_what_there_is_and_where():
    model, params = made("plain", inputs=0)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    found = jax.jit(lambda params, picture: model.bind(params).frame(picture))(params, picture[None])[0]
    own = params["frame"]
    maps = convolved(convolved(picture[..., None] / 255, own["first"], 4), own["second"], 1)
    parts = []
    for name, values in (("what", maps.max(axis=(0, 1))), ("where", maps.ravel())):
        part = np.asarray(values @ own[name]["kernel"] + own[name]["bias"])
        parts.append((part - part.mean()) / np.sqrt(part.var() + 1e-6))
    np.testing.assert_allclose(found, np.maximum(np.concatenate(parts), 0), rtol=1e-3, atol=1e-4)


def test_frames_for_the_eye_have_the_digits_that_they_are_said_to_have():
    images = {digit: np.full((1, 14, 14), 10 * digit + 100, np.uint8) for digit in range(10)}
    frames, there = eye.frames_with_digits(np.random.default_rng(0), images, digits=2, count=30)
    assert (there.sum(axis=1) == 2).all()
    for frame, row in zip(frames, there, strict=True):
        assert set(np.unique(frame)) - {0} <= {10 * digit + 100 for digit in np.flatnonzero(row)}


def test_the_eye_learns_and_the_rest_stays_as_it_began():
    images = {digit: np.full((1, 14, 14), 25 * digit + 10, np.uint8) for digit in range(10)}
    config = Config(channels=4, features=16, hidden=4, eye_steps=2)
    model = make_model(task.make_architecture(config, WORDS, 0))
    fresh = jax.jit(model.init)(jax.random.key(config.seed))
    params = eye.trained(config, model, images)
    for name in params:
        same = jax.tree.map(lambda one, other: bool((one == other).all()), params[name], fresh[name])
        assert all(jax.tree.leaves(same)) == (name != "frame")


def test_figures_are_shares_of_sentences_and_words():
    model, params = made("plain")
    rows = [drawn(5), drawn(3)]
    first = by_loop("plain", params, rows[0], SENTENCE)[0].argmax()
    target = pad([np.array([first, END], np.int32), np.array([5, 5, END], np.int32)], rows=3)
    batch = Pairs(pad(rows, rows=3), target, np.array([0, 1, -1], np.int32))
    found = jax.jit(functools.partial(task.figures, model, {"five": (5,)}))(params, batch)
    nll, right = [], []
    for row, frames in enumerate(rows):
        words = target.values[row, : target.lengths[row]]
        logits = by_loop("plain", params, frames, words)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        nll += [-np.log(share[word]) for share, word in zip(shares, words, strict=True)]
        right.append([share.argmax() == word for share, word in zip(shares, words, strict=True)])
    assert float(found["nll"].compute()) == pytest.approx(np.mean(nll), rel=1e-4)
    assert float(found["exact"].compute()) == np.mean([all(each) for each in right])
    assert float(found["five"].weight) == 2
    assert float(found["five"].total) == sum(right[1][:2])


def test_bleu_takes_as_many_references_as_each_video_has():
    frames = np.zeros((1, SIDE, SIDE), np.uint8)
    told = [
        Described(frames, "the digit 3 moves up slowly", ("the digit 3 moves up slowly", "a b c d e")),
        Described(frames, "the digit 4 moves up slowly", ("the digit 4 moves up slowly",)),
    ]
    assert describing.figures(told) == pytest.approx({"exact": 1, "bleu4": 100})
    told[1] = told[1]._replace(sentence="the digit 4 moves up quickly")
    # by hand: 11 of 12 words, 9 of 10 pairs, 7 of 8 triples, 5 of 6 quadruples
    bleu = 100 * (11 / 12 * 9 / 10 * 7 / 8 * 5 / 6) ** 0.25
    assert describing.figures(told) == pytest.approx({"exact": 0.5, "bleu4": bleu})


def test_flags_that_do_not_fit_are_refused():
    with pytest.raises(training.ConfigError, match="attention is for --model s2vt"):
        Config(model="pooling", attention="temporal")
    with pytest.raises(training.ConfigError, match="at least fewest and at most 64"):
        Config(frames=65)
    with pytest.raises(training.ConfigError, match="epochs are for --folder"):
        Config(epochs=1)
    with pytest.raises(training.ConfigError, match="alone_steps are for --digits 2"):
        Config(alone_steps=1)
    assert preset(Config(digits=2)).eye_steps > preset(Config()).eye_steps


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    return run_quickly(
        tmp_path_factory.mktemp("runs"), "--data-dir", str(real_data), "--attention", "temporal"
    )


def run_quickly(folder, *flags):
    assert program.main(["video_to_text", "--quick", "--runs", str(folder), *flags]) == 0
    (path,) = (folder / "video_to_text").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "model"} <= names
    assert {"learning_curves.png", "test.gif", "test.txt", "test-attention.png", "test_seen.gif"} <= names
    metrics = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    for part in ("test", "test_seen"):
        assert {f"{part}_{name}" for name in ("exact", "bleu4", "digit", "direction", "speed")} <= set(
            metrics
        )
    with Image.open(quick_run.path / "test.gif") as animation:
        assert animation.n_frames == 20


def test_sentences_are_right_as_often_as_the_metric_says(quick_run, real_data):
    """Greedy decoding against the likeliest words after the right ones."""
    saved = task.load_model(models.of_run(quick_run.path, "video_to_text"))
    parts = material.load(dataclasses.replace(saved.config, data_dir=real_data))
    (video,) = [batch.source for batch in parts.valid.once()][:1]
    videos = [row[:length] for row, length in zip(*video, strict=True)]
    sentences = describing.describe(saved, videos)
    assert describing.describe(saved, videos[:1], beams=4)
    own = material.TestSet(
        parts.valid, [(sentences[item % len(sentences)],) for item in range(saved.config.videos)]
    )
    told = list(describing.describe_all(saved, own))
    assert all(each.right for each in told[: len(videos)])
    assert len(told) == saved.config.videos


def test_a_finished_run_that_is_resumed_has_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, last=20)


def test_describe_reads_a_gif_and_says_which_file_is_broken(quick_run, tmp_path, capsys):
    good, bad, out = tmp_path / "a.gif", tmp_path / "b.gif", tmp_path / "out.gif"
    pictures = [Image.fromarray(np.full((50, 80), 20 * shade, np.uint8)) for shade in range(5)]
    pictures[0].save(good, save_all=True, append_images=pictures[1:])
    bad.write_bytes(b"GIF89a")
    flags = ["--run", str(quick_run.path), "--out", str(out)]
    assert program.main(["video_to_text", "describe", str(good), str(bad), *flags]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{good}\t")
    assert "b.gif" in said.err
    assert out.stat().st_size > 0


def write_folder(folder, features=True):
    rng = np.random.default_rng(0)
    names = [f"vid{number}" for number in range(6)]
    if features:
        np.savez(folder / "features.npz", **{name: rng.normal(size=(30, 4)) for name in names})
    lines = [f"{name}\tA man {verb} a guitar." for name in names for verb in ("plays", "is playing")]
    for part, chosen in (("train", lines[:8]), ("valid", lines[8:10]), ("test", lines[10:])):
        (folder / f"{part}.tsv").write_text("\n".join(chosen) + "\n")
    return names


def test_a_folder_of_features_is_trained_on(tmp_path, capsys):
    write_folder(tmp_path)
    found = run_quickly(tmp_path / "runs", "--folder", str(tmp_path))
    assert 0 <= found.figures()["test_bleu4"] <= 100
    parts = folders.load(tmp_path, most=20)
    assert [len(part) for part in parts] == [4, 1, 1]
    assert parts.test[0].captions == ("a man plays a guitar", "a man is playing a guitar")
    assert parts.test[0].frames.shape == (20, 4)
    assert program.main(["video_to_text", "describe", "x.gif", "--run", str(found.path)]) == 1
    assert "takes no files" in capsys.readouterr().err


def test_a_folder_that_does_not_fit_is_refused_with_file_and_line(tmp_path):
    names = write_folder(tmp_path, features=False)
    with pytest.raises(DataError, match=r"vid0.*no such file"):
        folders.load(tmp_path, most=20)
    (tmp_path / "train.tsv").write_text("vid0 no tab\n")
    with pytest.raises(DataError, match=r"train\.tsv, line 1 cannot be read: it is not the name of a file"):
        folders.load(tmp_path, most=20)
    (tmp_path / "train.tsv").write_text("../other\ta man\n")
    with pytest.raises(DataError, match="it is not in"):
        folders.load(tmp_path, most=20)
    write_folder(tmp_path)
    np.savez(tmp_path / "features.npz", **{name: np.ones((2, 4 + (name == "vid1"))) for name in names})
    with pytest.raises(DataError, match="equally many features"):
        folders.load(tmp_path, most=20)
    np.savez(tmp_path / "features.npz", vid0=np.ones((2, 4)))
    with pytest.raises(DataError, match=r"'vid1' cannot be read: features\.npz has no array of this name"):
        folders.load(tmp_path, most=20)


def test_the_page_has_a_row_for_each_label_and_the_readme_at_most_two():
    figures = dict.fromkeys(page.FIGURES, 0.5) | {"parameters": 1000.0}
    records = [
        Record("video_to_text", label, "python", {"alone_steps": 40}, seed, figures, "cpu", 60.0, "c", {})
        for label in page.MEANINGS
        for seed in (1, 2)
    ]
    text = page.page(records)
    assert all(f"**{label}**: {meaning}" in text for label, meaning in page.MEANINGS.items())
    assert "one for its first 40 steps" in text
    assert [row.label for row in page.results(records)] == ["digits1-s2vt", "digits2-s2vt"]
