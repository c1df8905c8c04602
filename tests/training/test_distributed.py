"""Several processes that do one run, on the loopback interface: real ones, ended as hosts are."""

import math
import signal
import socket

import numpy as np
import pytest
from test_faults import content, end, run_in, start, wait_for

from lstmjax import training
from lstmjax.training import distributed
from lstmjax.training.record import Run


def start_all(folder, count, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    shared = ("--distributed", "--coordinator", coordinator, "--processes", count)
    return [start(folder, *shared, "--process", number, *flags) for number in range(count)]


def run_all(folder, count, *flags):
    ended = [end(process) for process in start_all(folder, count, *flags)]
    assert [each.status for each in ended] == [0] * count, ended
    return content(run_in(folder))


def wait_for_checkpoint(processes, folder):
    wait_for(processes[0], lambda: list(folder.glob("faulty/*/checkpoints/step-00000010.*")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("two"), 2)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.full)])
def test_processes_do_what_one_does(tmp_path, whole, count):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    assert end(start(alone)).status == 0
    want = content(run_in(alone))
    got = whole if count == 2 else run_all(together, count)
    assert [entry[:2] for entry in got[0]] == [entry[:2] for entry in want[0]]
    for (*_, ours), (*_, theirs) in zip(got[0], want[0], strict=True):
        for name, value in theirs.items():
            assert math.isclose(ours[name], value, rel_tol=1e-5), name
    assert got[1] == pytest.approx(want[1], rel=1e-5)


@pytest.mark.full
def test_a_signal_to_one_ends_all_and_the_run_goes_on(tmp_path, whole):
    processes = start_all(tmp_path, 2)
    wait_for_checkpoint(processes, tmp_path)
    processes[1].send_signal(signal.SIGTERM)
    ended = [end(process) for process in processes]
    assert [each.status for each in ended] == [143, 143], ended
    path = run_in(tmp_path)
    assert f"--resume {path} goes on" in ended[0].errors
    assert "--resume" not in ended[1].errors
    assert len(Run.open(path).metrics()) < len(whole[0])
    assert run_all(tmp_path, 2, "--resume", path) == whole


@pytest.mark.full
@pytest.mark.parametrize("killed", [0, 1])
def test_if_one_is_killed_the_others_end_and_the_run_goes_on(tmp_path, whole, killed):
    processes = start_all(tmp_path, 2)
    wait_for_checkpoint(processes, tmp_path)
    processes[killed].kill()
    other = end(processes[1 - killed])
    assert other.status not in (0, None)
    assert other.seconds < distributed.HEARTBEAT_SECONDS + 10
    if other.status == 1:
        assert "another process of the run has ended" in other.errors
        assert "Traceback" not in other.errors
    else:  # the service of JAX was sooner, which ends those that have lost the first
        assert killed == 0
        assert "distributed service" in other.errors
    assert end(processes[killed]).status == -signal.SIGKILL
    assert run_all(tmp_path, 2, "--resume", run_in(tmp_path)) == whole


def test_one_process_needs_no_other():
    assert distributed.count() == 1
    assert distributed.is_first()
    assert distributed.largest(7) == 7
    tree = {"weights": np.ones(2)}
    assert distributed.gathered(tree) is tree
    distributed.end_if_lost(ValueError("UNKNOWN: this would be it"))


def test_processes_that_cannot_be_connected_are_told_what_to_give():
    with pytest.raises(training.ConfigError, match="--coordinator HOST:PORT, --processes N and --process I"):
        distributed.initialize("127.0.0.1:1", None, None)
