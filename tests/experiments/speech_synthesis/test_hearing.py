"""The closed loop: what is said to the recogniser, and how its answers are read."""

import subprocess

import numpy as np
import pytest
import soundfile

from experiments.datasets import DataError
from experiments.datasets.asterisk import Prompt

hearing = pytest.importorskip("experiments.speech_synthesis.hearing", reason="jiwer", exc_type=ImportError)


def test_every_digit_and_random_strings_are_said():
    said = hearing.strings(20, seed=3)
    assert said[:10] == list("0123456789")
    assert all(3 <= len(digits) <= 7 for digits in said[10:])
    assert len(said) == 30
    assert hearing.strings(20, seed=3) == said
    assert hearing.words("907") == "nine, zero, seven"


def test_recordings_are_joined_with_pauses(tmp_path):
    prompts = [Prompt(f"digits_{digit}", str(digit), np.full(10, digit / 10)) for digit in range(10)]
    (file,) = hearing.write(hearing.recorded(prompts), ["73"], tmp_path)
    samples, rate = soundfile.read(file)
    assert (file.name, rate, len(samples)) == ("000-73.wav", 16_000, 2 * (10 + hearing.GAP))
    np.testing.assert_allclose(samples[np.abs(samples) > 0.01], [0.7] * 10 + [0.3] * 10, atol=1e-4)


def test_answers_are_the_digits_of_lines():
    text = "a remark\na.wav\t12\tone two\nb.wav\t-\t(nothing)\n"
    assert hearing.parsed(text, 2) == ["12", ""]
    with pytest.raises(DataError, match="answered 2 of 3 files"):
        hearing.parsed(text, 3)


def test_the_error_counts_wrong_missing_and_additional_digits():
    assert hearing.error(["123", "4"], ["123", "4"]) == 0
    assert hearing.error(["123", "4"], ["13", "45"]) == 2 / 4
    assert hearing.error(["123"], [""]) == 1


def test_a_recogniser_that_fails_is_told_in_one_line(monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "a remark\nspeech_recognition: no model is kept\n")
    monkeypatch.setattr(hearing.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DataError, match="the recogniser failed: speech_recognition: no model is kept"):
        hearing.heard(["a.wav"])
