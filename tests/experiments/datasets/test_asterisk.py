"""Prompts as they are read, and their split by families."""

import io
import zipfile

import numpy as np
import pytest
import soundfile

from experiments import datasets
from experiments.datasets import DataError, asterisk
from experiments.datasets.asterisk import Prompt


def archive(path, transcripts, rate=16_000):
    samples = np.arange(-50, 50) / 32768
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("transcripts.tsv", "".join(f"{name}\t{text}\n" for name, text in transcripts.items()))
        for name in transcripts:
            stream = io.BytesIO()
            soundfile.write(stream, samples, rate, format="flac", subtype="PCM_16")
            file.writestr(f"{name}.flac", stream.getvalue())
    return path, samples.astype(np.float32)


def test_prompts_are_read_in_order_of_names_and_without_silences(tmp_path):
    path, samples = archive(tmp_path / "a.zip", {"b": "Hello.", "a": "One two", "silence_1": "(silence)"})
    found = asterisk.read(path)
    assert [each[:2] for each in found] == [("a", "One two"), ("b", "Hello.")]
    np.testing.assert_array_equal(found[0].samples, samples)


def test_what_is_no_such_archive_is_named(tmp_path):
    path, _ = archive(tmp_path / "a.zip", {"a": "one"}, rate=8000)
    with pytest.raises(DataError, match=r"a.zip, a.flac cannot be read: it is not mono at 16000 Hz"):
        asterisk.read(path)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("transcripts.tsv", "a\tone\n")
    with pytest.raises(DataError, match=r"b.zip, line 1 .* cannot be read: it lacks a.flac"):
        asterisk.read(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        file.writestr("transcripts.tsv", "a one\n")
    with pytest.raises(DataError, match=r"line 1 of transcripts.tsv"):
        asterisk.read(tmp_path / "c.zip")
    (tmp_path / "d.zip").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"d.zip cannot be read"):
        asterisk.read(tmp_path / "d.zip")


def test_families_are_what_shares_phrases_and_what_that_shares():
    texts = [
        "please press one for more options",
        "Press one for more, [or not]",
        "goodbye",
        "Goodbye!",
        "press star",
        "press one for more and press two for less",
        "press two for less",
    ]
    assert asterisk.families(texts) == [0, 0, 2, 2, 4, 0, 0]


def test_no_family_is_in_two_splits():
    texts = [f"this{number // 2} that{number // 2}" for number in range(200)]
    prompts = [Prompt(f"p{number:03}", text, np.zeros(1000)) for number, text in enumerate(texts)]
    parts = asterisk.split(prompts)
    assert sum(map(len, parts)) == 200
    assert [round(len(part) / 200, 1) for part in parts] == [0.8, 0.1, 0.1]
    owners = {}
    for part, own in enumerate(parts):
        for prompt in own:
            assert owners.setdefault(prompt.text, part) == part


def test_the_published_prompts_are_split_as_stated():
    try:
        parts = datasets.load("asterisk-en")
    except DataError as error:
        pytest.skip(str(error))
    assert [len(part) for part in parts] == [399, 70, 81]
    minutes = [sum(len(each.samples) for each in part) / 16_000 / 60 for part in parts]
    assert [round(each, 1) for each in minutes] == [19.3, 1.9, 2.9]
    long = [[each.text for each in part if len(asterisk.words(each.text)) > 2] for part in parts]
    train = set().union(*map(asterisk.trigrams, long[0]))
    test = [gram for text in long[2] for gram in asterisk.trigrams(text)]
    assert round(np.mean([gram in train for gram in test]), 2) == 0.08
