"""People's own sound files: read whatever their form, or refused in one clear line."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile
from scipy import signal

from experiments import __main__ as program
from experiments import datasets
from experiments.common import mapped, models
from experiments.datasets import DataError
from experiments.speech_recognition import sound
from experiments.speech_recognition.commands import KEPT
from experiments.speech_recognition.config import Config, preset
from experiments.speech_recognition.model import make_model
from experiments.speech_recognition.recognition import transcribe
from experiments.speech_recognition.task import Saved, initial_params, load_model, make_architecture
from lstmjax import training
from lstmjax.training.record import load_records


def tone(rate, seconds=0.5, hertz=440):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_a_sound_is_the_same_in_any_form(tmp_path, rate, kind):
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, np.stack([tone(rate)] * 2, axis=1), rate)
    found = sound.read(path)
    assert found.samples.dtype == np.float32
    assert found.remarks == ()
    assert abs(len(found.samples) - 4000) <= 1
    middle = slice(500, 3500)
    np.testing.assert_allclose(found.samples[middle], tone(8000)[middle], atol=0.01)


def test_what_is_above_half_the_rate_is_taken_away(tmp_path):
    soundfile.write(tmp_path / "high.wav", tone(48000, hertz=7000), 48000)
    assert np.abs(sound.read(tmp_path / "high.wav").samples[500:3500]).max() < 0.01


def test_what_may_spoil_the_recognition_is_told(tmp_path):
    samples = {"silent": np.zeros(8000), "clipped": np.clip(9 * tone(8000), -1, 1), "low": tone(4000)}
    for name, values in samples.items():
        soundfile.write(tmp_path / f"{name}.wav", values, 4000 if name == "low" else 8000)
    for name, words in (("silent", "nothing is louder"), ("clipped", "quieter"), ("low", "above 2000 Hz")):
        (remark,) = sound.read(tmp_path / f"{name}.wav").remarks
        assert words in remark


def broken_files(folder):
    soundfile.write(folder / "empty.wav", np.zeros(0), 8000)
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan]), 8000, subtype="FLOAT")
    soundfile.write(folder / "long.wav", np.zeros(601 * 1000), 1000)
    return {
        "empty.wav": "no samples",
        "nothing.wav": "cannot be read",
        "text.wav": "cannot be read",
        "nan.wav": "no numbers",
        "long.wav": "601 s of sound",
        "absent.wav": "cannot be read",
    }


def test_a_file_without_sound_is_refused_by_name(tmp_path):
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(DataError, match=rf"{name}.* {reason}"):
            sound.read(tmp_path / name)


@functools.cache
def untrained():
    config = Config(dataset="strings", hidden=4)
    model = make_model(make_architecture(config))
    return Saved(config, model, jax.jit(model.init)(jax.random.key(0)))


def test_nothing_is_heard_where_nothing_can_be():
    for samples in (np.zeros(0), np.zeros((0, 2)), tone(8000)[:199], np.zeros(8000), 1e-4 * tone(8000)):
        assert transcribe(untrained(), samples, 8000) == ""


needs_model = pytest.mark.skipif(
    not any(record.label == KEPT and record.model for record in load_records(models.RESULTS)),
    reason="no network is kept",
)


@needs_model
def test_the_kept_network_recognises_recordings_of_the_test(real_data, tmp_path, capsys):
    test = datasets.load("spoken-digits", real_data).test
    own = [each for each in test if each.speaker == "jackson" and each.number == 1]
    silence = np.zeros(1600, np.float32)
    said = np.concatenate([piece for each in own[:4] for piece in (silence, each.samples)])
    stereo = np.stack([signal.resample_poly(said, 441, 80)] * 2, axis=1)
    soundfile.write(tmp_path / "said.flac", stereo, 44100)
    soundfile.write(tmp_path / "silent.wav", np.zeros(9000), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    files = [str(tmp_path / name) for name in ("said.flac", "text.wav", "silent.wav")]
    assert program.main(["speech_recognition", "recognise", *files]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{files[0]}\t0123\tzero one two three", f"{files[2]}\t-\t(nothing)"]
    assert "text.wav cannot be read" in captured.err
    assert "silent.wav: silent" in captured.err


@needs_model
def test_the_kept_network_recognises_most_single_digits(real_data):
    saved = load_model(models.kept("speech_recognition", KEPT))
    test = datasets.load("spoken-digits", real_data).test[::6]
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    right = [transcribe(saved, each.samples, 8000) == words[each.digit] for each in test]
    assert np.mean(right) >= 0.8


@needs_model
def test_a_decoder_with_attention_starts_with_the_layers_of_the_kept_network():
    config = preset(Config(dataset="strings", model="las"))
    model = make_model(make_architecture(config))
    task = SimpleNamespace(init=mapped.init(model, 1))
    found, kept = initial_params(config, task), load_model(models.kept("speech_recognition", KEPT)).params
    assert found.keys() - kept.keys() == {"attention", "decoder", "embedding", "spell"}
    jax.tree.map(
        lambda own, other: np.testing.assert_array_equal(own[0], other), found["layers"], kept["layers"]
    )
    with pytest.raises(training.ConfigError, match="cannot start"):
        initial_params(dataclasses.replace(config, hidden=8), task)


def test_recognise_says_what_is_missing(capsys):
    assert program.main(["speech_recognition", "recognise", "--model", "none", "a.wav"]) == 1
    assert "no model of speech_recognition is kept under the label none" in capsys.readouterr().err
    assert program.main(["speech_recognition", "recognise", "--beams", "0", "a.wav"]) == 1
    assert "beams must be at least 1" in capsys.readouterr().err
