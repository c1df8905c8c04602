"""Machine translation: losses are what they say, padding and batches change nothing, a run is whole."""

import dataclasses
import io
import itertools
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from experiments import __main__ as program
from experiments.common import command_line, models
from experiments.common.text.subwords import END, START, Subwords
from experiments.machine_translation import EXPERIMENT, report, training_rate
from experiments.machine_translation.config import Config
from experiments.machine_translation.data import Bitext, Vocabularies, load_corpus
from experiments.machine_translation.decode import LONGEST, cut, translate_all
from experiments.machine_translation.model import (
    Architecture,
    Search,
    Translator,
    alignments,
    pair_losses,
    teacher_inputs,
    translate,
)
from experiments.machine_translation.report import Translations
from experiments.machine_translation.task import load_model
from lstmjax import training
from lstmjax.nnx import functional
from lstmjax.training.batching import Padded, Pairs, pad
from lstmjax.training.record import Entry, RecordError

TEXTS = ["a small house", "two men ride a red bicycle", "a dog", "the men sleep in the small red house"] * 3
FORMS = ["dot", "scaled_dot", "general", "bahdanau", "none"]
V = 12


def small(attention, **changes):
    numbers = Architecture(V, V, False, 6, 8, 1, attention, True, 0.0)
    return dataclasses.replace(numbers, **changes)


def make_model(numbers, seed=0):
    model = functional(lambda rngs: Translator(numbers, rngs=rngs))
    params = model.init(jax.random.key(seed))
    # A readout that is not indifferent, so that a difference would be seen.
    return model, jax.tree.map(lambda leaf: leaf * 2, params)


def make_batch(source_lengths=(5, 3), target_lengths=(4, 6), padding=0, seed=0):
    random = np.random.default_rng(seed)
    sides = []
    for lengths in (source_lengths, target_lengths):
        rows = [np.append(random.integers(3, V, length - 1), END).astype(np.int32) for length in lengths]
        sides.append(pad(rows, max(lengths) + padding))
    return Pairs(*sides, np.arange(len(source_lengths), dtype=np.int32))


def log_probabilities(model, params, source, target):
    """Of one pair, piece by piece: no batch, no padding, `Translator.step` and a softmax in float64."""
    module = model.bind(params)
    encoded = module.encode(source[None], jnp.array([len(source)]))
    noise, state, found = module.noise(None, 1), encoded.state, []
    for given, wanted in itertools.pairwise([START, *target.tolist()]):
        state, decoded = module.step(noise, encoded.memory, state, jnp.array([given]))
        logits = np.asarray(module.logits(decoded.output)[0], np.float64)
        found.append(logits - np.log(np.exp(logits).sum()))
        assert logits.shape == (V,)
        assert 0 <= wanted < V
    return np.array(found)


@pytest.mark.parametrize("form", FORMS)
def test_losses_are_those_of_each_piece_by_itself(form):
    model, params = make_model(small(form, layers=2 if form == "none" else 1))
    batch = make_batch(padding=2)
    nll = uniform = 0.0
    for row in range(2):
        source = batch.source.values[row, : batch.source.lengths[row]]
        target = batch.target.values[row, : batch.target.lengths[row]]
        found = log_probabilities(model, params, source, target)
        nll -= found[np.arange(len(target)), target].sum()
        uniform -= found.mean(axis=1).sum()
    sums = pair_losses(model, params, batch)
    assert float(sums[0].total) == pytest.approx(nll, rel=1e-5)
    assert float(sums[1].total) == pytest.approx(uniform, rel=1e-5)
    assert float(sums[0].weight) == batch.target.lengths.sum()


@pytest.mark.parametrize("form", ["general", "bahdanau", "none"])
def test_padding_and_rows_that_fill_up_change_no_loss_and_no_gradient(form):
    model, params = make_model(small(form))
    one = make_batch()
    more = Pairs(
        *(
            Padded(np.pad(side.values, ((0, 2), (0, 3)), constant_values=7), np.append(side.lengths, [0, 0]))
            for side in one[:2]
        ),
        np.append(one.items, [-1, -1]),
    )

    def total(params, batch):
        return pair_losses(model, params, batch)[1].total

    gradient = jax.grad(total)(params, one)
    jax.tree.map(
        lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6),
        gradient,
        jax.grad(total)(params, more),
    )


@pytest.mark.parametrize("form", ["general", "bahdanau", "none"])
def test_a_model_learns_a_few_sentences_and_translates_them_back(form):
    """From the loss to the search: what is learned is what is found, by beam search and greedily."""
    model, params = make_model(small(form, embedding=16, hidden=32))
    batch = make_batch((4, 5, 6), (5, 4, 6), seed=1)

    def loss(params, key):
        return pair_losses(model, params, batch, key)[0].compute()

    settings = training.TrainConfig(learning_rate=1e-2, steps=150)
    optimizer = training.adam(settings)

    @jax.jit
    def step(params, state, key):
        updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    state = optimizer.init(params)
    for number in range(150):
        params, state = step(params, state, jax.random.key(number))
    for beams in (1, 3):
        tokens, log_probs = translate(model, params, *batch.source, Search(beams=beams), max_length=9)
        for row, length in enumerate(batch.target.lengths):
            wanted = batch.target.values[row, :length]
            np.testing.assert_array_equal(tokens[row, :length], wanted)
            assert (tokens[row, length:] == END).all()
            found = log_probabilities(
                model, params, batch.source.values[row, : batch.source.lengths[row]], wanted
            )
            expected = found[np.arange(length), wanted].sum()
            assert float(log_probs[row]) == pytest.approx(expected, abs=1e-3)


def test_where_the_decoder_looks_is_a_distribution_over_the_source():
    model, params = make_model(small("general"))
    batch = make_batch(padding=1)
    weights = alignments(model, params, *batch.source, batch.target.values)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not weights[1, :, 3:].any()


def test_scheduled_sampling_gives_the_decoder_its_own_pieces():
    """At a rate of 1 it runs freely, and the given pieces do not matter after the first."""
    model, params = make_model(small("general"))
    batch = make_batch(target_lengths=(6, 6))
    module = model.bind(params)
    encoded = module.encode(*map(jnp.asarray, batch.source))
    free, _ = translate(model, params, *batch.source, Search(beams=1), max_length=6)
    given = teacher_inputs(jnp.asarray(batch.target.values))
    own, _ = module.outputs(encoded, given, jax.random.key(0), own_rate=jnp.float32(1))
    np.testing.assert_array_equal(module.logits(own).argmax(-1)[:, 0], free[:, 0])
    forced, _ = module.outputs(encoded, teacher_inputs(module.logits(own).argmax(-1).astype(jnp.int32)))
    np.testing.assert_allclose(own, forced, rtol=1e-5, atol=1e-6)
    plain, _ = module.outputs(encoded, given, jax.random.key(0), own_rate=jnp.float32(0))
    np.testing.assert_allclose(plain, module.outputs(encoded, given)[0], rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_alone():
    model, params = make_model(small("general", dropout=0.5))
    batch = make_batch()
    losses = {float(pair_losses(model, params, batch, jax.random.key(seed))[0].total) for seed in range(3)}
    assert len(losses) == 3
    still, _ = make_model(small("general"))
    expected = float(pair_losses(still, params, batch)[0].total)
    assert float(pair_losses(model, params, batch)[0].total) == pytest.approx(expected)


def test_joint_vocabularies_share_one_table():
    _, apart = make_model(small("general"))
    _, shared = make_model(small("general", joint=True))
    count = [sum(leaf.size for leaf in jax.tree.leaves(params)) for params in (apart, shared)]
    assert count[0] - count[1] == V * 6


@pytest.fixture(scope="module", name="subwords")
def _subwords():
    return Subwords.learn(TEXTS, 300)


class TestSubwords:
    @pytest.mark.parametrize("text", ["a small house", "ein Haus, ∀x 日本語 \U0001f600!", "", "x" * 500])
    def test_texts_come_back(self, subwords, text):
        numbers = subwords.encode(text)
        assert (numbers.dtype, numbers[-1]) == (np.int32, END)
        assert subwords.decode(numbers) == text
        assert subwords.decode([*numbers, 5, 7]) == text

    def test_spaces_are_made_one(self, subwords):
        assert subwords.decode(subwords.encode("  a   dog \n")) == "a dog"

    def test_it_is_saved(self, subwords, tmp_path):
        subwords.save(tmp_path / "words")
        again = Subwords.load(tmp_path / "words")
        assert len(again) == len(subwords)
        np.testing.assert_array_equal(again.encode(TEXTS[1]), subwords.encode(TEXTS[1]))

    def test_a_size_that_is_too_small_says_so(self):
        with pytest.raises(ValueError, match="a vocabulary of 100 cannot be learned"):
            Subwords.learn(TEXTS, 100)

    def test_long_texts_are_cut_at_spaces_and_nothing_is_lost(self, subwords):
        text = " ".join(["small"] * 400)
        parts = list(cut(subwords, text))
        assert len(parts) > 1
        assert max(map(len, parts)) <= LONGEST
        assert " ".join(subwords.decode(part) for part in parts) == text
        word = "日" * 300
        assert "".join(map(subwords.decode, cut(subwords, word))) == word
        assert list(cut(subwords, " \n")) == []


def test_what_is_decoded_is_one_line(subwords):
    # Pieces that are bytes, in the order of their numbers, whatever they spell.
    pieces = subwords.pieces(range(len(subwords)))
    of = {piece: number for number, piece in enumerate(pieces)}
    spelt = [of[f"<0x{byte:02X}>"] for byte in b"a\nb\r\x1c\xc2\x85c\xe2\x80\xa8d"]
    assert subwords.decode([*spelt, END]) == "a b c d"


def test_the_signature_is_that_of_sacrebleu():
    metric = sacrebleu.BLEU()
    metric.corpus_score(["a b c d"], [["a b c d"]])
    assert str(metric.get_signature()) == f"{report.SIGNATURE}|version:{sacrebleu.__version__}"


def test_bleu_without_case_has_its_own_signature():
    metric = sacrebleu.BLEU(lowercase=True)
    same = metric.corpus_score(["a b c d"], [["A B c d"]]).score
    assert str(metric.get_signature()) == f"{report.LOWERCASE_SIGNATURE}|version:{sacrebleu.__version__}"
    found = report.figures("test", Translations(["x"], ["A B c d"], ["a b c d"]))
    assert found["test_lowercase_bleu"] == pytest.approx(same) == pytest.approx(100)
    assert found["test_bleu"] < 50


def test_figures_are_told_apart_by_the_length_of_the_source():
    right, wrong = "one two three four five", "six seven eight nine ten"
    same = Translations(["a b", " ".join("a" * 10)], [right, right], [right, wrong])
    found = report.figures("test", same)
    assert found["test_bleu_of_1_to_8_words"] == pytest.approx(100)
    assert found["test_bleu_of_9_to_12_words"] < 10
    assert found["test_length_ratio"] == 1
    assert "test_bleu_of_13_to_16_words" not in found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dataset": "tatoeba", "pair": "en-de"}, "tatoeba has English and es, fr"),
        ({"pair": "es-en"}, "multi30k has English and de, fr"),
        ({"hidden": 7}, "hidden must be even"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\)"),
        ({"beams": 0}, "beams must be at least 1"),
    ],
)
def test_bad_flags_are_told(flags, message):
    with pytest.raises(training.ConfigError, match=message):
        Config(**flags)


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("runs")
    flags = ["--quick", "--train.steps", "12", "--train.evaluate-every", "6", "--limit", "60"]
    sizes = ["--vocabulary", "500", "--buckets", "1", "--beams", "2"]
    places = ["--runs", str(folder), "--data-dir", str(real_data)]
    return command_line.main("machine_translation", EXPERIMENT, [*flags, *sizes, *places])


def test_a_run_writes_what_it_promises(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"model", "summary.json"} <= names
    assert {"attention-1.png", "attention-4.png", "learning_curves_bleu.png"} <= names
    assert {"test2016-bleu-by-length.png", "test2016-translations.txt", "test2017-hypotheses.txt"} <= names
    metrics = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    assert {"test2016_bleu", "test2016_greedy_bleu", "test2017_chrf", "valid_bleu"} <= set(metrics)
    found = {entry.step: entry.metrics["bleu"] for entry in quick_run.metrics("valid")}
    assert metrics["best_step"] == max(found, key=found.get)
    assert metrics["valid_greedy_bleu"] == pytest.approx(max(found.values())) != 0
    assert len((quick_run.path / "test2016-hypotheses.txt").read_text().split("\n")) == 60 + 1
    assert len((quick_run.path / "test2016-translations.txt").read_text().split("\n\n")) == 50
    kept = {
        "config.json",
        "parameters.safetensors",
        "source.model",
        "target.model",
        "search.json",
        "sha256.json",
    }
    assert {path.name for path in (quick_run.path / "model").iterdir()} == kept
    assert [entry.step for entry in quick_run.metrics("valid") if "bleu" in entry.metrics] == [6, 12]


def test_the_training_rate_is_the_median_over_reports():
    times = iter([0.0, 2.0, 4.0, 104.0])
    entries = [Entry(10 * step, "train", next(times), {}) for step in range(4)]
    reports = types.SimpleNamespace(metrics=lambda kind: entries)
    assert training_rate(reports, pairs=300, steps_per_epoch=30) == pytest.approx(5 * 300 / 30)


def test_the_test_sets_of_a_run_are_translated_again(quick_run, tmp_path, real_data, capsys):
    arguments = ["machine_translation", "evaluate", "--run", str(quick_run.path), "--out", str(tmp_path)]
    assert program.main([*arguments, "--data-dir", str(real_data)]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test"))
    assert float(printed["test2016_bleu"]) == pytest.approx(quick_run.figures()["test2016_bleu"], abs=1e-3)
    for name in ("test2016-hypotheses.txt", "test2017-hypotheses.txt"):
        assert (tmp_path / name).read_bytes() == (quick_run.path / name).read_bytes()
    assert program.main([*arguments, "--record", "--data-dir", str(real_data)]) == 1
    assert "is no kept model" in capsys.readouterr().err


@pytest.mark.full
def test_tatoeba_is_trained_and_tested_on_its_own_split(tmp_path, real_data):
    flags = ["--quick", "--dataset", "tatoeba", "--pair", "es-en", "--train.steps", "4", "--limit", "60"]
    places = ["--runs", str(tmp_path), "--data-dir", str(real_data), "--vocabulary", "500", "--beams", "2"]
    run = command_line.main("machine_translation", EXPERIMENT, [*flags, *places])
    tests = {name.removesuffix("_chrf") for name in run.figures() if name.endswith("_chrf")} - {"valid"}
    corpus = load_corpus(Config(dataset="tatoeba", pair="es-en", limit=60))
    assert tests == set(corpus.tests)
    for name in tests:
        assert len((run.path / f"{name}-hypotheses.txt").read_text().splitlines()) == 60


def test_lines_are_translated_as_they_come(quick_run, monkeypatch, capsys):
    lines = ["A dog .", "", "∀ 日本 \U0001f600", "a man " * 300]
    stream = io.BytesIO("\n".join(lines).encode() + b"\n\xff\xfe broken\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    capsys.readouterr()
    arguments = ["machine_translation", "translate", "--run", str(quick_run.path), "--beams", "1"]
    assert program.main(arguments) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 5
    assert written[1] == ""


def test_translations_do_not_depend_on_what_else_is_translated(quick_run):
    saved = load_model(models.of_run(quick_run.path, "machine_translation"))
    texts = load_corpus(Config(limit=5)).valid.sources
    together = translate_all(saved, ["", *texts], Search(beams=2), rows=4)
    apart = [translate_all(saved, [text], Search(beams=2), rows=1)[0] for text in texts]
    assert together == ["", *apart]


def test_runs_are_compared_in_one_picture(quick_run, tmp_path, capsys):
    output = tmp_path / "lengths.png"
    arguments = ["machine_translation", "compare", "--runs", str(quick_run.path), "--output", str(output)]
    assert program.main(arguments) == 0
    assert output.stat().st_size > 1000


def test_an_unfinished_run_says_so(quick_run, tmp_path):
    (tmp_path / "config.json").write_bytes((quick_run.path / "config.json").read_bytes())
    with pytest.raises(RecordError, match=r"has no parameters\.safetensors"):
        load_model(models.of_run(tmp_path, "machine_translation"))


def test_a_vocabulary_too_small_for_the_letters_is_refused():
    with pytest.raises(training.ConfigError, match=r"--vocabulary: .*a vocabulary of 10 cannot be learned"):
        Vocabularies.learn(Config(vocabulary=10), Bitext(["a man and a dog"], ["ein Mann und ein Hund"]))
