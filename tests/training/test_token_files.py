"""Token streams of files: the windows of arrays, in little memory, and each process its own rows."""

import subprocess
import sys
from collections import namedtuple

import jax
import numpy as np
import pytest

from lstmjax.training import distributed
from lstmjax.training.streams import TokenFile, TokenStream, VariableTokenStream, WindowLengths

STREAMS = {
    "fixed": lambda tokens, **more: TokenStream(tokens, batch_size=4, time=5, **more),
    "variable": lambda tokens, **more: VariableTokenStream(tokens, 4, WindowLengths(20), **more),
}


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "tokens.npy", np.random.default_rng(0).integers(0, 50_000, 1001).astype(np.uint16))
    return tmp_path / "tokens.npy"


@pytest.mark.parametrize("kind", STREAMS)
def test_a_file_gives_the_windows_of_an_array(kind, path):
    ours, theirs = STREAMS[kind](TokenFile(path)), STREAMS[kind](np.load(path))
    assert ours.steps_per_epoch == theirs.steps_per_epoch
    for step in (0, 1, 7, 60, 200):
        jax.tree.map(np.testing.assert_array_equal, ours.at(1, step), theirs.at(1, step))


def test_slices_are_those_of_an_array(path):
    tokens, array = TokenFile(path), np.load(path)
    for chosen in (slice(3, 9), slice(None), slice(990, 2000), slice(9, 3), slice(-5, None)):
        np.testing.assert_array_equal(tokens[chosen], array[chosen])
    with pytest.raises(ValueError, match="consecutive tokens, got step 2"):
        tokens[::2]
    np.save(path, np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"must have a vector, got shape \(2, 2\)"):
        TokenFile(path)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_process_reads_its_own_rows(kind, path):
    whole, own = STREAMS[kind](TokenFile(path)), STREAMS[kind](TokenFile(path), own=slice(2, 4))
    for step in (0, 3):
        want, got = whole.at(1, step), own.at(1, step)
        for name in ("inputs", "targets", "lengths"):
            np.testing.assert_array_equal(getattr(got, name)[2:], getattr(want, name)[2:])
            assert not getattr(got, name)[:2].any()
        assert got.first == want.first


def test_rows_are_those_of_the_devices_of_a_process(monkeypatch):
    device = namedtuple("Device", "process_index")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: [device(0), device(0), device(1), device(1)])
    found = {}
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found[process] = [distributed.own_rows(batch) for batch in (8, 6)]
    assert found == {0: [slice(0, 4), slice(None)], 1: [slice(4, 8), slice(None)]}


PEAK = """
import re
def peak():  # unlike ru_maxrss, not that of the process which started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""

PASS = """
import sys
from lstmjax.training.streams import TokenFile, TokenStream
stream = TokenStream(TokenFile(sys.argv[1]), batch_size=20, time=20_000)
stream.at(0, 0)
before = peak()
total = sum(int(stream.at(0, step).targets.max()) for step in range(stream.steps_per_epoch))
print(total, peak() - before)
"""

TRAIN = """
import sys
from experiments.__main__ import main
assert main(sys.argv[1:]) == 0
print(peak())
"""


def write_tokens(path, count, vocabulary=10_000):
    """A file of random tokens, int32, written piece by piece."""
    tokens = np.lib.format.open_memmap(path, "w+", np.int32, (count,))
    random = np.random.default_rng(0)
    for start in range(0, count, 2**22):
        part = tokens[start : start + 2**22]
        part[:] = random.integers(0, vocabulary, len(part))
    tokens.flush()


@pytest.mark.skipif(sys.platform != "linux", reason="it has no /proc")
def test_an_epoch_of_a_large_file_takes_little_memory(tmp_path):
    write_tokens(tmp_path / "tokens.npy", 50 * 2**20)  # 200 MiB
    command = [sys.executable, "-c", PEAK + PASS, str(tmp_path / "tokens.npy")]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    total, kibibytes = map(int, ended.stdout.split())
    assert total > 100 * 9_900
    assert kibibytes < 40 * 2**10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it has no /proc")
def test_two_gigabytes_train_in_less(tmp_path):
    for name, count in (("train", 2**29), ("valid", 5_000), ("test", 5_000)):  # 2 GiB
        write_tokens(tmp_path / f"{name}.npy", count)
    words = ", ".join(f'"{number}"' for number in range(9_999))
    (tmp_path / "vocabulary.json").write_text(f'[{words}, "<eos>"]')
    flags = ("--corpus", str(tmp_path), "--epochs", "0", "--train.steps", "200", "--samples", "0")
    arguments = ["language_modeling", "--dataset", "file", *flags, "--runs", str(tmp_path)]
    command = [sys.executable, "-c", PEAK + TRAIN, *arguments]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert int(ended.stdout.splitlines()[-1]) < 1.5 * 2**20
    assert "steps 200" in ended.stdout
