"""Memory that is kept: seen in the size of a process that has freed a large array."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from lstmjax.training import parallel

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "kept":
    assert parallel.keep_memory()
before = resident()

def compute():
    array = np.ones(25_000_000)
    del array

if sys.argv[2] == "another":  # as the threads of XLA
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
else:
    compute()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize("thread", ["first", "another"])
def test_freed_memory_is_kept_only_when_asked_for(thread):
    def grown(how):
        program = [sys.executable, "-c", PROGRAM, how, thread]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    assert grown("kept") > 190_000_000
    assert grown("returned") < 50_000_000


ALL_THREADS = """
import runpy, sys, threading
try:
    sys.argv = ["experiments"]
    runpy.run_module("experiments", run_name="__main__")
except SystemExit:
    pass
import numpy as np
from lstmjax.training import parallel

assert parallel.keep_memory()
turn, found = threading.Barrier(4), []

def compute():
    turn.wait()
    array = np.ones(100_000_000, np.int8)
    turn.wait()
    with open("/proc/self/maps") as file:
        parts = [line.split()[0].split("-") for line in file if "[heap]" in line]
    found.append(any(int(begin, 16) <= array.ctypes.data < int(end, 16) for begin, end in parts))

threads = [threading.Thread(target=compute) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(found)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_arrays_of_all_threads_of_an_experiment_are_in_the_one_heap_that_is_kept():
    """Also beside the thread that waits for signals: in a heap of its own, each would be mapped anew."""
    program = [sys.executable, "-c", ALL_THREADS]
    lines = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[-1] == str([True] * 4)
