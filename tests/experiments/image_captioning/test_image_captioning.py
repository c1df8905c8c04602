"""Image captioning: the model against a plain loop, gradients, baselines, own pictures, a whole run."""

import tarfile

import jax
import numpy as np
import pytest
from PIL import Image
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments import datasets
from experiments.common import models
from experiments.datasets import Splits, captioned, flickr8k
from experiments.datasets.captioned import Captioned
from experiments.datasets.files import DataError
from experiments.image_captioning import baselines, data
from experiments.image_captioning import task as tasks
from experiments.image_captioning.commands import write_captions
from experiments.image_captioning.config import Config
from experiments.image_captioning.model import (
    Architecture,
    Search,
    contours,
    describe,
    doubly_stochastic_penalty,
    make_model,
)
from lstmjax.training import ConfigError
from lstmjax.training.batching import pad
from lstmjax.training.record import Run

ABOUT = Architecture(
    vocabulary=9,
    hidden=5,
    embedding=4,
    channels=(2, 2, 3),
    features=6,
    regions=7,
    attends=True,
    dropout=0.5,
)


def make(**changes):
    """A small captioner of features, with its parameters, and features of three pictures."""
    model = make_model(ABOUT._replace(**changes))
    features = np.random.default_rng(0).normal(size=(3, 7, 6)).astype(np.float32)
    return model, jax.jit(model.init)(jax.random.key(1)), features


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(params, features, tokens):
    """Logits and weights of one picture, word by word, as the equations stand."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def linear(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    regions = linear("encoder", features) + p["places"]
    lstm, looking = p["decoder"]["weights"], p["attention"]["weights"]
    hidden, cell = np.split(np.tanh(linear("first", regions.mean(axis=0))), 2)
    logits, weights = [], []
    for token in [data.START, *tokens[:-1]]:
        embedded = p["words"]["embedding"][token]
        scores = [
            np.tanh(hidden @ looking["query_kernel"] + region @ looking["memory_kernel"])
            @ looking["score_kernel"]
            for region in regions
        ]
        alpha = np.exp(scores) / np.exp(scores).sum()
        seen = sigmoid(linear("gate", hidden)) * (alpha @ regions)
        gates = (
            np.concatenate([embedded, seen]) @ lstm["kernel"]
            + hidden @ lstm["recurrent_kernel"]
            + lstm["bias"]
        )
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        output = np.tanh(embedded + linear("combine", np.concatenate([hidden, seen])))
        logits.append(linear("readout", output))
        weights.append(alpha)
    return np.array(logits), np.array(weights)


def test_the_captioner_is_that_of_the_equations():
    model, params, features = make()
    captions = np.array([[3, 4, 5, 0], [6, 0, 0, 0], [8, 7, 7, 0]])
    logits, weights = jax.jit(lambda params: model.bind(params).teach(features, captions))(params)
    for row in range(3):
        wanted = by_hand(params, features[row], captions[row])
        np.testing.assert_allclose(logits[row], wanted[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights[row], wanted[1], rtol=1e-4, atol=1e-6)


def batch(features, time=4):
    captions = [np.array(row, np.int32) for row in ([3, 4, 5, 0], [6, 0])]
    return data.Batch(features, pad(captions, time, 3))


@pytest.mark.parametrize("attends", [True, False])
def test_padding_changes_nothing_and_gradients_are_right(attends):
    model, params, features = make(attends=attends)

    def value(params, given):
        nll, penalty = tasks.losses(model, params, given)
        return nll.compute() + 0.3 * penalty

    same = [jax.jit(value)(params, batch(features, time)) for time in (4, 6)]
    np.testing.assert_allclose(*same, rtol=1e-5)
    gradient = jax.jit(jax.grad(value))(params, batch(features))
    direction = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32), params
    )
    step = 1e-2
    ends = [
        jax.jit(value)(jax.tree.map(lambda p, d, by=by: p + by * d, params, direction), batch(features))
        for by in (step, -step)
    ]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), gradient, direction)))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=2e-2)


def test_the_penalty_is_that_of_the_paper():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4)).astype(np.float32)
    mask = np.arange(4) < np.array([[4], [2]])
    wanted = [
        sum((1 - sum(weights[row, t, i] for t in range(length))) ** 2 for i in range(3))
        for row, length in enumerate((4, 2))
    ]
    np.testing.assert_allclose(doubly_stochastic_penalty(weights, mask), wanted, rtol=1e-5)


@pytest.mark.parametrize("attends", [True, False])
def test_with_one_beam_each_word_is_the_likeliest(attends):
    """No caption has the unknown word, and it ends where its end is likelier than to go on."""
    model, params, features = make(attends=attends)
    found = np.asarray(describe(model, params, features, Search(1, 0.0, 5)))
    logits, _ = jax.jit(lambda params: model.bind(params).teach(features, found))(params)
    logits = np.array(logits)
    logits[..., [data.START, data.UNKNOWN_WORD]] = -np.inf
    assert not np.isin(found, [data.START, data.UNKNOWN_WORD]).any()
    for row, scores in zip(found, logits, strict=True):
        length = int((row != data.END).sum())
        without_end = scores[:length].copy()
        without_end[:, data.END] = -np.inf
        assert row[:length].tolist() == without_end.argmax(axis=-1).tolist()


def test_pictures_are_cropped_and_mirrored_as_said():
    pictures = np.arange(2 * 6 * 6 * 3, dtype=np.uint8).reshape(2, 6, 6, 3)
    parts = [
        [row[top : top + 4, left : left + 4] for top in range(3) for left in range(3)] for row in pictures
    ]
    seen = set()
    for seed in range(20):
        for row, found in enumerate(data.augment(np.random.default_rng(seed), pictures, 4, mirror=True)):
            plain, mirrored = (
                any(np.array_equal(part, view) for part in parts[row]) for view in (found, found[:, ::-1])
            )
            assert plain or mirrored
            seen.add(plain)
    assert seen == {True, False}
    np.testing.assert_array_equal(data.middle(pictures, 4), pictures[:, 1:5, 1:5])


PARTS = Splits(
    *(
        tuple(
            Captioned(name, np.full((8, 8, 3), shade, np.uint8), (f"a {name} thing .",))
            for name, shade in part.items()
        )
        for part in ({"black": (0, 0, 0), "red": (255, 0, 0)}, {"dark": (9, 9, 9)}, {"rose": (250, 60, 60)})
    )
)


def test_baselines():
    features = [baselines.raw_features(data.stacked(part)[:]) for part in PARTS]
    assert baselines.of_nearest(PARTS.train, features[0], features[1]) == [["a", "black", "thing"]]
    assert baselines.of_nearest(PARTS.train, features[0], features[2]) == [["a", "red", "thing"]]
    assert baselines.of_frequent(PARTS.train, PARTS.test) == [["a", "thing", "black"]]
    found = baselines.of_random(PARTS.train, PARTS.test * 50, seed=0)
    assert {tuple(each) for each in found} == {("a", "black", "thing"), ("a", "red", "thing")}


def test_features_take_the_place_of_pictures(tmp_path):
    path = tmp_path / "features.npz"
    names = ("black", "red", "dark", "rose")
    np.savez(path, **{name: np.full((3, 5), number, np.float16) for number, name in enumerate(names)})
    found = data.with_features(PARTS, path)
    assert found.test[0].picture.shape == (3, 5)
    assert found.test[0].captions == PARTS.test[0].captions
    np.savez(path, **{name: np.zeros((3, 5)) for name in names[:3]})
    with pytest.raises(DataError, match=r"features.npz lacks the arrays rose"):
        data.with_features(PARTS, path)
    np.savez(path, **{name: np.zeros((3, 5 + (name == "red"))) for name in names})
    with pytest.raises(DataError, match=r"features.npz: all pictures must have equally many regions"):
        data.with_features(PARTS, path)


def test_contours_do_not_see_colours_and_two_streams_do_not_mix():
    random = np.random.default_rng(0)
    picture = np.full((1, 16, 16, 3), 120, np.uint8)
    picture[0, 4:12, 4:12] = (220, 40, 60)
    found = np.asarray(contours(picture))[0, :, :, 0]
    np.testing.assert_allclose(found, np.asarray(contours(255 - picture[..., ::-1]))[0, :, :, 0], rtol=1e-6)
    white = np.where(picture == 120, picture, 255)
    np.testing.assert_allclose(found, np.asarray(contours(white))[0, :, :, 0], atol=0.06 * 255)
    edge = np.zeros((16, 16), bool)
    edge[3:12, 3:12] = True
    edge[4:11, 4:11] = False
    edge[3, 3] = False  # neither the pixel below nor the one to the right differs
    np.testing.assert_array_equal(found > 100, edge)

    model = make_model(ABOUT._replace(features=0, channels=(4, 4, 8), regions=4, contours=True))
    params = jax.jit(model.init)(jax.random.key(0))

    def regions(pictures):
        return model.bind(params).encode(pictures)

    noise = random.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    one, other = np.asarray(regions(noise)), np.asarray(regions(noise[..., ::-1]))
    np.testing.assert_allclose(one[..., :4], other[..., :4], rtol=1e-5, atol=1e-6)
    assert np.abs(one[..., 4:] - other[..., 4:]).max() > 0.01


def test_impossible_flags_are_refused():
    with pytest.raises(ConfigError, match=r"channels must be even with --contours: \(4, 4, 5\)"):
        Config(channels=(4, 4, 5), contours=True)
    with pytest.raises(ConfigError, match="channels must be at least three"):
        Config(channels=(8, 8))
    with pytest.raises(ConfigError, match="--crop 99 is more than the 72 pixels of a side"):
        data.load(Config(crop=99))


def quick(kind, runs, real_data):
    """A run with ``--quick``."""
    arguments = ["image_captioning", "--quick", "--data-dir", real_data, "--runs", str(runs), "--model", kind]
    assert program.main([*arguments, "--train.checkpoint-every", "5"]) == 0
    (path,) = (runs / "image_captioning").iterdir()
    return Run.open(path)


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    return quick("attention", tmp_path_factory.mktemp("runs"), str(real_data))


def test_a_run_writes_what_it_promises(quick_run):
    figures = quick_run.figures()
    wanted = {f"{part}_{name}" for part in ("valid", "test") for name in ("bleu1", "bleu4", "cider", "exact")}
    assert wanted | {"valid_nll", "test_encoder_nearest_cider", "train_pictures"} <= figures.keys()
    names = ("captions.png", "attention-1.png", "learning_curves.png", "test-captions.tsv")
    assert all((quick_run.path / name).stat().st_size > 500 for name in names)


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 10)


def test_own_pictures_are_described_and_broken_ones_told_at_the_end(quick_run, tmp_path, capsys):
    folder = models.of_run(quick_run.path, "image_captioning")
    saved = tasks.load_model(folder)
    Image.new("RGBA", (30, 9), "green").save(tmp_path / "green.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    files = [str(tmp_path / name) for name in ("broken.jpg", "green.png")]
    with pytest.raises(DataError, match=r"broken.jpg cannot be read"):
        write_captions(["--run", str(quick_run.path), *files, "--out", str(tmp_path)])
    name, caption = capsys.readouterr().out.strip("\n").split("\t")
    assert name == files[1]
    assert set(caption.split()) <= set(saved.vocabulary.tokens)
    assert (tmp_path / "green-attention.png").stat().st_size > 500


@pytest.mark.parametrize("kind", ["nearest", "random", "frequent"])
def test_every_baseline_runs(kind, tmp_path, real_data):
    figures = quick(kind, tmp_path, str(real_data)).figures()
    assert 0 <= figures["test_bleu4"] <= 100
    assert "parameters" not in figures


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory, real_data):
    """Some photographs as files, with tables of their captions."""
    folder = tmp_path_factory.mktemp("photographs")
    with tarfile.open(real_data / flickr8k.FIRST.dataset / flickr8k.FIRST.name) as archive:
        archive.extractall(folder, filter="data")
    for part, items in zip(Splits._fields, datasets.load("flickr8k", real_data).limited(12), strict=True):
        lines = (f"images/{each.name}\t{text}\n" for each in items for text in each.captions)
        (folder / f"{part}.tsv").write_text("".join(lines))
    return folder


def test_a_folder_of_pictures_is_trained_on_as_a_data_set_is(folder, real_data):
    parts = [data.load(Config(limit=12, folder=given, data_dir=real_data)) for given in (None, folder)]
    vocabulary = data.learn_vocabulary(Config(), parts[0].train)
    whole, lazy = (data.Batches.of(Config(), vocabulary, each.train) for each in parts)
    for step in (0, 3):
        jax.tree.map(np.testing.assert_array_equal, whole.at(7, step), lazy.at(7, step))
    jax.tree.map(np.testing.assert_array_equal, next(whole.once()), next(lazy.once()))


def test_of_a_folder_only_the_pictures_of_ones_own_rows_are_read(folder, monkeypatch):
    config = Config(limit=12, folder=folder)
    train = data.load(config).train
    batches = data.Batches.of(config, data.learn_vocabulary(config, train), train)
    whole, read, rows = batches.at(0, 0), [], len(batches.pairs.at(0, 0).items)

    def counted(path, side, read_picture=captioned.read_picture):
        read.append(path)
        return read_picture(path, side)

    monkeypatch.setattr(captioned, "read_picture", counted)
    monkeypatch.setattr("lstmjax.training.distributed.own_rows", lambda rows: slice(rows // 2, rows))
    half = batches.at(0, 0)
    assert len(read) == rows - rows // 2
    np.testing.assert_array_equal(half.pictures[rows // 2 :], whole.pictures[rows // 2 :])
    np.testing.assert_array_equal(half.captions.values, whole.captions.values)
    assert not half.pictures[: rows // 2].any()


def test_a_plain_model_of_a_folder(folder, tmp_path, capsys):
    flags = ["--quick", "--model", "plain", "--folder", str(folder), "--runs", str(tmp_path)]
    assert program.main(["image_captioning", *flags]) == 0
    (path,) = (tmp_path / "image_captioning").iterdir()
    figures = Run.open(path).figures()
    assert figures["train_pictures"] == 12
    assert figures["parameters"] > 0
    name = (path / "test-captions.tsv").read_text().partition("\t")[0]
    capsys.readouterr()
    write_captions(["--run", str(path), str(folder / name)])
    assert capsys.readouterr().out.startswith(str(folder / name))


def test_what_is_wrong_in_a_folder_is_told_with_its_file(folder, tmp_path):
    for part in Splits._fields:
        (tmp_path / f"{part}.tsv").write_text("a.png\tOne thing.\n")
    with pytest.raises(DataError, match=r"train.tsv, 'a.png' cannot be read: there is no such file"):
        data.load(Config(folder=tmp_path))
    (tmp_path / "a.png").write_bytes(b"no picture")
    train = data.load(Config(folder=tmp_path)).train
    with pytest.raises(DataError, match=r"a.png cannot be read: it is none of JPEG, PNG, WEBP"):
        data.stacked(train)[:]
    (tmp_path / "train.tsv").write_text(f"{folder}/train.tsv\tOne thing.\n")
    with pytest.raises(DataError, match=r"it is not in"):
        data.load(Config(folder=tmp_path))
    with pytest.raises(ConfigError, match="--folder is for --model attention or plain"):
        Config(folder=tmp_path, model="nearest")
