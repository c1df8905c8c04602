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
