"""Files of data sets and of users, damaged in many ways and made to harm: one line, in time, in bounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.datasets import DataError, files
from experiments.datasets.files import DataFile

SCRIPT = Path(__file__).with_name("hostile.py")
REPOSITORY = Path(__file__).parents[3]
FEW = 20
MANY = int(os.environ.get("LSTMJAX_FAULTS", "500"))
"""Mutations for each parser under `make test-faults`; 10,000 take an hour."""


def found(count):
    """The failures of each parser, met by a process of its own, so that a crash is one of them."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(count)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return {name: failures for name, failures in json.loads(done.stdout).items() if failures}


def test_damaged_files_give_one_line():
    assert found(FEW) == {}


@pytest.mark.faults
def test_files_damaged_in_many_ways_give_one_line():
    assert found(MANY) == {}


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch):
    def none(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", none)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(files.VARIABLE, raising=False)
    with pytest.raises(DataError, match=r"no home folder.*set LSTMJAX_DATA.*XDG_CACHE_HOME"):
        files.data_folder()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    (tmp_path / "letters").mkdir()
    os.mkfifo(tmp_path / "letters" / "a.txt")
    with pytest.raises(DataError, match=r"a.txt cannot be read: it is a pipe or a device"):
        files.fetch(DataFile("letters", "a.txt", "https://example.org", "0" * 64), tmp_path)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with files.atomic_write(path) as one, files.atomic_write(path) as other:
        one.write(b"one" * 9)
        other.write(b"other")
    assert path.read_bytes() == b"one" * 9
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_parsers_get_the_file_and_the_place_and_those_of_ours_pass():
    def read(error):
        with files.reading("a.txt") as place:
            place.text = "line 2"
            raise error

    with pytest.raises(DataError, match=r"^a.txt, line 2 cannot be read: odd\. "):
        read(ValueError("odd"))
    with pytest.raises(TypeError, match="a fault of our own"):
        read(TypeError("a fault of our own"))
