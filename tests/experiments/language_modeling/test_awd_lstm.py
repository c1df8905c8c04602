"""The AWD-LSTM: each part against its definition, the published size and recipe, a run from end to end."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_resumes

from experiments import __main__ as program
from experiments.common import command_line
from experiments.common.text.vocabulary import Vocabulary
from experiments.language_modeling import EXPERIMENT, adaptive_evaluation, awd_lstm
from experiments.language_modeling.awd_lstm import AWDConfig
from experiments.language_modeling.config import Config, preset
from experiments.language_modeling.data import Corpus
from experiments.language_modeling.model import initial_state, window_loss
from experiments.language_modeling.task import make_model, make_optimizer, make_task
from lstmjax import training
from lstmjax.training.record import Run
from lstmjax.training.streams import TokenStream, Window

PLAIN = AWDConfig(6, 0.0, 0.0, 0.0, 0.0, alpha=0.0, beta=0.0, weight_decay=0.0)
"""Nothing dropped, no penalty."""


@pytest.fixture(scope="module", name="corpus")
def _corpus():
    words = [f"w{number}" for number in np.random.default_rng(0).integers(0, 12, size=600)] + ["<eos>"]
    vocabulary = Vocabulary.of(words)
    tokens = vocabulary.encode(words)
    return Corpus(vocabulary, tokens, tokens[:60], tokens[60:130])


def small(awd=PLAIN, **changes):
    settings = {"hidden": 8, "layers": 3, "batch_size": 3, "window": 12, "dropout": 0.0} | changes
    return Config(size="awd", decay=1.0, awd=awd, **settings)


def start(config, corpus, seed=0):
    model = make_model(config, corpus.vocabulary)
    return model, model.init(jax.random.key(seed))


def window_of(lengths, time=8, first=False):
    """Rows of random words, with other ones beyond their lengths."""
    random = np.random.default_rng(len(lengths))
    inputs, targets = random.integers(0, 12, size=(2, len(lengths), time)).astype(np.int32)
    return Window(inputs, targets, np.array(lengths, np.int32), np.asarray(first))


@pytest.mark.parametrize("dataset", ["ptb", "wikitext2"])
def test_the_size_is_the_published_one(dataset):
    """24,221,600 on PTB, of two biases a layer, where ours has one: 4 gates of 1150, 1150 and 400 units."""
    words = {"ptb": 10_000, "wikitext2": 33_278}[dataset]
    config = preset(Config(dataset=dataset, size="awd"))
    vocabulary = Vocabulary(map(str, range(words)))
    model = make_model(config, vocabulary)
    params = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    layers = sum(4 * (n * h + h * h + 2 * h) for n, h in ((400, 1150), (1150, 1150), (1150, 400)))
    assert count + 4 * (1150 + 1150 + 400) == layers + words * 400 + words
    if dataset == "ptb":
        assert count == 24_221_600 - 10_800
    assert set(params) == {"embedding", "layers", "bias"}, "the softmax has no weights of its own"


def test_weights_of_embedding_and_softmax_are_tied(corpus):
    """Moved in one place, a word's embedding moves its logit, and its gradient has both uses."""
    model, params = start(small(), corpus)
    outputs = jax.random.normal(jax.random.key(1), (6,))
    logits = model.bind(params).logits(outputs)
    np.testing.assert_allclose(logits, params["embedding"] @ outputs + params["bias"], rtol=1e-5)
    window = window_of([1], time=1, first=True)
    window = window._replace(inputs=np.array([[3]], np.int32), targets=np.array([[5]], np.int32))
    state = initial_state(model, 1)

    def loss(params):
        return window_loss(model, params, state, window)[1].total

    gradient = np.abs(jax.grad(loss)(params)["embedding"]).sum(axis=1)
    assert (gradient > 0).all(), "every word is one that might have come"
    assert gradient[3] > gradient[7] > 0, "and one has been read"


def test_parameters_start_as_those_of_the_authors_code(corpus):
    """Layers uniform by their own hidden size, biases a sum of two such; embedding by 0.1; softmax bias 0."""
    config = small(AWDConfig(embedding=100), hidden=400)
    _, params = start(config, corpus)
    assert 0.09 < float(jnp.abs(params["embedding"]).max()) <= 0.1
    assert not params["bias"].any()
    for number, hidden in enumerate((400, 400, 100)):
        layer = params["layers"][number]["weights"]
        for name in ("kernel", "recurrent_kernel"):
            assert 0.99 / math.sqrt(hidden) < float(jnp.abs(layer[name]).max()) <= 1 / math.sqrt(hidden)
        assert float(layer["bias"].std()) == pytest.approx(math.sqrt(2 / 3 / hidden), rel=0.1)


def test_without_noise_and_penalties_the_loss_is_the_mean_of_the_window(corpus):
    config = small()
    model, params = start(config, corpus)
    task = make_task(config, model, corpus)
    for step in range(3):
        window = task.batch(1, step)
        loss, (after, metrics) = task.loss(params, task.initial_carry(), window, jax.random.key(0))
        state, nll = window_loss(model, params, task.initial_carry(), window)
        assert float(loss) == pytest.approx(float(nll.compute()), rel=1e-5)
        assert float(metrics["nll"].compute()) == pytest.approx(float(loss), rel=1e-5)
        length = int(window.lengths[0])
        cut = Window(window.inputs[:, :length], window.targets[:, :length], window.lengths, window.first)
        state, _ = window_loss(model, params, task.initial_carry(), cut)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, state)


def test_penalties_are_of_the_last_layers_outputs_within_their_lengths(corpus):
    config = small(dataclasses.replace(PLAIN, alpha=2.0, beta=1.5), dropout=0.5)
    model, params = start(config, corpus)
    window, state = window_of([8, 3, 0]), initial_state(model, 3)
    key = jax.random.key(4)
    loss, (_, metrics) = awd_lstm.regularized_loss(model, config.awd, params, state, window, key)
    _, outputs = model.bind(params).outputs(window.inputs, state)
    dropped = model.bind(params).drop(outputs[-1], jax.random.split(key, 3)[2])
    size = np.concatenate([dropped[0], dropped[1, :3]])
    change = np.concatenate([np.diff(outputs[-1][0], axis=0), np.diff(outputs[-1][1, :3], axis=0)])
    penalty = 2.0 * np.square(size).mean() + 1.5 * np.square(change).mean()
    assert float(loss) == pytest.approx(float(metrics["nll"].compute()) + penalty, rel=1e-5)


def test_padding_changes_neither_loss_nor_state_nor_gradient(corpus):
    config = small(AWDConfig(embedding=6), dropout=0.4)
    model, params = start(config, corpus)
    window, state = window_of([5, 5], time=8), initial_state(model, 2)
    other = window._replace(inputs=window.inputs.copy(), targets=window.targets.copy())
    other.inputs[:, 5:], other.targets[:, 5:] = 0, 0

    def loss(params, window):
        return awd_lstm.regularized_loss(model, config.awd, params, state, window, jax.random.key(2))

    one, another = (jax.value_and_grad(loss, has_aux=True)(params, each) for each in (window, other))
    jax.tree.map(np.testing.assert_array_equal, one, another)


def test_each_noise_is_in_its_place_and_evaluation_has_none(corpus):
    """One at a time it makes the loss depend on the key; without a key, all of them change nothing."""
    model, params = start(small(), corpus)
    window, state = window_of([8, 8]), initial_state(model, 2)
    plain = window_loss(model, params, state, window)
    rates = ("input_dropout", "hidden_dropout", "embedding_dropout", "weight_drop")
    for changes in [{rate: 0.5} for rate in rates] + [{"dropout": 0.5}]:
        dropout = changes.pop("dropout", 0.0)
        config = small(dataclasses.replace(PLAIN, **changes), dropout=dropout)
        noisy = make_model(config, corpus.vocabulary)
        losses = {
            float(awd_lstm.regularized_loss(noisy, config.awd, params, state, window, jax.random.key(k))[0])
            for k in range(4)
        }
        assert len(losses) > 1, changes
        jax.tree.map(np.testing.assert_array_equal, window_loss(noisy, params, state, window), plain)


def test_dropout_is_locked_and_words_are_dropped_whole(corpus):
    config = small(dataclasses.replace(PLAIN, embedding_dropout=0.5), dropout=0.5)
    model, params = start(config, corpus)
    module = model.bind(params)
    gone = np.asarray(module.drop(jnp.ones((2, 9, 6)), jax.random.key(1)) == 0)
    assert (gone == gone[:, :1]).all()
    assert (gone[0] != gone[1]).any()
    tokens = jnp.arange(12)[:, None]  # each row reads one word from zeros: that of a dropped one is alike
    _, outputs = module.outputs(tokens, module.initial_state((12,)), jax.random.key(0))
    _, zeros = model.bind(params | {"embedding": 0 * params["embedding"]}).outputs(
        tokens, module.initial_state((12,))
    )
    alike = np.isclose(outputs[0], zeros[0]).all(axis=(1, 2))
    assert 1 <= alike.sum() <= 11


@pytest.mark.parametrize(
    ("dataset", "rows", "inputs", "between", "epochs"),
    [("ptb", 20, 0.4, 0.25, 500), ("wikitext2", 80, 0.65, 0.2, 750)],
)
def test_the_recipe_is_the_authors_command(dataset, rows, inputs, between, epochs):
    config = preset(Config(dataset=dataset, size="awd"))
    assert (config.layers, config.hidden, config.awd.embedding, config.window) == (3, 1150, 400, 70)
    assert (config.batch_size, config.epochs, config.dropout) == (rows, epochs, 0.4)
    assert config.awd == AWDConfig(400, inputs, between, 0.1, 0.5, 2.0, 1.0, 1.2e-6)
    settings = config.train
    assert (settings.learning_rate, settings.clip_norm, settings.nonmonotone) == (30, 0.25, 5)
    assert (settings.averaging, settings.mean_from_start) == (0, False)


def test_an_update_is_that_of_the_authors_optimizer(corpus):
    """Clipped first, then with weight decay, at 30, in proportion to the length of the window."""
    awd = dataclasses.replace(PLAIN, weight_decay=0.1)
    config = dataclasses.replace(preset(Config(size="awd")), hidden=8, batch_size=3, awd=awd)
    model, params = start(config, corpus)
    task = make_task(config, model, corpus)
    optimizer = make_optimizer(config, steps_per_epoch=3)
    step = training.make_step(task, config.train, optimizer)
    lengths = set()
    for number in range(4):
        window = task.batch(1, number)
        state = training.init_state(task, config.train, optimizer, params)
        key = jax.random.fold_in(jax.random.split(jax.random.key(1))[1], 0)
        slopes = jax.grad(task.loss, has_aux=True)(params, task.initial_carry(), window, key)[0]
        norm = math.sqrt(sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(slopes)))
        factors = 30 * int(window.lengths[0]) / 70, min(1, 0.25 / norm)
        state, _ = step(state, window)
        jax.tree.map(functools.partial(assert_moved, *factors), params, slopes, state.params)
        lengths.add(int(window.lengths[0]))
    assert len(lengths) > 1


def assert_moved(rate, clip, before, slope, after):
    np.testing.assert_allclose(after, before - rate * (clip * slope + 0.1 * before), rtol=1e-3, atol=1e-4)


def test_it_is_read_as_every_language_model_is(corpus):
    """By what mixes it with a cache, and by dynamic evaluation."""
    config = small(AWDConfig(embedding=6), dropout=0.4)
    model, params = start(config, corpus)
    reading = adaptive_evaluation.read(model, params, corpus.valid, window=11)
    windows = TokenStream(corpus.valid, 1, 20)
    loss = functools.partial(window_loss, model)
    figures = training.evaluate(
        make_task(config, model, corpus), params, windows.once(), initial_state(model, 1)
    )
    assert adaptive_evaluation.perplexity(reading.probabilities) == pytest.approx(
        figures["perplexity"], rel=1e-4
    )
    assert reading.outputs.shape == (59, 6)
    dynamic = adaptive_evaluation.evaluate_dynamically(
        loss,
        params,
        initial_state(model, 1),
        windows.once(),
        squares=jax.tree.map(jnp.ones_like, params),
        rate=0.0,
        decay=0.0,
    )
    assert dynamic == pytest.approx(figures["perplexity"], rel=1e-4)


@pytest.mark.parametrize("stop_at", [7, 15])
def test_a_run_resumes_in_the_middle_of_an_epoch_to_the_same_bits(corpus, tmp_path, stop_at):
    config = small(AWDConfig(embedding=6), dropout=0.4)
    task = make_task(config, make_model(config, corpus.vocabulary), corpus)
    settings = training.TrainConfig(
        steps=20, learning_rate=30.0, clip_norm=0.25, nonmonotone=1, evaluate_every=3, checkpoint_every=5
    )
    optimizer = make_optimizer(dataclasses.replace(config, train=settings), steps_per_epoch=9)
    resumed = assert_resumes(task, settings, stop_at, tmp_path, optimizer)
    assert int(resumed.state.average.averaged) > 1, "the mean began, too"


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_are_trained_the_same_way(cell, corpus):
    config = small(AWDConfig(embedding=6), dropout=0.4, model=cell)
    model, params = start(config, corpus)
    task = make_task(config, model, corpus)
    settings = training.TrainConfig(steps=12, learning_rate=3.0, clip_norm=0.25, evaluate_every=6)
    fit = training.fit(task, settings, optimizer=make_optimizer(config, 2), params=params)
    assert fit.best.step == 12
    assert fit.best.value < training.evaluate(task, params, task.valid())["nll"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": 0}, "awd.embedding must be at least 1, got 0"),
        ({"weight_drop": 1.0}, r"awd.weight_drop must lie in \[0, 1\), got 1.0"),
        ({"beta": -1.0}, "awd.beta must not be negative, got -1.0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(training.ConfigError, match=message):
        AWDConfig(**changes)


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("runs")
    steps = ["--train.steps", "12", "--train.evaluate-every", "4", "--train.log-every", "4"]
    arguments = ["--quick", "--size", "awd", "--data-dir", str(real_data), "--runs", str(folder)]
    small = ["--limit", "1500", "--samples", "1", "--sample-tokens", "20"]
    return command_line.main("language_modeling", EXPERIMENT, [*arguments, *steps, *small])


def test_a_run_writes_what_every_run_does_and_streams_text(quick_run, capsys):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"model", "units.png", "sample-1.txt", "summary.json"} <= names
    arguments = ["generate", "--run", str(quick_run.path), "--prompt", "the company", "--tokens", "5"]
    assert program.main(["language_modeling", *arguments]) == 0
    assert capsys.readouterr().out.startswith("the company ")


def test_a_run_is_fine_tuned_from_its_best_parameters(quick_run, tmp_path, capsys):
    arguments = ["--finetune", str(quick_run.path), "--runs", str(tmp_path), "--train.nonmonotone", "1"]
    tuned = command_line.main("language_modeling", EXPERIMENT, [*arguments, "--train.steps", "8"])
    printed = capsys.readouterr().out
    before, after = (json.loads((run.path / "summary.json").read_text()) for run in (quick_run, tuned))
    best = min(entry.metrics["nll"] for entry in quick_run.metrics("valid"))
    assert f"step 0  valid nll {best:.4g}" in printed, "where it begins"
    own = {"finetune", "runs", "train"}
    assert all(after["config"][name] == value for name, value in before["config"].items() if name not in own)
    assert after["config"]["train"]["mean_from_start"]
    assert after["metrics"]["valid_nll"] <= before["metrics"]["valid_nll"] + 1e-4
    again = ["--resume", str(tuned.path)]
    assert command_line.main("language_modeling", EXPERIMENT, again).path == tuned.path


def test_a_run_without_the_criterion_is_not_fine_tuned(tmp_path, capsys):
    config = json.loads(json.dumps(dataclasses.asdict(preset(Config())), default=str))
    run = Run.create(tmp_path, "language_modeling", config, seed=1, command="test")
    assert program.main(["language_modeling", "--finetune", str(run.path)]) == 1
    assert "was trained without --train.nonmonotone" in capsys.readouterr().err
