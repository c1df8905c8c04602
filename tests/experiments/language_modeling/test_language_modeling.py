"""The language model: its figure is what it says, the recipe is the paper's, a run resumes anywhere."""

import collections
import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_resumes

from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line, pages, recipes
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets import text
from experiments.datasets.files import DataError, read_text
from experiments.language_modeling import EXPERIMENT, rival, unit_pictures
from experiments.language_modeling import data as corpora
from experiments.language_modeling.config import Config, preset
from experiments.language_modeling.model import initial_state, stream
from experiments.language_modeling.page import BENCHMARK
from experiments.language_modeling.task import (
    architecture,
    make_model,
    make_optimizer,
    make_task,
    training_stream,
)
from lstmjax import training
from lstmjax.training.record import load_records

SONNET = """shall i compare thee to a summer's day
thou art more lovely and more temperate
rough winds do shake the darling buds of may
and summer's lease hath all too short a date
sometime too hot the eye of heaven shines
and often is his gold complexion dimmed
and every fair from fair sometime declines
by chance or nature's changing course untrimmed
but thy eternal summer shall not fade
nor lose possession of that fair thou ow'st
nor shall death brag thou wander'st in his shade
when in eternal lines to time thou grow'st
so long as men can breathe or eyes can see
so long lives this and this gives life to thee
"""


@pytest.fixture(scope="module", name="corpus")
def _corpus():
    words = text.words(SONNET)
    vocabulary = Vocabulary.of(words)
    tokens = vocabulary.encode(words)
    return corpora.Corpus(vocabulary, tokens, tokens[:43], tokens[43:80])


def small(**changes):
    return Config(hidden=8, batch_size=3, window=5, **changes)


def start(config, corpus, seed=0):
    model = make_model(config, corpus.vocabulary)
    return model, model.init(jax.random.key(seed))


def losses_one_by_one(model, params, tokens):
    """In float64: no batch, no window, one step of each cell after the other, from the end of a line on."""
    module = model.bind(params)
    states, found = [layer.initial_state() for layer in module.layers], []
    for token, following in itertools.pairwise(tokens):
        outputs = module.embedding[...][token]
        for number, layer in enumerate(module.layers):
            states[number], outputs = layer.step(states[number], outputs)
        logits = np.asarray(outputs, np.float64) @ np.asarray(module.kernel[...]) + np.asarray(
            module.bias[...]
        )
        found.append(np.log(np.exp(logits).sum()) - logits[following])
    return found


@pytest.mark.parametrize("model", ["lstm", "gru", "rnn"])
def test_the_figure_is_the_mean_over_every_token_of_the_set(model, corpus):
    config = small(model=model)
    functional, params = start(config, corpus)
    task = make_task(config, functional, corpus)
    end = corpus.vocabulary.encode(["<eos>"])
    expected = losses_one_by_one(functional, params, np.concatenate([end, corpus.test]))
    assert len(expected) == len(corpus.test) == 37
    for window in (1, 7, 50):
        windows = corpora.evaluation_windows(corpus.test, corpus.vocabulary, 1, window)
        carry = initial_state(functional, 1)
        figures = training.evaluate(task, params, windows, carry)
        assert figures["nll"] == pytest.approx(np.mean(expected), rel=1e-5)
        assert figures["perplexity"] == pytest.approx(math.exp(np.mean(expected)), rel=1e-4)


def test_in_several_rows_each_begins_afresh_and_no_token_is_lost(corpus):
    config = small()
    functional, params = start(config, corpus)
    task = make_task(config, functional, corpus)
    tokens = np.concatenate([corpus.vocabulary.encode(["<eos>"]), corpus.valid])
    rows = [tokens[first : first + 16] for first in (0, 15, 30)]  # 43 targets in rows of 15, 15 and 13
    expected = np.concatenate([losses_one_by_one(functional, params, row) for row in rows])
    figures = training.evaluate(task, params, task.valid(), task.initial_evaluation_carry())
    assert len(expected) == 43
    assert figures["nll"] == pytest.approx(expected.mean(), rel=1e-5)


def test_the_state_goes_from_window_to_window_and_starts_afresh_with_the_epoch(corpus):
    config = small()
    model, params = start(config, corpus)
    task = make_task(config, model, corpus)
    length = (len(corpus.train) - 1) // 3
    steps = length // 5
    rows = [corpus.train[row * length : row * length + steps * 5 + 1] for row in range(3)]
    expected = np.array([losses_one_by_one(model, params, row) for row in rows]).reshape(3, steps, 5)
    carry = task.initial_carry()
    for step in range(steps + 1):
        window = task.batch(0, step)
        loss, (carry, metrics) = task.loss(params, carry, window, jax.random.key(0))
        summed_over_time = expected[:, step % steps].sum(axis=1)
        assert float(loss) == pytest.approx(summed_over_time.mean(), rel=1e-5), "and averaged over rows"
        assert float(metrics["nll"].compute()) == pytest.approx(float(loss) / 5, rel=1e-6)


def test_dropout_acts_in_training_only(corpus):
    config = small(dropout=0.5)
    model, params = start(config, corpus)
    task = make_task(config, model, corpus)
    window, carry = task.batch(0, 0), task.initial_carry()
    losses = {float(task.loss(params, carry, window, jax.random.key(seed))[0]) for seed in range(3)}
    assert len(losses) == 3
    plain = make_task(small(), make_model(small(), corpus.vocabulary), corpus)
    _, evaluated = task.evaluate(params, carry, window)
    _, (_, metrics) = plain.loss(params, carry, window, jax.random.key(0))
    assert float(evaluated["nll"].compute()) == pytest.approx(float(metrics["nll"].compute()), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "hidden", "window", "dropout", "scale", "clip", "epochs", "rates"),
    [
        ("small", 200, 20, 0.0, 0.1, 5, 13, {0: 1, 3: 1, 4: 0.5, 12: 0.5**9}),
        ("medium", 650, 35, 0.5, 0.05, 5, 39, {0: 1, 5: 1, 6: 0.8, 38: 0.8**33}),
        ("large", 1500, 35, 0.65, 0.04, 10, 55, {0: 1, 13: 1, 14: 1 / 1.15, 54: 1.15**-41}),
    ],
)
def test_the_recipes_are_those_of_the_paper(size, hidden, window, dropout, scale, clip, epochs, rates):
    config = preset(Config(size=size))
    assert (config.hidden, config.window, config.dropout) == (hidden, window, dropout)
    assert (config.layers, config.batch_size, config.init_scale) == (2, 20, scale)
    assert (config.train.clip_norm, config.epochs, config.optimizer) == (clip, epochs, "sgd")
    optimizer = make_optimizer(config, steps_per_epoch=10)
    params = jnp.zeros(4)
    state = optimizer.init(params)
    gradient = jnp.array([3.0, 0, 0, 0])
    update = jax.jit(optimizer.update)
    for step in range(10 * epochs):
        updates, state = update(gradient, state, params)
        if step % 10 == 0 and step // 10 in rates:
            assert float(updates[0]) == pytest.approx(-3 * rates[step // 10], rel=1e-4)
    fresh = optimizer.init(params)
    clipped, _ = optimizer.update(jnp.full(4, 1e3), fresh, params)
    assert float(jnp.linalg.norm(clipped)) == pytest.approx(clip, rel=1e-5)


def test_all_parameters_start_uniform(corpus):
    _, params = start(dataclasses.replace(small(), hidden=64, init_scale=0.05), corpus)
    for leaf in jax.tree.leaves(params):
        assert 0.04 < float(jnp.abs(leaf).max()) <= 0.05
        assert abs(float(leaf.mean())) < 0.01


def test_epochs_and_steps_do_not_both_say_how_long():
    config = preset(Config())
    settings = recipes.training_config(config, steps_per_epoch=7)
    assert (settings.steps, settings.evaluate_every) == (13 * 7, 7)
    both = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=5))
    with pytest.raises(training.ConfigError, match=r"--epochs 13 and --train.steps 5 both say"):
        recipes.training_config(both, 7)
    assert recipes.training_config(dataclasses.replace(both, epochs=0), 7).steps == 5


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(corpus, tmp_path):
    config = small(dropout=0.2)
    task = make_task(config, make_model(config, corpus.vocabulary), corpus)
    optimizer = make_optimizer(config, steps_per_epoch=7)
    settings = training.TrainConfig(
        steps=12, learning_rate=1.0, clip_norm=5.0, evaluate_every=4, log_every=1, checkpoint_every=5
    )
    resumed = assert_resumes(task, settings, 8, tmp_path, optimizer)
    assert any(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(resumed.state.carry))


def test_training_learns_the_text(corpus):
    config = small(optimizer="adam", init_scale=0.0)
    task = make_task(config, make_model(config, corpus.vocabulary), corpus)
    settings = training.TrainConfig(steps=150, learning_rate=0.02, clip_norm=5.0, evaluate_every=150)
    fit = training.fit(task, settings)
    assert fit.best.value < 0.6 * math.log(len(corpus.vocabulary))


def test_generated_text_follows_the_model(corpus):
    """The likeliest token always, as found by stepping the cells; and with a tiny nucleus the same."""
    model, params = start(small(init_scale=0.9), corpus, seed=3)
    module = model.bind(params)
    prompt, expected = [2, 5, 7], []
    states = [layer.initial_state() for layer in module.layers]
    tokens = list(prompt)
    for place in range(len(prompt) + 9):
        outputs = module.embedding[...][tokens[place]]
        for number, layer in enumerate(module.layers):
            states[number], outputs = layer.step(states[number], outputs)
        if place >= len(prompt) - 1:
            tokens.append(int(jnp.argmax(module.logits(outputs))))
            expected.append(tokens[-1])
    key = jax.random.key(0)
    for options in ({"temperature": 0.0}, {"top_p": 1e-6}):
        following = stream(model, params, prompt, key, **options)
        assert list(itertools.islice(following, 10)) == expected


def test_samples_have_the_probabilities_of_the_model(corpus):
    model, params = start(small(), corpus)
    params["kernel"] = jnp.zeros_like(params["kernel"])
    params["bias"] = jnp.full_like(params["bias"], -30.0).at[:3].set(jnp.log(jnp.array([0.7, 0.2, 0.1])))
    drawn = list(itertools.islice(stream(model, params, [0], jax.random.key(1)), 1000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 1000, [0.7, 0.2, 0.1], atol=0.05)
    sharper = stream(model, params, [0], jax.random.key(1), temperature=0.5, top_p=0.95)
    drawn = list(itertools.islice(sharper, 1000))  # 0.49 : 0.04 : 0.01, of which the first two are kept
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 1000, [49 / 53, 4 / 53, 0], atol=0.03)
    with pytest.raises(ValueError, match=r"top_p in \(0, 1\], got 1 tokens, 1.0 and 0"):
        next(stream(model, params, [0], jax.random.key(1), top_p=0))


def test_the_model_in_torch_is_the_same_and_takes_the_same_steps(corpus):
    """Started from the same parameters, PyTorch gives the same losses along the paper's training."""
    torch = pytest.importorskip("torch")
    config = small()
    model, params = start(config, corpus)
    peer = rival.torch_model(architecture(config, len(corpus.vocabulary)))

    def put(parameter, value):
        parameter.data = torch.from_numpy(np.array(value))

    put(peer.embedding.weight, params["embedding"])
    put(peer.readout.weight, params["kernel"].T)
    put(peer.readout.bias, params["bias"])
    for number, layer in params["layers"].items():
        put(getattr(peer.lstm, f"weight_ih_l{number}"), layer["weights"]["kernel"].T)
        put(getattr(peer.lstm, f"weight_hh_l{number}"), layer["weights"]["recurrent_kernel"].T)
        put(getattr(peer.lstm, f"bias_ih_l{number}"), layer["weights"]["bias"])
        second = getattr(peer.lstm, f"bias_hh_l{number}")  # the sum of two would move twice as far
        put(second.requires_grad_(False), jnp.zeros_like(layer["weights"]["bias"]))
    theirs = rival.torch_step(peer, config.batch_size, learning_rate=0.1, clip_norm=1.0)
    settings = training.TrainConfig(learning_rate=0.1, clip_norm=1.0)
    task = dataclasses.replace(make_task(config, model, corpus), init=lambda key: params)
    optimizer = make_optimizer(dataclasses.replace(config, train=settings), steps_per_epoch=100)
    step, state = (
        training.make_step(task, settings, optimizer),
        training.init_state(task, settings, optimizer),
    )
    for number in range(6):
        state, metrics = step(state, task.batch(0, number))
        assert theirs(task.batch(0, number)) == pytest.approx(float(metrics["loss"].compute()), rel=1e-4)


def test_units_that_track_something_are_found_on_one_half_and_told_on_the_other(tmp_path):
    line = "to be (or not) to be:\n\nROMEO:\nsay\n"
    tokens = list(line * 12)
    random = np.random.default_rng(0)
    outputs = random.normal(size=(6, len(tokens))) * 0.3
    outputs[4] = unit_pictures.inside(tokens, "(", ")")
    outputs[1] = -unit_pictures.speaker(tokens)
    found = {each.name: each for each in unit_pictures.find(outputs, tokens)}
    assert (found["within brackets"].unit, found["name of the speaker"].unit) == (4, 1)
    assert found["within brackets"].correlation == pytest.approx(1)
    assert found["name of the speaker"].correlation == pytest.approx(-1)
    assert "within quotes" not in found, "there are none"
    unit_pictures.draw(list(found.values())[:2], outputs, tokens, tmp_path / "units.png")
    assert (tmp_path / "units.png").stat().st_size > 5000


def test_within_quotes_is_told_from_between_them():
    found = unit_pictures.inside(list('a"b"c"d\ne"f"'), '"', '"')
    assert found.tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0]


def test_the_vocabulary_comes_back_and_knows_what_it_does_not_know(tmp_path):
    vocabulary = Vocabulary.of(["b", "a", "b", "\n", "é"])
    vocabulary.save(tmp_path / "vocabulary.json")
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again.tokens == vocabulary.tokens == ("b", "\n", "a", "é")
    assert vocabulary.decode(vocabulary.encode(["é", "a"])) == ["é", "a"]
    with pytest.raises(KeyError, match="not in the vocabulary, which has no <unk>: \\['x'\\]"):
        vocabulary.encode(["a", "x"])
    with pytest.raises(ValueError, match=r"\['a'\] are there more than once"):
        Vocabulary(["a", "b", "a"])


@pytest.mark.parametrize(
    ("name", "sizes", "vocabulary"),
    [
        ("ptb", (929_589, 73_760, 82_430), 10_000),
        ("wikitext2", (2_088_628, 217_646, 245_569), 33_278),
        ("shakespeare", (1_003_855, 55_769, 55_770), 65),
    ],
)
def test_data_sets_have_the_tokens_of_the_literature(name, sizes, vocabulary, real_data):
    splits = datasets.load(name, real_data)
    assert tuple(map(len, splits)) == sizes
    words = set(splits.train)
    assert len(words) == vocabulary
    assert words >= set(splits.valid) | set(splits.test)
    if name != "shakespeare":
        assert splits.test[-1] == "<eos>"


def test_a_text_is_read_as_published_and_packed_and_checked(tmp_path, real_data):
    published = read_text(text.FILES["ptb"][2], real_data)
    folder = tmp_path / "ptb"
    folder.mkdir()
    (folder / "ptb.test.txt").write_text(published, "utf-8")
    assert read_text(text.FILES["ptb"][2], tmp_path) == published
    other = (real_data / "ptb" / "ptb.valid.txt.xz").read_bytes()
    (folder / "ptb.test.txt.xz").write_bytes(other)
    with pytest.raises(DataError, match=r"is damaged, or another version: .* downloads it from https://"):
        read_text(text.FILES["ptb"][2], tmp_path)


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["--quick", "--dataset", "shakespeare", "--data-dir", str(real_data), "--runs", str(folder)]
    steps = ["--train.steps", "12", "--train.evaluate-every", "6", "--sample-tokens", "40"]
    return command_line.main("language_modeling", EXPERIMENT, arguments + steps)


def test_a_run_writes_what_it_promises(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"model", "units.png", "learning_curves.png"} <= names
    assert len((quick_run.path / "sample-1.txt").read_text()) > 10
    metrics = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    assert metrics["test_perplexity"] == pytest.approx(math.exp(metrics["test_nll"]), rel=1e-4)
    losses = [entry.metrics["nll"] for entry in quick_run.metrics("valid")]
    assert metrics["best_step"] == 6 * (1 + int(np.argmin(losses)))
    # The same text in one row and in several: the first characters of each row have less context.
    assert metrics["valid_nll"] == pytest.approx(min(losses), rel=0.01)


def test_a_saved_run_is_tested_again_without_and_with_a_cache(quick_run, real_data, capsys):
    arguments = ["evaluate", "--run", str(quick_run.path), "--data-dir", str(real_data), "--cache", "50"]
    capsys.readouterr()
    assert program.main(["language_modeling", *arguments]) == 0
    plain, cached = capsys.readouterr().out.splitlines()
    figures = quick_run.figures()
    assert float(plain.split()[-1]) == pytest.approx(figures["test_perplexity"], rel=1e-4)
    # What was said lately says much beside a model of twelve steps.
    assert float(cached.split()[5]) < 0.95 * figures["test_perplexity"]


def test_a_saved_run_streams_text(quick_run, capsys):
    arguments = [
        "language_modeling",
        "generate",
        "--run",
        str(quick_run.path),
        "--prompt",
        "To be",
        "--tokens",
    ]
    assert program.main([*arguments, "30", "--seed", "2"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("To be")
    assert len(written) == 5 + 30 + 1
    assert program.main([*arguments, "30", "--seed", "3"]) == 0
    assert capsys.readouterr().out != written


def test_n_grams_are_a_run_like_any_other(tmp_path, real_data):
    arguments = ["--quick", "--model", "kneser_ney", "--data-dir", str(real_data), "--runs", str(tmp_path)]
    run = command_line.main("language_modeling", EXPERIMENT, arguments)
    metrics = json.loads((run.path / "summary.json").read_text())["metrics"]
    assert metrics["order"] == 5
    train, _, test = (part[: run.config["limit"]] for part in datasets.load("ptb", real_data))
    counts = collections.Counter(train)
    words = len(corpora.load_corpus("ptb", real_data).vocabulary)
    shares = [(counts[word] + 1) / (len(train) + words) for word in test]
    assert metrics["test_perplexity"] < 0.9 * math.exp(-np.mean(np.log(shares)))
    assert metrics["test_perplexity"] == pytest.approx(math.exp(metrics["test_nll"]))


def test_speed_is_measured_side_by_side(real_data, capsys):
    pytest.importorskip("torch")
    arguments = ["--dataset", "shakespeare", "--rounds", "1", "--steps", "1", "--data-dir", str(real_data)]
    assert program.main(["language_modeling", "speed", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "torch.nn.LSTM" in printed
    assert "ratio" in printed


def test_every_label_that_answers_a_paper_belongs_to_its_data_set():
    labels = {each.label: each.group for each in BENCHMARK.published if each.label}
    for record in load_records(pages.RESULTS, "language_modeling"):
        if record.label in labels:
            assert record.config["dataset"] == labels[record.label]


def test_a_text_too_short_for_its_windows_is_refused():
    with pytest.raises(
        training.ConfigError, match=r"--window, --batch-size or --limit: .* 5 tokens do not give"
    ):
        training_stream(Config(), corpora.Corpus(Vocabulary(("a",)), *[np.zeros(5, np.int32)] * 3))
