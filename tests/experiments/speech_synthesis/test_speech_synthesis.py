"""The networks, the distances, and a run on the real prompts from the start to a said text."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from experiments import __main__ as program
from experiments import datasets
from experiments.datasets import DataError
from experiments.speech_synthesis import config, data, evaluation, model, synthesis, task
from experiments.speech_synthesis.alignment import Phrase
from experiments.speech_synthesis.data import BUNDLE, Spoken, Statistics, width
from experiments.speech_synthesis.linguistics import describe
from experiments.speech_synthesis.text import PAUSE, Phone
from experiments.speech_synthesis.vocoder import COEFFICIENTS, Speech
from lstmjax.training.record import Run
from tests.resuming import assert_finished_run_resumes

SMALL = config.Config(
    hidden=4, layers=1, duration_hidden=3, embedding=2, dense=5, dropout=0.0, batch_steps=60
)


def spoken(seed, phones=4):
    """A phrase of noise."""
    random = np.random.default_rng(seed)
    steps = tuple(random.integers(2, 9, phones + 2).tolist())
    frames = BUNDLE * sum(steps)
    inner = tuple(Phone("s", 0, place == 0) for place in range(phones))
    speech = Speech(
        random.normal(size=(frames, COEFFICIENTS)).astype(np.float32),
        random.normal(5, 0.1, frames).astype(np.float32),
        random.random(frames) > 0.4,
        random.normal(-9, 3, (frames, 1)).astype(np.float32),
    )
    return Spoken(f"p{seed}", Phrase((Phone(PAUSE), *inner, Phone(PAUSE)), steps, 0, "."), speech)


PHRASES = [spoken(seed, phones) for seed, phones in enumerate((1, 3, 4, 6))]


class TestModel:
    def test_a_step_belongs_to_the_phone_that_is_spoken(self):
        owner, where = model.places(jnp.array([2, 3, 1, 0]), 8)
        assert owner.tolist()[:6] == [0, 0, 1, 1, 1, 2]
        np.testing.assert_allclose(where[:6, 0], [1 / 4, 3 / 4, 1 / 6, 1 / 2, 5 / 6, 1 / 2])
        np.testing.assert_allclose(np.expm1(where[:6, 1]), [0, 1, 0, 1, 2, 0], atol=1e-6)
        np.testing.assert_allclose(np.expm1(where[:6, 2]), [1, 0, 2, 1, 0, 0], atol=1e-6)

    @pytest.mark.parametrize("name", ["blstm", "dnn"])
    def test_both_models_have_as_many_parameters(self, name):
        wanted = config.preset(config.Config(model=name))
        made = model.make_model(wanted, BUNDLE * width(True))
        count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(made.init, jax.random.key(0))))
        usual = model.make_model(config.preset(config.Config()), BUNDLE * width(True))
        other = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(usual.init, jax.random.key(0))))
        assert abs(count / other - 1) < 0.01
        architectures = model.make_architectures(wanted, BUNDLE * width(True))
        embeddings = wanted.embedding * len(model.SYMBOLS)
        assert sum(map(model.count, architectures)) + embeddings == count

    @pytest.mark.parametrize("name", ["blstm", "dnn"])
    def test_the_figures_of_batches_do_not_depend_on_padding(self, name):
        settings = dataclasses.replace(SMALL, model=name)
        statistics = Statistics.of(PHRASES)
        made = model.make_model(settings, BUNDLE * width(True))
        params = made.init(jax.random.key(1))
        alone = [task.make_batches(settings, [phrase], statistics, 1) for phrase in PHRASES]
        together = task.make_batches(dataclasses.replace(settings, batch_steps=500), PHRASES, statistics, 1)

        def total(batches):
            found = {}
            for batch in batches:
                for key, mean in task.figures(settings, statistics, made, params, batch, None).items():
                    found[key] = found[key].merge(mean) if key in found else mean
            return {key: float(mean.compute()) for key, mean in found.items()}

        (whole,) = together.once()
        expected = total([batch for batches in alone for batch in batches.once()])
        for key, value in total([whole]).items():
            assert value == pytest.approx(expected[key], rel=1e-4), key


@pytest.mark.parametrize("longest", [5, 12, 30, 1000])
def test_pieces_are_all_of_a_phrase_and_none_is_much_too_long(longest):
    steps = PHRASES[3].phrase.steps
    found = task.pieces(steps, longest)
    assert [place for piece in found for place in range(len(steps))[piece]] == list(range(len(steps)))
    assert all(sum(steps[piece]) < longest + 2 * max(steps) for piece in found)
    whole, cut = (
        task.make_batches(dataclasses.replace(SMALL, longest=size), PHRASES, Statistics.of(PHRASES))
        for size in (1000, longest)
    )
    one, other = (np.sort(np.concatenate(each.targets), axis=0) for each in (whole, cut))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dynamics", [True, False])
def test_targets_stand_for_the_speech_that_they_were_made_of(dynamics):
    statistics = Statistics.of(PHRASES)
    speech = PHRASES[2].speech
    outputs = data.targets(speech, statistics, dynamics)
    assert outputs.shape == (sum(PHRASES[2].phrase.steps), BUNDLE * width(dynamics))
    outputs.reshape(-1, width(dynamics))[:, -1] -= 0.5  # from 0 and 1 to logits
    found = data.speech_of(outputs, statistics, dynamics)
    for one, other in zip(found, speech, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_distances_are_those_of_their_definitions():
    same = evaluation.distances(PHRASES, [each.speech for each in PHRASES])
    assert (same["mcd_db"], same["f0_rmse_hz"], same["vuv_error"], same["bap_db"]) == (0, 0, 0, 0)
    moved = [
        each.speech._replace(
            mel_cepstrum=each.speech.mel_cepstrum + np.eye(COEFFICIENTS)[5] * 0.5 + np.eye(COEFFICIENTS)[0],
            aperiodicity=each.speech.aperiodicity - 2,
            log_f0=np.log(np.exp(each.speech.log_f0) + 7),
            voiced=~each.speech.voiced if number == 0 else each.speech.voiced,
        )
        for number, each in enumerate(PHRASES)
    ]
    found = evaluation.distances(PHRASES, moved)
    assert found["mcd_db"] == pytest.approx(10 / np.log(10) * np.sqrt(2) * 0.5, rel=1e-4)
    assert found["f0_rmse_hz"] == pytest.approx(7, rel=1e-3)
    assert found["bap_db"] == pytest.approx(2, rel=1e-4)
    frames = [BUNDLE * sum(each.phrase.steps[1:-1]) for each in PHRASES]
    assert found["vuv_error"] == pytest.approx(frames[0] / sum(frames))


def test_livelier_speech_varies_as_natural_speech_does():
    statistics = Statistics.of(PHRASES)
    flat = PHRASES[3].speech._replace(mel_cepstrum=PHRASES[3].speech.mel_cepstrum * np.float32(0.7))
    found = synthesis.livelier(flat, statistics).mel_cepstrum
    np.testing.assert_allclose(
        found[:, 1:].std(axis=0), np.array(statistics.spread)[1:COEFFICIENTS], rtol=1e-3
    )
    np.testing.assert_allclose(found[:, 0], flat.mel_cepstrum[:, 0], rtol=1e-5)


def test_speech_goes_through_the_vocoder(tmp_path):
    pytest.importorskip("pyworld")
    pytest.importorskip("pysptk")
    from experiments.speech_synthesis import vocoder  # noqa: PLC0415

    time = np.arange(16_000) / 16_000
    wave = sum(np.sin(2 * np.pi * 200 * k * time) / k for k in range(1, 20)) * 0.1
    wave[8000:] = np.random.default_rng(0).normal(0, 0.01, 8000)
    speech = vocoder.cached(wave.astype(np.float32), tmp_path)
    assert len(speech.log_f0) == 200
    assert speech.voiced[10:90].all()
    assert not speech.voiced[110:190].any()
    np.testing.assert_allclose(np.exp(speech.log_f0[10:90]), 200, rtol=0.02)
    again = vocoder.cached(wave.astype(np.float32), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    for one, other in zip(speech, again, strict=True):
        np.testing.assert_array_equal(one, other)
    sound = vocoder.synthesise(speech)
    level = [np.sqrt(np.mean(each[1600:6400] ** 2)) for each in (wave, sound)]
    assert level[1] == pytest.approx(level[0], rel=0.3)


def test_a_run_learns_and_what_it_keeps_can_speak(tmp_path):
    for name in ("pyworld", "pysptk", "phonemizer", "espeakng_loader"):
        pytest.importorskip(name)
    try:
        datasets.load("asterisk-en")
    except DataError as error:
        pytest.skip(str(error))
    assert program.main(["speech_synthesis", "--quick", "--runs", str(tmp_path)]) == 0
    (path,) = (tmp_path / "speech_synthesis").iterdir()
    run = Run.open(path)
    figures = run.figures()
    assert {"test_mcd_db", "test_f0_rmse_hz", "test_vuv_error", "test_bap_db"} <= figures.keys()
    assert np.isfinite(list(figures.values())).all()
    assert (path / "spectrograms.jpg").is_file()
    assert len(list(path.glob("*.wav"))) == 2 * 3
    assert json.loads((path / "model" / task.STATISTICS).read_text())["mean"]

    said = tmp_path / "said.wav"
    command = ["speech_synthesis", "say", "--run", str(path), "--out", str(said)]
    assert program.main([*command, "One, two?"]) == 0
    samples, rate = soundfile.read(said)
    assert rate == 16_000
    assert len(samples) > 8000
    assert program.main([*command, "?"]) == 1
    assert program.main([*command, "--rate", "0", "one"]) == 1
    assert_finished_run_resumes(run, tmp_path, 20)


def test_durations_are_those_that_a_phrase_is_said_with():
    settings = SMALL
    made = model.make_model(settings, BUNDLE * width(True))
    saved = task.Saved(settings, made, made.init(jax.random.key(0)), Statistics.of(PHRASES))
    phrase = PHRASES[1].phrase
    found = task.durations(saved, describe(phrase.phones, phrase.end))
    assert found.shape == (len(phrase.phones),)
    slow, fast = (synthesis.timed(saved, phrase, rate).steps for rate in (0.25, 1.0))
    assert slow[0] == fast[0] == phrase.steps[0]
    assert sum(slow[1:-1]) > 2 * sum(fast[1:-1])
    speech = task.speak(saved, describe(phrase.phones, phrase.end), fast)
    assert len(speech.log_f0) == BUNDLE * sum(fast)
