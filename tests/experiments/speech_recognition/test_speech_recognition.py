"""Speech recognition: who is heard by which network, figures that are what they say, a whole run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments import datasets
from experiments.common import mapped, models
from experiments.datasets.spoken_digits import Recording
from experiments.speech_recognition import data, features, page
from experiments.speech_recognition import recognition as recognising
from experiments.speech_recognition import task as tasks
from experiments.speech_recognition.config import Config, preset
from experiments.speech_recognition.model import Architecture, make_model
from lstmjax import losses, training
from lstmjax.training.record import Record, Run

SMALL = {"hidden": 4, "bands": 6, "batch_frames": 400}


def recording(digit, speaker, number=9, samples=1500):
    """A tone whose pitch tells the digit."""
    rng = np.random.default_rng((digit, number))
    tone = 0.1 * np.sin(2 * np.pi * (200 + 300 * digit) * np.arange(samples + 100 * digit) / 8000)
    return Recording(digit, speaker, number, (tone + 0.001 * rng.normal(size=len(tone))).astype(np.float32))


RECORDINGS = tuple(recording(digit, speaker) for speaker in data.SPEAKERS for digit in (0, 3, 9))


class TestFeatures:
    spectra = data.utterance(RECORDINGS[1].samples, (3,), "theo").spectra

    def test_loudness_and_silence_around_it_do_not_matter(self):
        found = features.plain(self.spectra, 20)
        np.testing.assert_allclose(features.plain(100 * self.spectra, 20), found, atol=1e-3)
        silence = np.zeros((50, self.spectra.shape[1]), np.float32)
        longer = features.plain(np.concatenate([silence, self.spectra]), 20)
        np.testing.assert_allclose(longer[50:, :20], found[:, :20], atol=1e-3)
        np.testing.assert_allclose(longer[52:, 20:], found[2:, 20:], atol=1e-3)
        assert np.isfinite(features.plain(silence, 20)).all(), "of digital silence alone"

    def test_changes_are_slopes_of_bands(self):
        values = np.arange(7.0)[:, None] * [1, -2]
        np.testing.assert_allclose(
            features.with_changes(values)[2:-2],
            np.tile([0, 0, 10 / 3, -20 / 3], (3, 1)) + np.pad(values, ((0, 0), (0, 2)))[2:-2],
        )

    def test_a_varied_utterance_fits_in_and_is_reproducible(self):
        first, again = (
            features.varied(self.spectra, 20, np.random.default_rng(5), longest=17) for _ in range(2)
        )
        np.testing.assert_array_equal(first, again)
        lengths = {
            len(features.varied(self.spectra, 20, np.random.default_rng(seed), longest=17))
            for seed in range(40)
        }
        assert max(lengths) == 17
        assert min(lengths) >= round(len(self.spectra) / features.TEMPO[1]) - 1

    def test_a_warp_moves_a_tone_as_a_shorter_vocal_tract_would(self):
        time = np.arange(2000) / 8000

        def band(hertz, warp):
            spectra = data.utterance(
                np.sin(2 * np.pi * hertz * time).astype(np.float32), (0,), "theo"
            ).spectra
            return int((spectra @ features.filters(32, warp)).sum(axis=0).argmax())

        assert band(1000, 1.2) == band(1200, 1.0) != band(1000, 1.0)
        assert band(1000, 0.8) == band(800, 1.0)
        assert all(np.isfinite(features.filters(32, float(warp))).all() for warp in features.WARPS)


class TestStrings:
    def test_a_string_has_what_its_speaker_says(self):
        strings = data.Strings(RECORDINGS, 30, seed=3)
        for index, plan in enumerate(strings.plans):
            chosen = [RECORDINGS[number] for number in plan.recordings]
            assert 1 <= len(chosen) <= data.LONGEST
            assert len({each.speaker for each in chosen}) == 1
            said = strings[index]
            assert said.labels.tolist() == [each.digit + 1 for each in chosen]
            assert data.SPEAKERS[said.speaker] == chosen[0].speaker
            assert len(said.spectra) == strings.frames[index]
            samples = strings.samples(index)
            start = plan.gaps[0]
            np.testing.assert_array_equal(samples[start : start + len(chosen[0].samples)], chosen[0].samples)
        assert {len(strings.digits(index)) for index in range(30)} == set(range(1, data.LONGEST + 1))
        np.testing.assert_array_equal(strings[7].spectra, data.Strings(RECORDINGS, 30, seed=3)[7].spectra)

    def test_strings_of_the_training_set_may_say_nothing(self):
        config = Config(dataset="strings", strings=40, **SMALL)
        train, valid = (data.make_utterances(config, RECORDINGS, part) for part in ("train", "valid"))
        empty = [each for each in train if not len(each.labels)]
        assert empty
        assert all(len(each.spectra) > 10 for each in empty)
        assert all(len(each.labels) for each in valid)
        batches = list(data.make_batches(config, train).once())
        assert sum(int((batch.lengths > 0).sum()) for batch in batches) == 40
        assert all(np.isfinite(batch.values).all() for batch in batches)


class TestUnseenSpeakers:
    def test_no_network_hears_whom_it_is_tested_on(self):
        for inner in (False, True):
            config = Config(dataset="unseen-speaker", inner=inner)
            train, valid, test = (np.array(data.heard(config, part)) for part in datasets.Splits._fields)
            assert (test.sum(axis=0) == 1).all()
            assert (test.sum(axis=1) == 1).all()
            assert not (test & (train | valid)).any()
            assert (train & valid).any() == (not inner)
            assert (train.sum(axis=1) == (4 if inner else 5)).all()
        assert np.array(data.heard(Config(), "test")).all()

    def test_a_speaker_left_out_changes_nothing_of_a_network(self):
        config = Config(dataset="unseen-speaker", augment=False, **SMALL)
        model = make_model(tasks.make_architecture(config))
        params = jax.jit(mapped.init(model, 6))(jax.random.key(0))
        batches = data.make_batches(config, data.make_utterances(config, RECORDINGS, "train"))
        task = tasks.make_task(config, model, batches, batches)
        batch = batches.at(1, 0)

        @jax.jit
        def gradient(batch):
            return jax.grad(lambda params: task.loss(params, (), batch, jax.random.key(1))[0])(params)

        changed = batch._replace(values=np.where((batch.speakers == 2)[:, None, None], 1, batch.values))
        assert (batch.speakers == 2).any()
        for before, after in zip(*map(jax.tree.leaves, map(gradient, (batch, changed))), strict=True):
            same = np.array([np.array_equal(one, other) for one, other in zip(before, after, strict=True)])
            assert same[2]
            assert not same[[0, 1, 3, 4, 5]].any()


def saved_model(kind="ctc"):
    config = Config(dataset="strings", model=kind, **SMALL)
    model = make_model(tasks.make_architecture(config))
    return tasks.Saved(config, model, jax.jit(model.init)(jax.random.key(2)))


@functools.cache
def strings_batch():
    config = Config(dataset="strings", **SMALL)
    strings = data.Strings(RECORDINGS, 3, seed=1)
    (batch,) = data.Batches(strings, config.bands, 100_000, varies=False, shares=(1.0,)).once()
    return jax.tree.map(lambda leaf: leaf[:4], batch)


@pytest.mark.parametrize("kind", ["ctc", "las"])
def test_padding_changes_nothing(kind):
    saved, batch = saved_model(kind), strings_batch()
    longer = np.pad(batch.values, ((0, 0), (0, 32), (0, 0)))
    assert batch.lengths[3] == 0
    if kind == "ctc":
        found = recognising.decode(saved, batch.values, batch.lengths)
        assert recognising.decode(saved, longer, batch.lengths) == found
        assert found[3] == ()
    evaluate = jax.jit(tasks.Evaluate(saved.config, saved.model, data.heard(saved.config, "test")))
    params = jax.tree.map(lambda leaf: leaf[None], saved.params)
    figures = evaluate(params, batch)
    padded = evaluate(params, batch._replace(values=longer))
    for name, mean in figures.items():
        assert float(mean.compute()[0]) == pytest.approx(float(padded[name].compute()[0]), rel=1e-5)
    assert float(figures["nll"].weight[0]) == batch.label_lengths.sum()
    assert float(figures["exact"].weight[0]) == 3


@pytest.mark.parametrize("kind", ["ctc", "las"])
def test_exact_are_the_utterances_whose_transcript_is_right(kind):
    saved, batch = saved_model(kind), strings_batch()
    found = recognising.decode(saved, batch.values, batch.lengths, longest=data.LONGEST)
    # Two rows are said to be what is found, the third is not.
    found = [row[: data.LONGEST] for row in found]
    wrong = ((found[2] or (0,))[0] + 1) % 10
    said = [found[0], found[1], (wrong, *found[2][1:])]
    labels = np.zeros((4, data.LONGEST), np.int32)
    for row, digits in enumerate(said):
        labels[row, : len(digits)] = np.array(digits, np.int32) + 1
    batch = batch._replace(labels=labels, label_lengths=np.array([*map(len, said), 0], np.int32))
    evaluate = jax.jit(tasks.Evaluate(saved.config, saved.model, data.heard(saved.config, "test")))
    figures = evaluate(jax.tree.map(lambda leaf: leaf[None], saved.params), batch)
    expected = 0
    for row, digits in enumerate(said):
        again = recognising.decode(saved, batch.values, batch.lengths, longest=data.LONGEST)[row]
        expected += digits == again and (kind == "ctc" or len(again) < data.LONGEST)
    assert float(figures["exact"].total[0]) == expected


def test_a_single_digit_is_the_likeliest_of_the_ten():
    logits = jax.random.normal(jax.random.key(0), (2, 5, data.CLASSES))
    lengths = jnp.array([5, 3])
    scores = tasks.single_scores(logits, tasks.Heard(logits, lengths))
    log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    for row, steps in enumerate(lengths.tolist()):
        for digit in range(10):
            total = 0.0
            for first in range(steps):
                for last in range(first, steps):
                    path = [digit + 1 if first <= step <= last else 0 for step in range(steps)]
                    total += np.exp(sum(log_probs[row, step, label] for step, label in enumerate(path)))
            assert float(scores[digit, row]) == pytest.approx(np.log(total), rel=1e-4)


def test_rows_with_too_few_steps_do_not_make_the_loss_infinite():
    batch = strings_batch()
    heard = tasks.Heard(jnp.zeros((4, 3, 8)), jnp.array([3, 3, 0, 0]))
    labels = np.tile(np.array([[1, 1, 2, 0, 0, 0, 0]], np.int32), (4, 1))
    batch = batch._replace(labels=labels, label_lengths=np.array([3, 1, 1, 0], np.int32))
    nll = tasks.ctc_nll(jnp.zeros((4, 3, data.CLASSES)), heard, batch)
    one = losses.ctc(jnp.zeros((3, data.CLASSES)), jnp.array(3), jnp.array([1]), jnp.array(1))
    np.testing.assert_allclose(nll, [0, float(one), 0, 0], rtol=1e-5)


def test_errors_are_counted_in_the_closest_alignment():
    found = recognising.errors([(1, 2, 3), (4,), (5, 5)], [(1, 3), (), (5, 6, 5)])
    assert found == recognising.Errors(3 / 6, 0, 2, 1, 1.0)
    assert recognising.errors([(1,), (2,)], [(1,), (3,)]) == recognising.Errors(0.5, 1, 0, 0, 0.5)


def test_two_layers_hear_steps_of_forty_milliseconds():
    model = make_model(Architecture(6, 2, 4, 2, True, 0.0, False))
    params = jax.jit(model.init)(jax.random.key(0))
    heard = model.bind(params).listen(jnp.ones((2, 9, 6)), jnp.array([9, 4]))
    assert heard.values.shape == (2, 3, 8)
    assert heard.lengths.tolist() == [3, 1]
    assert (heard.values[1, 1:] == 0).all()


def test_a_second_speaker_is_left_out_only_of_unseen_speakers():
    with pytest.raises(training.ConfigError, match="--inner is for --dataset unseen-speaker"):
        Config(inner=True)
    assert preset(Config(dataset="strings")).epochs == 0


def record(label, dataset, seed, **metrics):
    config = dataclasses.asdict(Config(dataset=dataset))
    rest = (metrics | {"parameters": 10.0}, "cpu", 60.0, "0" * 40, {})
    return Record("speech_recognition", label, "python -m ...", config, seed, *rest)


def test_the_page_has_a_table_for_each_data_set():
    speakers = {f"test_accuracy_{speaker}": 0.9 for speaker in data.SPEAKERS}
    records = [
        record("digits-blstm", "digits", 1, test_accuracy=0.99, valid_accuracy=0.98, test_exact=0.97),
        record("digits-blstm", "digits", 2, test_accuracy=0.97, valid_accuracy=0.98, test_exact=0.97),
        record("digits-unseen-speaker", "unseen-speaker", 1, test_accuracy=0.9, **speakers),
        record("strings-blstm", "strings", 1, test_wer=0.012),
    ]
    text = page.page(records)
    assert "| **digits-blstm** | 98.00 ± 1.41 | 98.00 ± 0.00 | 97.00 ± 0.00 | 1, 2 | 10 | 1.0 |" in text
    assert "| **digits-unseen-speaker**, % right | 90.0 | 90.0 |" in text
    assert "| **strings-blstm** | 1.20 |" in text
    assert [row.ours for row in page.results(records)] == ["98.00 ± 1.41", "90.00", "1.20"]


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["speech_recognition", "--quick", "--data-dir", str(real_data), "--runs", str(runs)]
    assert program.main([*arguments, "--dataset", "unseen-speaker", "--train.checkpoint-every", "10"]) == 0
    (path,) = (runs / "speech_recognition").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run):
    figures = quick_run.figures()
    assert 0 <= figures["test_accuracy_min"] <= figures["test_accuracy"] <= figures["test_accuracy_max"] <= 1
    each = [figures[f"test_accuracy_{speaker}"] for speaker in data.SPEAKERS]
    assert figures["test_accuracy"] == pytest.approx(np.mean(each))
    assert {"test_exact", "valid_accuracy", "valid_nll"} <= figures.keys()
    assert (quick_run.path / "example.png").stat().st_size > 1000
    saved = tasks.load_model(models.of_run(quick_run.path, "speech_recognition"))
    assert figures["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(saved.params))
    assert isinstance(recognising.transcribe(saved, np.random.default_rng(0).normal(size=4000), 8000), str)


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 20)
