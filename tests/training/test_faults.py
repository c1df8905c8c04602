"""Processes that train are ended in all ways, and go on as if they had not been: the same bits."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from lstmjax.training.record import Run

SCRIPT = Path(__file__).with_name("faulty.py")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    errors: str
    seconds: float


def start(folder, *flags):
    command = [sys.executable, str(SCRIPT), str(folder), *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process, number=None):
    began = time.monotonic()
    if number is not None:
        process.send_signal(number)
    _, errors = process.communicate(timeout=90)
    return Ended(process.returncode, errors, time.monotonic() - began)


def wait_for(process, condition):
    for _ in range(3000):
        found = condition()
        if found:
            return found
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError("it never came")


def reach(process, folder, stage):
    """Wait until a process waits in a stage."""
    wait_for(process, (folder / f"{stage}.reached").exists)
    for name in (stage, f"{stage}.reached"):
        (folder / name).unlink()


def run_in(folder):
    (path,) = (folder / "faulty").iterdir()
    return path


def content(path):
    """What two runs must have in common, to the bit."""
    run = Run.open(path)
    logged = [(entry.step, entry.kind, entry.metrics) for entry in run.metrics()]
    return logged, run.figures(), (path / "model" / "parameters.safetensors").read_bytes()


def leftovers(path):
    return [file for file in path.rglob("*") if file.name.endswith((".tmp", ".part"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended = end(start(folder))
    assert ended.status == 0, ended.errors
    return content(run_in(folder))


def test_a_run_ended_by_signals_and_kills_is_the_same_as_one_that_was_not(tmp_path, whole):
    (tmp_path / "evaluate").touch()
    process = start(tmp_path)
    reach(process, tmp_path, "evaluate")
    (tmp_path / "batch").touch()
    path = run_in(tmp_path)
    other = end(start(tmp_path, "--resume", path))
    assert other.status == 1
    assert f"{path} is in use: process {process.pid} on " in other.errors
    ended = end(process, signal.SIGTERM)  # in the first evaluation, which is then done again
    assert (ended.status, ended.seconds < 10) == (143, True), ended
    assert "ended by SIGTERM after step 7; its state is saved" in ended.errors
    assert f"--resume {path} goes on" in ended.errors

    process = start(tmp_path, "--resume", path)
    reach(process, tmp_path, "batch")  # of step 34: a signal is held back
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    ended = end(process, signal.SIGINT)  # a second one ends it at once
    assert (ended.status, ended.seconds < 3) == (129, True), ended

    (tmp_path / "final").touch()
    process = start(tmp_path, "--resume", path)
    reach(process, tmp_path, "final")
    (path / "checkpoints" / ".step-00000060.safetensors.1.tmp").touch()
    assert end(process, signal.SIGKILL).status == -9
    ended = end(start(tmp_path, "--resume", path))
    assert ended.status == 0, ended.errors
    assert content(path) == whole
    assert not leftovers(path)


def test_a_signal_before_there_is_anything_to_save_ends_the_process_and_promises_nothing(tmp_path):
    (tmp_path / "data").touch()
    process = start(tmp_path)
    reach(process, tmp_path, "data")
    ended = end(process, signal.SIGTERM)
    assert (ended.status, ended.errors) == (143, "faulty: ended by SIGTERM\n")
    assert ended.seconds < 10


def test_a_checkpoint_of_another_config_is_refused(tmp_path, whole):
    (tmp_path / "batch").touch()
    process = start(tmp_path)
    reach(process, tmp_path, "batch")
    path = run_in(tmp_path)
    assert end(process, signal.SIGKILL).status == -9
    config = path / "config.json"
    config.write_text(config.read_text().replace('"learning_rate": 0.01', '"learning_rate": 0.02'))
    ended = end(start(tmp_path, "--resume", path))
    assert ended.status == 1
    assert "is of another run, or of another config of this one" in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.faults
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("attempt", range(20))
def test_signals_at_random_times(tmp_path, whole, number, attempt):
    delay = random.Random(f"{number} {attempt}").uniform(0, 6)
    process = start(tmp_path)
    time.sleep(delay)
    ended = end(process, number)
    paths = list(tmp_path.glob("faulty/*/config.json"))
    if ended.status == 0:
        assert content(run_in(tmp_path)) == whole
        return
    assert ended.seconds < 10
    if ended.status != 128 + number:  # in its first moments Python itself treats signals, in its own way
        assert not paths, ended
        assert ended.status == -number or "KeyboardInterrupt" in ended.errors, ended
        assert "import jax" not in ended.errors, ended
        return
    assert "Traceback" not in ended.errors
    if paths:
        again = end(start(tmp_path, "--resume", run_in(tmp_path)))
        assert again.status == 0, again.errors
        assert content(run_in(tmp_path)) == whole
        assert not leftovers(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("attempt", range(20))
def test_of_two_processes_one_trains(tmp_path, whole, attempt):
    (tmp_path / "batch").touch()
    process = start(tmp_path)
    reach(process, tmp_path, "batch")
    path = run_in(tmp_path)
    end(process, signal.SIGKILL)
    both = [start(tmp_path, "--resume", path) for _ in range(2)]
    ended = [end(each) for each in both]
    # One may be so late that the other has finished, which it then says.
    assert ended[0].status == 0 or ended[1].status == 0, ended
    for each in ended:
        assert each.status == 0 or (each.status == 1 and "is in use: " in each.errors), each
    assert content(path) == whole


@pytest.mark.faults
@pytest.mark.parametrize("attempt", range(50))
def test_kills_at_random_times(tmp_path, whole, attempt):
    chance = random.Random(attempt)
    process = start(tmp_path)
    if attempt < 15:  # during a save
        wait_for(
            process,
            lambda: list(tmp_path.rglob(".*.tmp")) or process.poll() is not None or chance.random() < 0.001,
        )
    else:
        time.sleep(chance.uniform(0, 7))
    ended = end(process, signal.SIGKILL)
    if ended.status == 0:
        return
    again = None
    for path in tmp_path.glob("faulty/*"):
        again = end(start(tmp_path, "--resume", path))
        if not (path / "config.json").exists():
            assert (again.status, "killed before it began" in again.errors) == (1, True)
            return
        assert again.status == 0, again.errors
        assert content(path) == whole
        assert not leftovers(path)
